//! How the router follows its config file, for those who ask.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicU64, Ordering},
};

/// What came of each change of the file. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Reloads {
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    followed: AtomicU64,
    refused: AtomicU64,
    /// Why the file as it is now is not followed; empty if it is.
    pending: Mutex<String>,
}

impl Reloads {
    /// The file is followed as it is.
    pub fn follow(&self) {
        self.state.followed.fetch_add(1, Ordering::Relaxed);
        self.set(String::new());
    }

    /// The file changed, and is what the router runs by again, or never stopped being.
    pub fn settle(&self) {
        self.set(String::new());
    }

    /// The file as it is now is not followed.
    pub fn refuse(&self, why: String) {
        self.state.refused.fetch_add(1, Ordering::Relaxed);
        self.set(why);
    }

    fn set(&self, why: String) {
        let pending = self.state.pending.lock();
        *pending.unwrap_or_else(PoisonError::into_inner) = why;
    }

    /// Why the file as it is now is not followed; empty if it is.
    #[must_use]
    pub fn pending(&self) -> String {
        let pending = self.state.pending.lock();
        pending.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many changes were followed, and how many refused.
    #[must_use]
    pub fn counts(&self) -> (u64, u64) {
        let State {
            followed, refused, ..
        } = &*self.state;
        (
            followed.load(Ordering::Relaxed),
            refused.load(Ordering::Relaxed),
        )
    }
}
