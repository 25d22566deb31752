//! What a fuzzer begins with, and what it once found.

use std::{fs, path::Path};

use freehold_fuzz::{TARGETS, decide};

/// One after another: what is allocated is counted for all threads together.
#[test]
fn every_seed_is_taken_or_refused() {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds");
    for (target, check) in TARGETS {
        let mut count = 0;
        for seed in fs::read_dir(seeds.join(target)).unwrap() {
            let path = seed.unwrap().path();
            println!("{}", path.display());
            decide(check, &fs::read(&path).unwrap());
            count += 1;
        }
        assert!(count > 3, "{target} has {count} seeds");
    }
}
