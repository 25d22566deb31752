//! Session tokens, and the positions in them.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| freehold_fuzz::decide(
    freehold_fuzz::token::check,
    bytes
));
