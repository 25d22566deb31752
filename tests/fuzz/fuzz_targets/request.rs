//! A request as it comes off the wire.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| freehold_fuzz::decide(
    freehold_fuzz::request::check,
    bytes
));
