//! Keys and values between bytes and what people type and read.

use std::{borrow::Cow, ffi::OsStr, fmt::Write as _};

use data_encoding::{BASE64, HEXLOWER, HEXLOWER_PERMISSIVE};
use serde_json::{Map, Value};

/// How keys and values stand in arguments and answers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Encoding {
    /// As they are; what a terminal cannot show is escaped.
    #[default]
    Text,
    /// Two digits for each byte.
    Hex,
    /// With padding.
    Base64,
}

impl Encoding {
    /// The bytes that an argument stands for.
    pub(crate) fn decode(self, argument: &OsStr) -> Result<Vec<u8>, String> {
        let bytes = argument.as_encoded_bytes();
        let (name, decoded) = match self {
            Self::Text => return Ok(bytes.to_vec()),
            Self::Hex => ("hex", HEXLOWER_PERMISSIVE.decode(bytes)),
            Self::Base64 => ("base64", BASE64.decode(bytes)),
        };
        decoded.map_err(|error| format!("'{}' is not {name}: {error}", argument.to_string_lossy()))
    }

    /// The bytes as a terminal can show them, lines included.
    pub(crate) fn encode(self, bytes: &[u8]) -> Cow<'_, str> {
        match self {
            Self::Text => escape(bytes, |c| c == '\n' || c == '\t'),
            Self::Hex => Cow::Owned(HEXLOWER.encode(bytes)),
            Self::Base64 => Cow::Owned(BASE64.encode(bytes)),
        }
    }

    /// The bytes on one line.
    pub(crate) fn encode_line(self, bytes: &[u8]) -> Cow<'_, str> {
        match self {
            Self::Text => escape(bytes, |_| false),
            _ => self.encode(bytes),
        }
    }
}

/// Bytes that are not UTF-8, and control characters that are not `kept`, as escapes: a value must
/// not steer the terminal.
fn escape(bytes: &[u8], kept: impl Fn(char) -> bool) -> Cow<'_, str> {
    if let Ok(text) = str::from_utf8(bytes)
        && !text.chars().any(|c| c.is_control() && !kept(c))
    {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(bytes.len() * 2);
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\n' if !kept(c) => shown.push_str("\\n"),
                '\t' if !kept(c) => shown.push_str("\\t"),
                '\r' => shown.push_str("\\r"),
                c if c.is_control() && !kept(c) => {
                    let mut utf8 = [0; 4];
                    c.encode_utf8(&mut utf8)
                        .bytes()
                        .for_each(|byte| push_hex(&mut shown, byte));
                }
                c => shown.push(c),
            }
        }
        chunk
            .invalid()
            .iter()
            .for_each(|byte| push_hex(&mut shown, *byte));
    }
    Cow::Owned(shown)
}

fn push_hex(text: &mut String, byte: u8) {
    // Writing to a String cannot fail.
    let _ = write!(text, "\\x{byte:02x}");
}

/// Puts bytes into a JSON object: `name` if they are UTF-8, else `name_base64`.
pub(crate) fn insert(object: &mut Map<String, Value>, name: &str, bytes: &[u8]) {
    match str::from_utf8(bytes) {
        Ok(text) => object.insert(name.to_owned(), text.into()),
        Err(_) => object.insert(format!("{name}_base64"), BASE64.encode(bytes).into()),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_cannot_show_is_escaped() {
        for (bytes, shown) in [
            (&b"plain"[..], "plain"),
            ("ключ ☃".as_bytes(), "ключ ☃"),
            (b"\x1b[31m", "\\x1b[31m"),
            (b"a\xffb", "a\\xffb"),
            (b"\x00", "\\x00"),
            (b"a\r\n", "a\\r\n"),
        ] {
            assert_eq!(Encoding::Text.encode(bytes), shown);
        }
        assert_eq!(Encoding::Text.encode_line(b"a\tb\nc"), "a\\tb\\nc");
    }

    #[test]
    fn arguments_come_back_as_the_bytes_they_stand_for() {
        let every: Vec<u8> = (0..=255).collect();
        for encoding in [Encoding::Hex, Encoding::Base64] {
            let shown = encoding.encode(&every).into_owned();
            assert_eq!(encoding.decode(OsStr::new(&shown)).unwrap(), every);
        }
        assert_eq!(Encoding::Hex.decode(OsStr::new("00FF")).unwrap(), [0, 255]);
        let error = Encoding::Hex.decode(OsStr::new("0g")).unwrap_err();
        assert!(error.starts_with("'0g' is not hex: "), "{error}");
    }
}
