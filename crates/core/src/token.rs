//! Session tokens: what a write hands out, so that a later read can ask to find it.
//!
//! One token is self-contained, and several of them, one behind the other, are a token too. So a
//! caller that writes to several shards joins what it got. The beginning is made so that it can
//! throw away what it does not need any more without knowing what stands in it:
//!
//! | bytes | what |
//! |---|---|
//! | 0 | the format: 1 |
//! | 1 to 4 | the cluster |
//! | 5 to 12 | the shard |
//! | 13 to 16 | the term |
//! | 17 to 20 | the server that led in that term: of two tokens that agree up to here, the greater one, compared byte by byte, covers both |
//! | 21 to 24 | the epoch: a router that knows of an earlier one may not know where slots are by now |
//! | 25 to 32 | a number that grows with the position; the highest where there is none |
//! | 33 | the kind of position: 0 none, 1 MySQL, 2 MariaDB |
//! | 34, 35 | length of the position |
//! | | the position |
//! | last 4 | checksum of everything before |
//!
//! Of two writes of one term the one under the later epoch came later; of two under one epoch, one
//! without a position may have come later than any that has one, and only the master has it for sure.
//!
//! Numbers have their highest byte first. A token of a later term does not cover one of an earlier
//! term: a failover may have lost that write, and then its reader has to hear of it.

use std::fmt;

use twox_hash::XxHash3_64;

use crate::{fence::Fence, position::Position};

/// The format that is written here.
const FORMAT: u8 = 1;

/// Everything before the position.
const HEAD_BYTES: usize = 36;

/// The checksum.
const SUM_BYTES: usize = 4;

/// How many bytes name format, cluster, shard and term.
pub const TERM_BYTES: usize = 21;

/// A position longer than this is left out, and the master answers. (A server of one UUID and no
/// gaps needs 20 bytes.)
const POSITION_BYTES_MAX: usize = 1_024;

/// A shard of a cluster, as tokens name it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ShardTag {
    cluster: [u8; 4],
    shard: [u8; 8],
}

impl ShardTag {
    /// The tag of a shard. Two shards of one cluster have the same with a chance of 2^-64.
    #[must_use]
    pub fn new(cluster_id: u64, shard: &str) -> Self {
        let [.., a, b, c, d] = cluster_id.to_be_bytes();
        Self {
            cluster: [a, b, c, d],
            shard: XxHash3_64::oneshot(shard.as_bytes()).to_be_bytes(),
        }
    }

    /// Whether both are of one cluster.
    #[must_use]
    pub fn is_of_same_cluster(&self, other: &Self) -> bool {
        self.cluster == other.cluster
    }
}

impl fmt::Debug for ShardTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (cluster, shard) = (
            u32::from_be_bytes(self.cluster),
            u64::from_be_bytes(self.shard),
        );
        write!(f, "{cluster:08x}/{shard:016x}")
    }
}

/// A term of a shard, as tokens name it. The number alone does not: where an adoption itself was lost
/// with its server, the next one counts from the same number, and is another server's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Term {
    /// The fence's failover counter; those above 2^32 - 1 count as that.
    pub number: u32,
    /// `@@server_id` of its leader, which has 32 bits.
    pub leader: u32,
}

impl Term {
    /// Of a counter and the server that the fence names.
    #[must_use]
    pub fn new(number: u64, server_id: u64) -> Self {
        let of = |number| u32::try_from(number).unwrap_or(u32::MAX);
        Self {
            number: of(number),
            leader: of(server_id),
        }
    }
}

impl From<&Fence> for Term {
    fn from(fence: &Fence) -> Self {
        Self::new(fence.term, fence.server_id)
    }
}

/// What one write's token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// Where it was written.
    pub shard: ShardTag,
    /// In which term.
    pub term: Term,
    /// Under which epoch of the fence, which grows when slots change hands; those above 2^32 - 1 count
    /// as that.
    pub epoch: u32,
    /// A position that includes it. Absent where it was not known: only the master has it for sure.
    pub position: Option<Position>,
}

