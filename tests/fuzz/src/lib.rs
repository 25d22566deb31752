//! What comes from outside, made of bytes that a fuzzer chose.
//!
//! Each module has one function, `check`, that gives its bytes to the product's own functions and
//! panics where a promise is broken: [`request`], [`token`], [`page_token`], [`config`], [`import`],
//! [`dsn`]. [`decide`] runs one of them and bounds what it may allocate. `fuzz_targets/` has a
//! program for each of them, with libFuzzer around it; `seeds/` has inputs to begin with, and those
//! that once found something, which `tests/seeds.rs` gives to the same functions without a fuzzer.

// The program's own unit tests would come along with its files.
#![cfg(not(test))]

pub mod config;
pub mod dsn;
pub mod import;
pub mod page_token;
mod parts;
pub mod request;
pub mod token;

/// Files of the program itself: it is a binary, which has nothing that others could call.
#[path = "../../../crates/freehold/src"]
#[allow(
    dead_code,
    unused_imports,
    reason = "the rest of the program is not here"
)]
mod program {
    pub(crate) mod config;
    pub(crate) mod duration;
    pub(crate) mod ndjson;
}
use program::duration;

use std::alloc::System;

use cap::Cap;

/// Counts what is allocated, and gives no more than [`decide`] allows.
#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, usize::MAX);

/// Bytes that any input may allocate at a time: tables that are made once, above all.
const BYTES_MAX: usize = 1 << 20;

/// Bytes that an input may allocate at a time for each of its own, besides.
const BYTES_PER_BYTE_MAX: usize = 64;

/// An input's function.
pub type Check = fn(&[u8]);

/// All of them, by the names of their targets.
pub const TARGETS: [(&str, Check); 6] = [
    ("config", config::check),
    ("dsn", dsn::check),
    ("import", import::check),
    ("page_token", page_token::check),
    ("request", request::check),
    ("token", token::check),
];

/// Runs a check on an input. Whoever allocates more than an input of its size may is given nothing,
/// which ends the program.
///
/// # Panics
/// If a promise is broken.
pub fn decide(check: Check, bytes: &[u8]) {
    let allowed = BYTES_MAX + BYTES_PER_BYTE_MAX * bytes.len();
    // Fails only below what is allocated already.
    let _ = ALLOCATOR.set_limit(ALLOCATOR.allocated() + allowed);
    check(bytes);
    let _ = ALLOCATOR.set_limit(usize::MAX);
}
