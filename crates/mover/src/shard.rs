//! A shard's servers, and which of them leads.

use freehold_core::{Slot, SlotSet, moving::SlotRow};
use freehold_storage::{
    MoveConnection, Server, StorageError,
    moves::{Leader, MoveRecord},
};

use tokio::{
    task::JoinSet,
    time::{Duration, Instant, timeout, timeout_at},
};

use crate::{
    error::{Halt, MoveError},
    side::RANGES_MAX,
    timely::Timely,
};

/// How long a look at one server may take, which may hang.
const LOOK_TIME_MAX: Duration = Duration::from_secs(5);

/// How long the others may take once a server was found that leads: one that hangs does not hold a
/// mover up, whose writes may be waiting. That it was replaced is seen where it counts.
const OTHERS_WAIT_MAX: Duration = Duration::from_millis(500);

/// A shard as the config has it.
#[derive(Debug, Clone)]
pub struct Shard {
    /// Its name.
    pub name: String,
    /// Its servers, masters and replicas in any order.
    pub servers: Vec<Server>,
}

/// The server that leads.
pub(crate) struct Leading {
    /// Its place among the servers.
    pub(crate) index: usize,
    pub(crate) leader: Leader,
    pub(crate) cluster_id: u64,
    pub(crate) moves: Box<dyn MoveConnection>,
}

impl Shard {
    /// Finds the server that its own fence names, in the highest term that any server shows, and
    /// that takes writes. A server that was promoted and not yet adopted does not lead.
    pub(crate) async fn leading(&self) -> Result<Leading, Halt> {
        let mut looks = JoinSet::new();
        for (index, server) in self.servers.iter().cloned().enumerate() {
            looks.spawn(async move {
                let looked = timeout(LOOK_TIME_MAX, look(index, &server)).await;
                let looked = looked.unwrap_or_else(|_| {
                    Err(StorageError::Unreachable {
                        reason: format!("no answer within {LOOK_TIME_MAX:?}").into(),
                    })
                });
                (server.address().to_owned(), looked)
            });
        }
        let mut found: Option<Leading> = None;
        let (mut term_max, mut silent) = (0, String::new());
        let mut until = Instant::now() + LOOK_TIME_MAX;
        while let Ok(Some(joined)) = timeout_at(until, looks.join_next()).await {
            match joined {
                Ok((_, Ok((leading, term)))) => {
                    term_max = term_max.max(term);
                    let newer = |known: &Leading| {
                        leading
                            .as_ref()
                            .is_some_and(|new| new.leader.term > known.leader.term)
                    };
                    if found.as_ref().is_none_or(newer) && leading.is_some() {
                        found = leading;
                        until = until.min(Instant::now() + OTHERS_WAIT_MAX);
                    }
                }
                Ok((address, Err(error))) => silent = format!("{address}: {error}"),
                Err(error) => silent = error.to_string(),
            }
        }
        match found {
            Some(leading) if leading.leader.term == term_max => Ok(leading),
            Some(_) => Err(Halt::Again(format!(
                "shard '{}' has a server of a later term that is not adopted",
                self.name
            ))),
            None => Err(Halt::Again(format!(
                "shard '{}' has no server that leads it {silent}",
                self.name
            ))),
        }
    }
}

/// What a server is, if it leads, and the term that it shows.
async fn look(index: usize, server: &Server) -> Result<(Option<Leading>, u64), StorageError> {
    let mut moves = Box::new(Timely(server.connect_moves().await?));
    let seen = moves.slots(&SlotSet::default()).await?;
    let part = server.connect_promotion().await?.part().await?;
    let leads = seen.fence.server_id == seen.answered_by && !part.read_only;
    let leading = leads.then(|| Leading {
        index,
        leader: seen.fence.into(),
        cluster_id: seen.cluster_id,
        moves,
    });
    Ok((leading, seen.fence.term))
}

impl Shard {
    /// A connection to the server that leads.
    ///
    /// # Errors
    /// [`MoveError::Shard`] if none does.
    pub async fn connect(&self) -> Result<Box<dyn MoveConnection>, MoveError> {
        match self.leading().await {
            Ok(leading) => Ok(leading.moves),
            Err(Halt::Stop(error)) => Err(error),
            Err(Halt::Again(why)) => Err(self.unusable(why)),
        }
    }

    /// The server that leads.
    ///
    /// # Errors
    /// [`MoveError::Shard`] if none does.
    pub async fn leader(&self) -> Result<&Server, MoveError> {
        match self.leading().await {
            Ok(leading) => Ok(&self.servers[leading.index]),
            Err(Halt::Stop(error)) => Err(error),
            Err(Halt::Again(why)) => Err(self.unusable(why)),
        }
    }

    /// What an error of one of its servers means.
    #[must_use]
    pub fn failed(&self, error: &StorageError) -> MoveError {
        self.unusable(error.to_string())
    }

    fn unusable(&self, why: String) -> MoveError {
        let shard = self.name.clone();
        MoveError::Shard { shard, why }
    }

    /// Which of the slots it claims.
    ///
    /// # Errors
    /// [`MoveError::Shard`].
    pub async fn claimed(&self, slots: &SlotSet) -> Result<SlotSet, MoveError> {
        let mut moves = self.connect().await?;
        let mut claimed = Vec::new();
        for part in slots.parts(usize::MAX, RANGES_MAX) {
            let seen = moves
                .slots(&part)
                .await
                .map_err(|error| self.failed(&error))?;
            let owned = seen
                .rows
                .into_iter()
                .filter(|(_, row)| row.state.is_claim());
            claimed.extend(owned.map(|(slot, _)| slot));
        }
        Ok(claimed.into_iter().collect())
    }

    /// Its slots that are on their way, from it or to it.
    ///
    /// # Errors
    /// [`MoveError::Shard`].
    pub async fn on_their_way(&self) -> Result<Vec<(Slot, SlotRow<Box<str>>)>, MoveError> {
        let mut moves = self.connect().await?;
        let rows = moves.on_their_way().await;
        rows.map_err(|error| self.failed(&error))
    }

    /// The newest moves from it or to it, newest first.
    ///
    /// # Errors
    /// [`MoveError::Shard`].
    pub async fn records(&self, records_max: usize) -> Result<Vec<MoveRecord>, MoveError> {
        let mut moves = self.connect().await?;
        let records = moves.records(records_max).await;
        records.map_err(|error| self.failed(&error))
    }

    /// The oldest of the moves from it or to it that are open, oldest first.
    ///
    /// # Errors
    /// [`MoveError::Shard`].
    pub async fn open_records(&self, records_max: usize) -> Result<Vec<MoveRecord>, MoveError> {
        let mut moves = self.connect().await?;
        let records = moves.open_records(records_max).await;
        records.map_err(|error| self.failed(&error))
    }
}