/// Why bytes are no token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Something follows that is none, or it was cut short.
    #[error("it is cut short, or something else stands behind it")]
    Cut,
    /// Of a version that is not known here.
    #[error("it has format {0}, and this version knows format {FORMAT}")]
    Format(u8),
    /// Bytes were changed.
    #[error("its checksum is wrong: it was changed on the way")]
    Changed,
    /// Its checksum is right, and yet no router writes what it says in these bytes.
    #[error("no router gave it out")]
    Foreign,
}

impl Token {
    /// The token of a write under this fence.
    #[must_use]
    pub fn new(shard: ShardTag, fence: &Fence, position: Option<Position>) -> Self {
        Self {
            shard,
            term: Term::from(fence),
            epoch: u32::try_from(fence.epoch).unwrap_or(u32::MAX),
            position,
        }
    }

    /// Its bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut content = Vec::new();
        let position = self.position.as_ref();
        let mut kind = 0;
        if let Some(position) = position.filter(|position| !position.is_empty()) {
            position.encode(&mut content);
            kind = position.kind();
        }
        if content.len() > POSITION_BYTES_MAX {
            (kind, content) = (0, Vec::new());
        }
        let ordinal = position.filter(|_| kind > 0);
        let ordinal = ordinal.map_or(u64::MAX, Position::ordinal);
        let length = u16::try_from(content.len()).unwrap_or(0);
        let mut bytes = Vec::with_capacity(HEAD_BYTES + content.len() + SUM_BYTES);
        bytes.push(FORMAT);
        bytes.extend_from_slice(&self.shard.cluster);
        bytes.extend_from_slice(&self.shard.shard);
        bytes.extend_from_slice(&self.term.number.to_be_bytes());
        bytes.extend_from_slice(&self.term.leader.to_be_bytes());
        bytes.extend_from_slice(&self.epoch.to_be_bytes());
        bytes.extend_from_slice(&ordinal.to_be_bytes());
        bytes.push(kind);
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(&content);
        let sum = checksum(&bytes);
        bytes.extend_from_slice(&sum);
        bytes
    }

    /// All tokens in these bytes.
    ///
    /// # Errors
    /// [`TokenError`] if any of it is none; empty bytes are no token.
    pub fn parse_all(mut bytes: &[u8]) -> Result<Vec<Self>, TokenError> {
        let mut tokens = Vec::new();
        while tokens.is_empty() || !bytes.is_empty() {
            tokens.push(Self::take(&mut bytes)?);
        }
        Ok(tokens)
    }

    /// Takes one off the front.
    fn take(bytes: &mut &[u8]) -> Result<Self, TokenError> {
        let all = *bytes;
        match all.first() {
            Some(&FORMAT) => {}
            Some(format) => return Err(TokenError::Format(*format)),
            None => return Err(TokenError::Cut),
        }
        let head: &[u8; HEAD_BYTES] = all.first_chunk().ok_or(TokenError::Cut)?;
        let length = usize::from(u16::from_be_bytes([head[34], head[35]]));
        let (token, rest) = all
            .split_at_checked(HEAD_BYTES + length + SUM_BYTES)
            .ok_or(TokenError::Cut)?;
        let (content, sum) = token.split_at(HEAD_BYTES + length);
        if checksum(content) != sum {
            return Err(TokenError::Changed);
        }
        *bytes = rest;
        let array = |from: usize| <[u8; 4]>::try_from(&head[from..from + 4]);
        let shard = <[u8; 8]>::try_from(&head[5..13]);
        let position = match head[33] {
            0 => None,
            kind => {
                let position = Position::decode(kind, &content[HEAD_BYTES..]);
                Some(position.map_err(|_| TokenError::Foreign)?)
            }
        };
        let read = Self {
            shard: ShardTag {
                cluster: array(1).map_err(|_| TokenError::Cut)?,
                shard: shard.map_err(|_| TokenError::Cut)?,
            },
            term: Term {
                number: u32::from_be_bytes(array(13).map_err(|_| TokenError::Cut)?),
                leader: u32::from_be_bytes(array(17).map_err(|_| TokenError::Cut)?),
            },
            epoch: u32::from_be_bytes(array(21).map_err(|_| TokenError::Cut)?),
            position,
        };
        // Tokens are compared by their bytes: other bytes must not mean the same.
        if read.encode() != token {
            return Err(TokenError::Foreign);
        }
        Ok(read)
    }
}

