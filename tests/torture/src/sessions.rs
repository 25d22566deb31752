//! What sessions know: tokens of writes, and which writes they stand for. A session is handed on from
//! client to client, so its tokens reach every router.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use freehold_client::Session;

/// The writes of one session. Some 400 keys, so it has a bound.
#[derive(Debug, Clone, Default)]
pub struct Known {
    session: Session,
    /// By key the latest operation that a read of this session has to see.
    floors: HashMap<String, u64>,
}

impl Known {
    /// Adds a write, and says of it, if it has to be seen, which key shows it.
    pub fn add(&mut self, token: &Bytes, floor: Option<(&str, u64)>) {
        self.session.add(&Session::from(token.clone()));
        if let Some((key, id)) = floor {
            self.floors.insert(key.to_owned(), id);
        }
    }

    /// All tokens as one; empty if nothing was added.
    pub fn token(&self) -> Bytes {
        self.session.token()
    }

    /// The operation that a read of a key has to see.
    pub fn floor(&self, key: &str) -> Option<u64> {
        self.floors.get(key).copied()
    }

    fn join(&mut self, other: &Self) {
        self.session.add(&other.session);
        for (key, id) in &other.floors {
            let own = self.floors.entry(key.clone()).or_insert(*id);
            *own = (*own).max(*id);
        }
    }
}

/// Where clients leave their sessions for others.
#[derive(Debug, Default)]
pub struct Shared {
    known: Mutex<Known>,
}

impl Shared {
    /// Two become one, which both know.
    pub fn exchange(&self, known: &mut Known) {
        let mut shared = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        shared.join(known);
        known.clone_from(&shared);
    }

    /// A token was refused because a failover lost its write: whoever has it begins anew.
    pub fn forget(&self, known: &mut Known) {
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = Known::default();
        *known = Known::default();
    }
}
