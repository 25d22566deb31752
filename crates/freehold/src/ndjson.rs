//! One key per line, as JSON: `{"key": "user:1", "value": "Ada", "ttl": 29.999}`.
//!
//! Bytes that are not UTF-8 stand in `key_base64` and `value_base64` instead. `ttl` is a number of
//! seconds or a string such as `"30s"`; without it, or with null, the key lives for ever. Any other
//! field is an error: a misspelt `ttl` would make a key immortal. What an export or `scan --json`
//! writes is what an import reads.

use std::{
    borrow::Cow,
    fmt,
    io::{self, BufRead},
    time::Duration,
};

use bytes::Bytes;
use data_encoding::BASE64;
use freehold_core::{
    Key,
    limits::{KEY_BYTES_MAX, VALUE_BYTES_MAX},
};
use serde::{Deserialize, Deserializer, Serialize, de::Visitor};

use crate::duration::{parse_ttl, seconds_of_ttl, ttl_of_seconds};

/// Bytes in a line: the largest value with each byte written as `\u0000`, and room around it.
pub(crate) const LINE_BYTES_MAX: usize = 6 * (VALUE_BYTES_MAX + KEY_BYTES_MAX) + 4_096;

/// What a line says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) key: Key,
    pub(crate) value: Bytes,
    pub(crate) ttl: Option<Duration>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Input {
    key: Option<String>,
    key_base64: Option<String>,
    value: Option<String>,
    value_base64: Option<String>,
    ttl: Option<Ttl>,
}

/// A time to live as it stands in a line. Nothing else is kept: a line may be long.
enum Ttl {
    Seconds(f64),
    Text(String),
}

impl<'de> Deserialize<'de> for Ttl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TtlVisitor)
    }
}

struct TtlVisitor;

impl Visitor<'_> for TtlVisitor {
    type Value = Ttl;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a ttl in seconds, or as a string such as \"30s\"")
    }

    fn visit_f64<E>(self, seconds: f64) -> Result<Ttl, E> {
        Ok(Ttl::Seconds(seconds))
    }

    fn visit_u64<E>(self, seconds: u64) -> Result<Ttl, E> {
        Ok(Ttl::Seconds(seconds as f64))
    }

    fn visit_i64<E>(self, seconds: i64) -> Result<Ttl, E> {
        Ok(Ttl::Seconds(seconds as f64))
    }

    fn visit_str<E>(self, text: &str) -> Result<Ttl, E> {
        Ok(Ttl::Text(text.to_owned()))
    }
}

#[derive(Serialize)]
struct Line<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_base64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value_base64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ttl: Option<f64>,
}

/// Reads up to and with the next line end, and says how many bytes that were; 0 at the end. Of a
/// line longer than `bytes_max` only so much is kept.
pub(crate) fn read_line(
    input: &mut impl BufRead,
    line: &mut Vec<u8>,
    bytes_max: usize,
) -> io::Result<u64> {
    let mut read = 0;
    loop {
        let buffer = match input.fill_buf() {
            Ok(buffer) => buffer,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let (part, ends) = match buffer.iter().position(|byte| *byte == b'\n') {
            Some(end) => (&buffer[..=end], true),
            None => (buffer, buffer.is_empty()),
        };
        let kept = part.len().min(bytes_max.saturating_sub(line.len()));
        line.extend_from_slice(&part[..kept]);
        let length = part.len();
        read += length as u64;
        input.consume(length);
        if ends {
            return Ok(read);
        }
    }
}

/// What a line says, without its end. The error says what is wrong with it.
pub(crate) fn parse(line: &[u8]) -> Result<Record, String> {
    let input: Input = serde_json::from_slice(line).map_err(|error| words(&error))?;
    let key = bytes("key", input.key, input.key_base64)?;
    Ok(Record {
        key: Key::new(key).map_err(|error| error.to_string())?,
        value: bytes("value", input.value, input.value_base64)?,
        ttl: input.ttl.map(|ttl| parse_ttl_field(&ttl)).transpose()?,
    })
}

/// Writes a line, its end included.
pub(crate) fn write(
    key: &[u8],
    value: &[u8],
    ttl: Option<Duration>,
    out: &mut Vec<u8>,
) -> io::Result<()> {
    let (key, key_base64) = text_or_base64(key);
    let (value, value_base64) = text_or_base64(value);
    let ttl = ttl.map(seconds_of_ttl);
    serde_json::to_writer(
        &mut *out,
        &Line {
            key,
            key_base64,
            value,
            value_base64,
            ttl,
        },
    )?;
    out.push(b'\n');
    Ok(())
}

fn bytes(name: &str, text: Option<String>, base64: Option<String>) -> Result<Bytes, String> {
    match (text, base64) {
        (Some(text), None) => Ok(text.into()),
        (None, Some(base64)) => BASE64
            .decode(base64.as_bytes())
            .map(Bytes::from)
            .map_err(|error| format!("{name}_base64 is not base64: {error}")),
        (None, None) => Err(format!("{name} is missing")),
        (Some(_), Some(_)) => Err(format!("{name} and {name}_base64 are both there: give one")),
    }
}

fn parse_ttl_field(ttl: &Ttl) -> Result<Duration, String> {
    match ttl {
        Ttl::Seconds(seconds) => ttl_of_seconds(*seconds),
        Ttl::Text(text) => parse_ttl(text).map_err(|error| format!("ttl '{text}': {error}")),
    }
}

fn text_or_base64(bytes: &[u8]) -> (Option<&str>, Option<String>) {
    match str::from_utf8(bytes) {
        Ok(text) => (Some(text), None),
        Err(_) => (None, Some(BASE64.encode(bytes))),
    }
}

/// The parser's words; its line number is always 1 here and would only mislead.
fn words(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    let text = text
        .strip_suffix(&place)
        .map_or(Cow::Borrowed(&*text), |text| {
            Cow::Owned(format!("{text} (column {})", error.column()))
        });
    format!("not a line of an import: {}", shortened(&text))
}

/// Both ends of words that quote a line, which may be long and is quoted with escapes.
fn shortened(text: &str) -> Cow<'_, str> {
    if text.len() <= 2 * WORDS_END_BYTES {
        return Cow::Borrowed(text);
    }
    let head = &text[..text.floor_char_boundary(WORDS_END_BYTES)];
    let tail = &text[text.ceil_char_boundary(text.len() - WORDS_END_BYTES)..];
    Cow::Owned(format!("{head}...{tail}"))
}

/// What is shown of either end.
const WORDS_END_BYTES: usize = 100;

#[cfg(test)]
#[path = "ndjson_tests.rs"]
mod tests;
