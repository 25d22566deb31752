//! An input in parts. Where it ends too early the rest is zeros: no input is wasted.

/// Takes so many bytes off the front.
pub(crate) fn take<const COUNT: usize>(bytes: &mut &[u8]) -> [u8; COUNT] {
    let (head, rest) = bytes.split_at(COUNT.min(bytes.len()));
    *bytes = rest;
    let mut taken = [0; COUNT];
    taken[..head.len()].copy_from_slice(head);
    taken
}

/// Takes bytes off the front, as many as the first one says.
pub(crate) fn take_some<'a>(bytes: &mut &'a [u8]) -> &'a [u8] {
    let [count] = take(bytes);
    let (head, rest) = bytes.split_at(usize::from(count).min(bytes.len()));
    *bytes = rest;
    head
}
