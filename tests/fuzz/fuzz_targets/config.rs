//! A config file and the variables over it.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| freehold_fuzz::decide(
    freehold_fuzz::config::check,
    bytes
));
