//! Keys and values that can be checked: each value begins with its key's number.

use bytes::{BufMut, Bytes, BytesMut};

/// The key with this number.
pub(crate) fn key(number: u64) -> Bytes {
    format!("user:{number:012}").into()
}

/// A value for the key with this number.
pub(crate) fn value(number: u64, bytes: usize) -> Bytes {
    let mut value = BytesMut::with_capacity(bytes.max(8));
    value.put_u64(number);
    value.resize(bytes.max(8), b'.');
    value.freeze()
}

/// Whether somebody wrote this value for this key.
pub(crate) fn is_value_of(number: u64, value: &[u8]) -> bool {
    value.starts_with(&number.to_be_bytes())
}
