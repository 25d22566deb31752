//! The name of a database server.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| freehold_fuzz::decide(freehold_fuzz::dsn::check, bytes));
