//! Lines of an import.

use std::{io::BufReader, time::Duration};

use freehold_core::limits::{TTL_MAX, TTL_MIN};

use crate::program::ndjson::{LINE_BYTES_MAX, parse, read_line, write};

/// Smaller than most lines, so that they are put together from several.
const BUFFER_BYTES: usize = 16;

/// Gives the lines to whoever reads imports.
///
/// # Panics
/// If bytes get lost, or a record is not what comes out again.
pub fn check(bytes: &[u8]) {
    let (mut line, mut read) = (Vec::new(), 0);
    let mut input = BufReader::with_capacity(BUFFER_BYTES, bytes);
    loop {
        line.clear();
        let Ok(length) = read_line(&mut input, &mut line, LINE_BYTES_MAX) else {
            unreachable!("bytes in memory are always there");
        };
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        assert_eq!(line, bytes[read..read + length]);
        read += length;
        if length == 0 {
            break;
        }
        record(line.trim_ascii());
    }
    assert_eq!(read, bytes.len());
}

fn record(line: &[u8]) {
    let mut record = match parse(line) {
        Ok(record) => record,
        Err(words) => {
            assert!(!words.is_empty());
            // They are printed, for every line that is wrong.
            assert!(words.len() < 2 * line.len() + 300, "{words}");
            return;
        }
    };
    if let Some(ttl) = &mut record.ttl {
        assert!((TTL_MIN..=TTL_MAX).contains(ttl), "{ttl:?}");
        // What an export writes comes from a server, which counts in milliseconds.
        *ttl = Duration::from_millis(u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX));
    }
    let mut again = Vec::new();
    let written = write(record.key.bytes(), &record.value, record.ttl, &mut again);
    assert!(written.is_ok(), "{written:?}");
    assert_eq!(
        again.iter().position(|byte| *byte == b'\n'),
        Some(again.len() - 1)
    );
    assert_eq!(parse(again.trim_ascii()), Ok(record));
}
