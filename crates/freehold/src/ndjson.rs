//! One key per line, as JSON: `{"key": "user:1", "value": "Ada", "ttl": 29.999}`.
//!
//! Bytes that are not UTF-8 stand in `key_base64` and `value_base64` instead. `ttl` is a number of
//! seconds or a string such as `"30s"`; without it, or with null, the key lives for ever. Any other
//! field is an error: a misspelt `ttl` would make a key immortal. What an export or `scan --json`
//! writes is what an import reads.

use std::{borrow::Cow, io, time::Duration};

use bytes::Bytes;
use data_encoding::BASE64;
use freehold_core::Key;
use serde::{Deserialize, Serialize};

use crate::duration::{parse_ttl, seconds_of_ttl, ttl_of_seconds};

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
    ttl: Option<serde_json::Value>,
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

/// Reads a line. The error says what is wrong with it.
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

fn parse_ttl_field(ttl: &serde_json::Value) -> Result<Duration, String> {
    if let Some(seconds) = ttl.as_f64() {
        return ttl_of_seconds(seconds);
    }
    match ttl.as_str() {
        Some(text) => parse_ttl(text).map_err(|error| format!("ttl '{text}': {error}")),
        None => Err(format!(
            "ttl is {ttl}: use seconds as a number, or a string such as \"30s\""
        )),
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
    format!("not a line of an import: {text}")
}

#[cfg(test)]
#[path = "ndjson_tests.rs"]
mod tests;
