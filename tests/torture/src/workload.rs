//! What a worker asks next, drawn from the seed.

use rand::{RngExt as _, rngs::StdRng};

/// Keys that everybody fights for.
const HOT: u32 = 6;
/// Keys that are touched now and then.
const COLD: u32 = 400;
/// Keys with one tag, in one slot.
const TAGGED: u32 = 20;

/// How fresh a read must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// The latest.
    Strong,
    /// Any.
    Eventual,
    /// Not older than so many milliseconds.
    Bounded(u64),
    /// With what the asking session has written.
    Session,
}

/// One request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    /// Stores a new value of so many bytes of padding.
    Put {
        /// Where.
        key: String,
        /// In milliseconds.
        ttl_ms: Option<u64>,
        /// Padding behind the value's name.
        padding_bytes: usize,
    },
    /// Removes.
    Delete {
        /// What.
        key: String,
    },
    /// Changes a life.
    Expire {
        /// Whose.
        key: String,
        /// In milliseconds; absent is for ever.
        ttl_ms: Option<u64>,
    },
    /// Reads.
    Get {
        /// What.
        key: String,
        /// How fresh.
        level: Level,
    },
    /// Asks how long a key lives.
    Ttl {
        /// Whose.
        key: String,
        /// How fresh.
        level: Level,
    },
    /// Stores or removes several keys, each once.
    BatchWrite {
        /// Keys, and whether they are removed.
        keys: Vec<(String, bool)>,
    },
    /// Reads several keys.
    BatchGet {
        /// Which.
        keys: Vec<String>,
        /// How fresh.
        level: Level,
    },
    /// Walks.
    Scan {
        /// What keys begin with.
        prefix: String,
        /// How fresh.
        level: Level,
        /// Rows of one call; 0 is all.
        page_size: u32,
    },
    /// Several requests to one key at once, through one stream.
    Burst {
        /// Each of them.
        asks: Vec<Ask>,
    },
}

/// A key of this round. Hot ones in a third of all cases.
fn key(random: &mut StdRng, round: u64) -> String {
    match random.random_range(0..10) {
        0..4 => format!("r{round}:hot:{}", random.random_range(0..HOT)),
        4 => format!("{{r{round}}}:tag:{}", random.random_range(0..TAGGED)),
        _ => format!("r{round}:cold:{}", random.random_range(0..COLD)),
    }
}

fn ttl_ms(random: &mut StdRng) -> Option<u64> {
    match random.random_range(0..10) {
        0..2 => Some(random.random_range(50..150)),
        2 => Some(random.random_range(150..3_000)),
        _ => None,
    }
}

fn padding_bytes(random: &mut StdRng) -> usize {
    match random.random_range(0..100) {
        0 => random.random_range(0..100_000),
        1..10 => random.random_range(0..4_000),
        _ => random.random_range(0..60),
    }
}

fn level(random: &mut StdRng) -> Level {
    match random.random_range(0..20) {
        0..3 => Level::Eventual,
        3..6 => Level::Bounded(random.random_range(20..3_000)),
        6..10 => Level::Session,
        _ => Level::Strong,
    }
}

/// Half of the walks go on from page to page.
fn page_size(random: &mut StdRng) -> u32 {
    match random.random_bool(0.5) {
        true => random.random_range(8..100),
        false => 0,
    }
}

fn different(random: &mut StdRng, round: u64) -> Vec<String> {
    let count = random.random_range(2..12);
    let mut keys: Vec<String> = (0..count).map(|_| key(random, round)).collect();
    keys.sort();
    keys.dedup();
    keys
}

fn single(random: &mut StdRng, key: String) -> Ask {
    match random.random_range(0..100) {
        0..34 => Ask::Put {
            key,
            ttl_ms: ttl_ms(random),
            padding_bytes: padding_bytes(random),
        },
        34..44 => Ask::Delete { key },
        44..50 => Ask::Expire {
            key,
            ttl_ms: Some(random.random_range(50..3_000)).filter(|_| random.random_bool(0.7)),
        },
        50..54 => Ask::Ttl {
            key,
            level: level(random),
        },
        _ => Ask::Get {
            key,
            level: level(random),
        },
    }
}

/// The next request of a worker. Bursts need a stream.
pub fn next(random: &mut StdRng, round: u64, has_stream: bool) -> Ask {
    match random.random_range(0..200) {
        0 => Ask::Scan {
            prefix: if random.random_bool(0.5) {
                format!("r{round}:")
            } else {
                format!("{{r{round}}}:")
            },
            level: level(random),
            page_size: page_size(random),
        },
        1..8 => Ask::BatchWrite {
            keys: different(random, round)
                .into_iter()
                .map(|key| (key, random.random_bool(0.2)))
                .collect(),
        },
        8..14 => Ask::BatchGet {
            keys: different(random, round),
            level: level(random),
        },
        14..24 if has_stream => {
            let key = key(random, round);
            let count = random.random_range(2..5);
            let asks = (0..count).map(|_| single(random, key.clone()));
            Ask::Burst {
                asks: asks.collect(),
            }
        }
        _ => {
            let key = key(random, round);
            single(random, key)
        }
    }
}

/// A value's bytes: its name, and padding that shows whether they came back whole.
pub fn encode(name: &str, padding_bytes: usize) -> Vec<u8> {
    let mut bytes = format!("{name}|{padding_bytes}|").into_bytes();
    bytes.resize(bytes.len() + padding_bytes, b'x');
    bytes
}

/// The name of a value that is whole; else words that no value has for its name.
pub fn decode(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let name = text.split('|').next().unwrap_or_default();
    let padding = text.split('|').nth(1).and_then(|count| count.parse().ok());
    match padding {
        Some(count) if encode(name, count) == bytes => name.to_owned(),
        _ => format!("broken value of {} bytes: {:.60}", bytes.len(), text),
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;

    use super::*;

    #[test]
    fn a_seed_says_everything() {
        let drawn = |seed| {
            let mut random = StdRng::seed_from_u64(seed);
            (0..100)
                .map(|_| next(&mut random, 1, true))
                .collect::<Vec<_>>()
        };
        assert_eq!(drawn(1), drawn(1));
        assert_ne!(drawn(1), drawn(2));
    }

    #[test]
    fn a_value_that_is_not_whole_is_seen() {
        let bytes = encode("w1-2", 10);
        assert_eq!(decode(&bytes), "w1-2");
        assert!(decode(&bytes[..bytes.len() - 1]).starts_with("broken"));
        assert!(decode(b"").starts_with("broken"));
        let mut other = bytes.clone();
        other[8] = b'y';
        assert!(decode(&other).starts_with("broken"));
    }
}
