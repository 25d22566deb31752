//! What a caller wrote, over all shards, so that it finds that again.

use bytes::Bytes;
use freehold_core::token::merge;

use crate::types::{Consistency, DeleteReply, ExpireReply, PutReply, WriteReply};

/// The writes of one caller: reads with [`Session::consistency`] find all of them, through any
/// router. Of each shard the latest is kept, some 60 bytes, and once more for each failover in between:
/// what that may have lost is told apart by it. It may be carried on in any other process
/// ([`Session::token`]), and joined with what others wrote ([`Session::add`]).
///
/// ```
/// # freehold_tests::doctest(async |address| {
/// # use freehold_client::*;
/// # let client = Client::connect(address, &ClientOptions::default()).await?;
/// let mut session = Session::default();
/// session.add(&client.put("cart:7", "3 apples").await?);
/// session.add(&client.delete("cart:8").await?);
///
/// let cart = client.get("cart:7").consistency(session.consistency()).await?;
/// assert_eq!(cart.value().unwrap(), "3 apples");
///
/// // Somewhere else:
/// let session = Session::from(session.token());
/// let nothing = client.get("cart:8").consistency(session.consistency()).await?;
/// assert_eq!(nothing.value(), None);
/// # Ok(()) });
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Session {
    token: Bytes,
}

impl Session {
    /// Adds a write.
    pub fn add(&mut self, write: &impl Written) {
        let token = write.session_token();
        if !token.is_empty() {
            self.token = merge(&self.token, token).into();
        }
    }

    /// All of it as one token; empty if nothing was added.
    #[must_use]
    pub fn token(&self) -> Bytes {
        self.token.clone()
    }

    /// The level of reads that find it all: SESSION, or STRONG where nothing was added.
    #[must_use]
    pub fn consistency(&self) -> Consistency {
        match self.token.is_empty() {
            true => Consistency::Strong,
            false => Consistency::Session(self.token()),
        }
    }
}

impl From<Bytes> for Session {
    fn from(token: Bytes) -> Self {
        Self { token }
    }
}

/// What says which write it came from.
pub trait Written {
    /// Of one write, or of several.
    fn session_token(&self) -> &Bytes;
}

impl Written for PutReply {
    fn session_token(&self) -> &Bytes {
        &self.session_token
    }
}

impl Written for DeleteReply {
    fn session_token(&self) -> &Bytes {
        &self.session_token
    }
}

impl Written for ExpireReply {
    fn session_token(&self) -> &Bytes {
        &self.session_token
    }
}

impl Written for WriteReply {
    fn session_token(&self) -> &Bytes {
        match self {
            Self::Put(put) => &put.session_token,
            Self::Delete(delete) => &delete.session_token,
        }
    }
}

impl Written for Session {
    fn session_token(&self) -> &Bytes {
        &self.token
    }
}

#[cfg(test)]
mod tests {
    use freehold_core::{Fence, Position, ShardTag, Token};

    use super::*;

    fn put(shard: &str, number: u64) -> PutReply {
        let position = Position::of_mariadb(&format!("0-1-{number}")).ok();
        let fence = Fence {
            term: 1,
            epoch: 1,
            server_id: 11,
            stamp: 5,
        };
        let token = Token::new(ShardTag::new(1, shard), &fence, position);
        PutReply {
            version: 1,
            session_token: token.encode().into(),
        }
    }

    #[test]
    fn of_each_shard_the_latest_write_is_kept_in_whatever_order_they_come() {
        let mut session = Session::default();
        assert_eq!(session.consistency(), Consistency::Strong);
        for write in [put("a", 5), put("b", 1), put("a", 7), put("a", 6)] {
            session.add(&write);
        }
        let tokens = Token::parse_all(&session.token()).unwrap();
        let latest = [put("a", 7), put("b", 1)];
        let latest = latest.map(|put| Token::parse_all(&put.session_token).unwrap().remove(0));
        assert_eq!(tokens, latest);
        let mut other = Session::from(put("c", 1).session_token);
        other.add(&session);
        assert_eq!(Token::parse_all(&other.token()).unwrap().len(), 3);
    }
}
