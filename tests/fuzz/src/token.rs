//! Session tokens, and the positions in them.
//!
//! The first byte says what the rest is: 0 tokens as they come off the wire, 1 the parts of one
//! token, which gets the length and the checksum that belong to them, 2 two tokens that a client
//! joins, 3 a position as a server shows it.

use freehold_core::{
    Fence, Position, ShardTag, Token,
    position::NoPosition,
    token::{TERM_BYTES, merge},
};
use twox_hash::XxHash3_64;

use crate::parts::{take, take_some};

/// Gives the bytes to whoever reads tokens and positions.
///
/// # Panics
/// If one that is taken is not what comes out again.
pub fn check(bytes: &[u8]) {
    let mut bytes = bytes;
    let [way] = take(&mut bytes);
    match way % 4 {
        0 => tokens(bytes),
        1 => tokens(&sealed(bytes)),
        2 => joined(take_some(&mut bytes), bytes),
        _ => positions(&String::from_utf8_lossy(bytes)),
    }
}

/// What is taken for tokens is what a router made, to the byte, and what stands in it holds.
fn tokens(bytes: &[u8]) {
    let Ok(tokens) = Token::parse_all(bytes) else {
        return;
    };
    let again: Vec<u8> = tokens.iter().flat_map(Token::encode).collect();
    assert_eq!(again, bytes, "{tokens:?}");
    for token in tokens {
        let Some(position) = token.position else {
            continue;
        };
        assert!(!position.is_empty(), "{position:?}");
        same_in_words(&position);
    }
}

/// A token of these parts: cluster, shard, term, leader, epoch, ordinal, kind, position.
fn sealed(mut bytes: &[u8]) -> Vec<u8> {
    let mut token = vec![1];
    token.extend(take::<33>(&mut bytes));
    token.extend(u16::try_from(bytes.len()).unwrap_or(0).to_be_bytes());
    token.extend(bytes);
    let sum = XxHash3_64::oneshot(&token).to_be_bytes();
    token.extend(&sum[..4]);
    token
}

/// Joining is the same once more, and no term of a shard is in it twice.
fn joined(one: &[u8], other: &[u8]) {
    let both = merge(one, other);
    assert!(both.len() <= one.len() + other.len());
    // What is no token is kept as it is, and may become one beside something else.
    let is_token = |bytes: &&[u8]| Token::parse_all(bytes).is_ok();
    if ![one, other].iter().all(is_token) {
        return;
    }
    let tokens = Token::parse_all(&both).expect("both were");
    assert_eq!(merge(&both, &both), both);
    assert_eq!(merge(&both, one), both);
    assert_eq!(merge(&both, other), both);
    let encoded = tokens.iter().map(Token::encode);
    let mut terms: Vec<Vec<u8>> = encoded.map(|token| token[..TERM_BYTES].to_vec()).collect();
    terms.sort();
    terms.dedup();
    assert_eq!(terms.len(), tokens.len());
}

fn positions(text: &str) {
    for parse in [Position::of_mysql, Position::of_mariadb, Position::parse] {
        let Ok(position) = parse(text) else { continue };
        same_in_words(&position);
        let fence = Fence {
            term: 3,
            epoch: 4,
            server_id: 11,
            stamp: 5,
        };
        let token = Token::new(ShardTag::new(7, "a"), &fence, Some(position.clone()));
        let parsed = Token::parse_all(&token.encode());
        // One that is empty or too long is left out.
        let without = Token {
            position: None,
            ..token.clone()
        };
        let is_long = token.encode().len() == without.encode().len();
        let expected = if is_long { without } else { token };
        assert_eq!(parsed, Ok(vec![expected]), "{text:?}");
    }
}

/// A position is itself when it is read from its own words, and covers itself.
fn same_in_words(position: &Position) {
    let words = position.to_string();
    let again: Result<Position, NoPosition> = match position {
        Position::Mysql(_) => Position::of_mysql(&words),
        Position::Mariadb(_) => Position::of_mariadb(&words),
    };
    assert_eq!(again.as_ref(), Ok(position), "{words}");
    assert!(position.covers(position), "{words}");
}