fn checksum(bytes: &[u8]) -> [u8; SUM_BYTES] {
    let [a, b, c, d, ..] = XxHash3_64::oneshot(bytes).to_be_bytes();
    [a, b, c, d]
}

/// Joins two tokens, each of which may be of several shards: of each term of a shard, the later one is
/// kept.
/// What is no token is kept as it is, behind the rest, for a router to judge.
#[must_use]
pub fn merge(one: &[u8], other: &[u8]) -> Vec<u8> {
    let mut latest: Vec<&[u8]> = Vec::new();
    let mut rest: Vec<&[u8]> = Vec::new();
    for mut bytes in [one, other] {
        while !bytes.is_empty() {
            let all = bytes;
            if Token::take(&mut bytes).is_err() {
                rest.push(all);
                break;
            }
            let token = &all[..all.len() - bytes.len()];
            let same = |kept: &&mut &[u8]| kept[..TERM_BYTES] == token[..TERM_BYTES];
            match latest.iter_mut().find(same) {
                Some(kept) => *kept = token.max(*kept),
                None => latest.push(token),
            }
        }
    }
    latest.extend(rest);
    latest.concat()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tag(shard: &str) -> ShardTag {
        ShardTag::new(0x0123_4567_89ab_cdef, shard)
    }

    /// Led by server 11.
    fn fence(term: u64, epoch: u64) -> Fence {
        Fence {
            term,
            epoch,
            server_id: 11,
            stamp: 5,
        }
    }

    /// Under epoch 4.
    fn token(shard: &str, term: u64, number: u64) -> Token {
        let position = Position::of_mariadb(&format!("0-1-{number}")).unwrap();
        Token::new(tag(shard), &fence(term, 4), Some(position))
    }

    #[test]
    fn a_token_is_compact_and_comes_back() {
        let uuid = "3e11fa47-71ca-11e1-9e33-c80aa9429562";
        let mysql = Position::of_mysql(&format!("{uuid}:1-123456789")).unwrap();
        for (position, bytes) in [
            (Some(mysql), 63),
            (Position::of_mariadb("0-1-123456789").ok(), 46),
            (None, 40),
        ] {
            let token = Token::new(tag("a"), &fence(3, u64::MAX), position);
            let encoded = token.encode();
            assert_eq!(encoded.len(), bytes);
            assert_eq!(Token::parse_all(&encoded), Ok(vec![token]));
        }
    }

    #[test]
    fn tokens_one_behind_the_other_are_a_token() {
        let (a, b) = (token("a", 1, 5), token("b", 2, 7));
        let both = [a.encode(), b.encode()].concat();
        assert_eq!(Token::parse_all(&both), Ok(vec![a, b]));
    }

    #[test]
    fn what_was_changed_or_cut_is_no_token() {
        let bytes = token("a", 1, 5).encode();
        for cut in 0..bytes.len() {
            assert_eq!(Token::parse_all(&bytes[..cut]), Err(TokenError::Cut));
        }
        for place in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[place] ^= 1;
            assert!(Token::parse_all(&changed).is_err(), "byte {place}");
        }
        assert_eq!(Token::parse_all(&[9; 44]), Err(TokenError::Format(9)));
    }

    #[test]
    fn what_no_router_writes_is_no_token_however_it_is_sealed() {
        let sealed = |kind: u8, ordinal: u64, position: &[u8]| {
            let mut bytes = token("a", 1, 5).encode()[..TERM_BYTES + 4].to_vec();
            bytes.extend(ordinal.to_be_bytes());
            bytes.push(kind);
            bytes.extend(u16::try_from(position.len()).unwrap().to_be_bytes());
            bytes.extend(position);
            bytes.extend(checksum(&bytes));
            Token::parse_all(&bytes)
        };
        assert_eq!(sealed(2, 5, &[0, 1, 5]), Ok(vec![token("a", 1, 5)]));
        for (kind, ordinal, position) in [
            (0, 0, &[][..]),
            (0, u64::MAX, &[9]),
            (0, 7, &[]),
            (2, 0, &[]),
            (2, 6, &[0, 1, 5]),
            (2, 5, &[0, 1, 0x85, 0]),
            (2, 10, &[0, 1, 5, 0, 1, 5]),
            (2, 6, &[1, 1, 1, 0, 1, 5]),
            (3, 5, &[0, 1, 5]),
        ] {
            let parsed = sealed(kind, ordinal, position);
            assert_eq!(parsed, Err(TokenError::Foreign), "{kind} {position:?}");
        }
    }

    #[test]
    fn of_each_term_the_later_token_is_kept_whatever_the_order() {
        let encode = |shard, term, number| token(shard, term, number).encode();
        let (early, late) = (encode("a", 1, 255), encode("a", 1, 256));
        let promoted = encode("a", 2, 3);
        let other = encode("b", 1, 1);
        assert_eq!(merge(&early, &late), late);
        assert_eq!(merge(&late, &early), late);
        // The promoted server may lack what the first one said.
        let both_terms = [promoted.clone(), late.clone()].concat();
        assert_eq!(merge(&promoted, &late), both_terms);
        assert_eq!(merge(&both_terms, &early), both_terms);
        let both = merge(&other, &merge(&late, &early));
        assert_eq!(both, [other.clone(), late.clone()].concat());
        assert_eq!(merge(&both, &early), both);
        assert_eq!(merge(b"", &late), late);
        assert_eq!(merge(b"what", &late), [&late[..], b"what"].concat());
    }

    #[test]
    fn a_token_without_position_covers_all_that_came_before_it() {
        let of = |epoch, number: Option<u64>| {
            let position = number.map(|number| format!("0-1-{number}"));
            let position = position.map(|text| Position::of_mariadb(&text).unwrap());
            Token::new(tag("a"), &fence(1, epoch), position).encode()
        };
        let (known, unknown, later) = (of(4, Some(u64::MAX >> 1)), of(4, None), of(5, Some(7)));
        assert_eq!(merge(&known, &unknown), unknown);
        assert_eq!(merge(&unknown, &known), unknown);
        // Its epoch began after every write under the one before was there.
        assert_eq!(merge(&unknown, &later), later);
        assert_eq!(merge(&later, &known), later);
    }

    #[test]
    fn a_position_that_is_too_long_is_left_out() {
        let gaps: String = (1..1_000)
            .map(|number| format!(":{}", number * 2))
            .collect();
        let uuid = "3e11fa47-71ca-11e1-9e33-c80aa9429562";
        let position = Position::of_mysql(&format!("{uuid}{gaps}")).unwrap();
        let encoded = Token::new(tag("a"), &fence(1, 4), Some(position)).encode();
        assert_eq!(encoded.len(), HEAD_BYTES + SUM_BYTES);
        assert_eq!(Token::parse_all(&encoded).unwrap()[0].position, None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_tokens_or_none(bytes: Vec<u8>, mut prefixed: Vec<u8>) {
            let _ = Token::parse_all(&bytes);
            prefixed.insert(0, FORMAT);
            let _ = Token::parse_all(&prefixed);
        }
    }
}
