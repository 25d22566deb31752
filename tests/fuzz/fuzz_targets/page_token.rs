//! Where a scan goes on.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| freehold_fuzz::decide(
    freehold_fuzz::page_token::check,
    bytes
));
