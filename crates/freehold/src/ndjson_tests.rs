use std::io::BufReader;

use proptest::prelude::*;

use super::*;

fn record(key: &[u8], value: &[u8], ttl_ms: Option<u64>) -> Record {
    Record {
        key: Key::new(key.to_vec()).unwrap(),
        value: value.to_vec().into(),
        ttl: ttl_ms.map(Duration::from_millis),
    }
}

#[test]
fn a_line_has_a_key_a_value_and_perhaps_a_ttl() {
    for (line, expected) in [
        (r#"{"key":"a","value":"b"}"#, record(b"a", b"b", None)),
        (
            r#"{"key":"a","value":"","ttl":null}"#,
            record(b"a", b"", None),
        ),
        (
            r#"{"key":"a","value":"b","ttl":30}"#,
            record(b"a", b"b", Some(30_000)),
        ),
        (
            r#"{"key":"a","value":"b","ttl":29.999}"#,
            record(b"a", b"b", Some(29_999)),
        ),
        (
            r#" {"ttl":"1h30m","value":"b","key":"a"} "#,
            record(b"a", b"b", Some(5_400_000)),
        ),
        (
            r#"{"key_base64":"AP8A","value_base64":"/w=="}"#,
            record(b"\0\xff\0", b"\xff", None),
        ),
        (
            r#"{"key":"\u043a\n","value":"\u0000"}"#,
            record("к\n".as_bytes(), b"\0", None),
        ),
    ] {
        assert_eq!(parse(line.as_bytes()), Ok(expected), "{line}");
    }
}

#[test]
fn a_bad_line_says_what_is_wrong_with_it() {
    let long = format!(r#"{{"key":"{}","value":""}}"#, "x".repeat(1_025));
    for (line, words) in [
        (
            "nonsense",
            "not a line of an import: expected ident (column 2)",
        ),
        (r#"{"key":"a","value":"b""#, "EOF while parsing an object"),
        (r#"{"key":"a","value":"b"} x"#, "trailing characters"),
        (r#"{"key":"a"}"#, "value is missing"),
        (r#"{"value":"b"}"#, "key is missing"),
        (r#"{"key":"","value":"b"}"#, "key is empty"),
        (&long, "key has 1025 bytes"),
        (
            r#"{"key":"a","key_base64":"YQ==","value":""}"#,
            "key and key_base64 are both there",
        ),
        (
            r#"{"key_base64":"%","value":""}"#,
            "key_base64 is not base64",
        ),
        (
            r#"{"key":"a","value":5}"#,
            "invalid type: integer `5`, expected a string",
        ),
        (r#"{"key":"a","value":"b","tll":5}"#, "unknown field `tll`"),
        (
            r#"{"key":"a","value":"b","ttl":0}"#,
            "ttl is 0: use 1ms to 100 years",
        ),
        (r#"{"key":"a","value":"b","ttl":"soon"}"#, "ttl 'soon'"),
        (
            r#"{"key":"a","value":"b","ttl":[]}"#,
            "expected a ttl in seconds",
        ),
        (
            r#"{"key":"a","key":"b","value":""}"#,
            "duplicate field `key`",
        ),
    ] {
        let error = parse(line.as_bytes()).unwrap_err();
        assert!(error.contains(words), "{line}: {error}");
    }
}

#[test]
fn a_line_without_end_is_read_and_one_that_is_too_long_is_not_kept() {
    let mut input = BufReader::with_capacity(4, &b"0123456789\nabc"[..]);
    let mut line = Vec::new();
    assert_eq!(read_line(&mut input, &mut line, 5).unwrap(), 11);
    assert_eq!(line, b"01234");
    line.clear();
    assert_eq!(read_line(&mut input, &mut line, 5).unwrap(), 3);
    assert_eq!(line, b"abc");
    assert_eq!(read_line(&mut input, &mut line, 5).unwrap(), 0);
}

proptest! {
    /// An export can be imported, whatever the bytes and to the millisecond.
    #[test]
    fn what_is_written_is_what_is_read(
        key in prop::collection::vec(any::<u8>(), 1..40),
        value in prop::collection::vec(any::<u8>(), 0..40),
        ttl_ms in prop::option::of(1_u64..=3_155_760_000_000),
    ) {
        let expected = record(&key, &value, ttl_ms);
        let mut line = Vec::new();
        write(&key, &value, expected.ttl, &mut line).unwrap();
        prop_assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
        prop_assert_eq!(parse(&line), Ok(expected));
    }

    /// Whatever stands in a file: a record, or words that say what is wrong.
    #[test]
    fn any_line_is_a_record_or_refused(
        changes in prop::collection::vec(any::<(prop::sample::Index, u8)>(), 0..4),
        noise in prop::collection::vec(any::<u8>(), 0..60),
    ) {
        let mut line = br#"{"key":"user:1","value_base64":"AAECAw==","ttl":"1h 30m"}"#.to_vec();
        for (place, byte) in changes {
            let place = place.index(line.len());
            line[place] = byte;
        }
        for bytes in [line, noise] {
            if let Err(words) = parse(&bytes) {
                prop_assert!(!words.is_empty());
            }
        }
    }
}

#[test]
fn what_is_said_of_a_long_line_is_short() {
    let words = parse(format!("\"k{}e\"", "\u{7f}".repeat(1_000)).as_bytes()).unwrap_err();
    assert!(words.len() < 300, "{words}");
    assert!(words.contains("column"), "{words}");
}
