use proptest::prelude::*;

use super::*;

const A: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";
const B: &str = "00000000-0000-0000-0000-00000000000b";

fn mysql(text: &str) -> Position {
    Position::of_mysql(text).unwrap()
}

fn mariadb(text: &str) -> Position {
    Position::of_mariadb(text).unwrap()
}

#[test]
fn what_mysql_shows_is_read_and_shown_again() {
    for text in [
        format!("{A}:1-5"),
        format!("{A}:1-5:7:9-11"),
        format!("{B}:1,{A}:1-3"),
        format!("{A}:1-5,{A}:backup:1-2"),
    ] {
        assert_eq!(mysql(&text).to_string(), text);
        assert_eq!(Position::parse(&text), Ok(mysql(&text)));
    }
    // As the server breaks its lines, and puts a tag behind ranges without one.
    let broken = format!("{B}:1,\n{A}:1-3:4-5:backup:1");
    assert_eq!(
        mysql(&broken).to_string(),
        format!("{B}:1,{A}:1-5,{A}:backup:1")
    );
    assert!(mysql("").is_empty());
}

#[test]
fn what_mariadb_shows_is_read_and_shown_again() {
    for text in ["0-1-100", "0-2-7,1-1-18446744073709551615", ""] {
        assert_eq!(mariadb(text).to_string(), text);
        assert_eq!(Position::parse(text), Ok(mariadb(text)));
    }
    assert_eq!(mariadb("0-1-9,5-1-2").sequences(), 2);
}

#[test]
fn what_is_no_position_is_refused() {
    for text in ["x", "0-1", "0-1-2-3", "0-1-x", "-1-1-1"] {
        assert_eq!(Position::of_mariadb(text), Err(NoPosition), "{text}");
    }
    for text in [
        "x:1".to_owned(),
        A.to_owned(),
        format!("{A}:0"),
        format!("{A}:5-4"),
        format!("{A}:"),
        format!("{A}1:1"),
    ] {
        assert_eq!(Position::of_mysql(&text), Err(NoPosition), "{text}");
    }
}

#[test]
fn a_set_covers_what_it_has_and_no_gap() {
    let has = mysql(&format!("{A}:1-5:8-9,{B}:3"));
    for covered in [
        format!("{A}:1-5"),
        format!("{A}:8:2-3,{B}:3"),
        String::new(),
    ] {
        assert!(has.covers(&mysql(&covered)), "{covered}");
    }
    for missing in [
        format!("{A}:6"),
        format!("{A}:5-8"),
        format!("{A}:10"),
        format!("{B}:2-3"),
        format!("{A}:tag:1"),
    ] {
        assert!(!has.covers(&mysql(&missing)), "{missing}");
    }
    assert!(mariadb("0-2-7,1-1-1").covers(&mariadb("0-1-7")));
    assert!(!mariadb("0-2-7").covers(&mariadb("0-1-8")));
    assert!(!mariadb("0-2-7").covers(&mariadb("1-1-1")));
    assert!(!mariadb("0-2-7").covers(&mysql(&format!("{A}:1"))));
}

/// Numbers of one server, in any order and as often as it happens.
fn numbers() -> impl Strategy<Value = std::collections::BTreeSet<u64>> {
    prop::collection::btree_set(1_u64..40, 0..30)
}

fn set_of(numbers: &std::collections::BTreeSet<u64>) -> Position {
    let ranges: String = numbers.iter().map(|number| format!(":{number}")).collect();
    if ranges.is_empty() {
        return mysql("");
    }
    mysql(&format!("{A}{ranges}"))
}

#[test]
fn a_tag_is_a_word_of_mysql() {
    let uuid = "3e11fa47-71ca-11e1-9e33-c80aa9429562";
    let longest = "t".repeat(32);
    for tag in ["tag", "_9", &longest] {
        let text = format!("{uuid}:{tag}:1");
        assert_eq!(Position::of_mysql(&text).unwrap().to_string(), text);
    }
    for tag in [&format!("{longest}t"), "t-g", "t g", "täg"] {
        assert!(
            Position::of_mysql(&format!("{uuid}:{tag}:1")).is_err(),
            "{tag}"
        );
    }
}

#[test]
fn ranges_that_touch_or_are_empty_are_nobodys_encoding() {
    let decode = |tag: &[u8], ranges: &[u8]| {
        let count = u8::try_from(ranges.len() / 2).unwrap();
        let length = u8::try_from(tag.len()).unwrap();
        let bytes = [&[7; 16][..], &[length], tag, &[count], ranges].concat();
        Position::decode(1, &bytes)
    };
    assert!(decode(b"", &[1, 4, 2, 0]).is_ok() && decode(b"tag", &[1, 0]).is_ok());
    for ranges in [&[][..], &[0, 4], &[1, 4, 0, 3], &[1, 4, 1, 0]] {
        assert!(decode(b"", ranges).is_err(), "{ranges:?}");
    }
    assert!(decode(b"t:2", &[1, 0]).is_err());
}

proptest! {
    #[test]
    fn covering_is_being_a_superset(has in numbers(), wanted in numbers()) {
        prop_assert_eq!(set_of(&has).covers(&set_of(&wanted)), has.is_superset(&wanted));
        prop_assert_eq!(set_of(&has).ordinal(), has.len() as u64);
    }

    #[test]
    fn positions_survive_their_encoding(has in numbers(), domains in prop::collection::btree_map(
        any::<u32>(), (any::<u32>(), any::<u64>()), 0..5,
    )) {
        for position in [set_of(&has), Position::Mariadb(Gtids(domains))] {
            let mut bytes = Vec::new();
            position.encode(&mut bytes);
            prop_assert_eq!(Position::decode(position.kind(), &bytes), Ok(position.clone()));
            prop_assert_eq!(Position::parse(&position.to_string()), match position.is_empty() {
                true => Ok(mariadb("")),
                false => Ok(position),
            });
        }
    }

    #[test]
    fn any_bytes_are_a_position_or_none(kind in 0_u8..4, bytes: Vec<u8>) {
        let _ = Position::decode(kind, &bytes);
    }
}
