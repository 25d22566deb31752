//! Lines of an import.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| freehold_fuzz::decide(
    freehold_fuzz::import::check,
    bytes
));
