//! Finds the server that leads a shard, and keeps the map equal to what it says: one task per
//! shard.
//!
//! Three things, in turn: it looks (`look`, and what a `post` remembers of a server) at every server
//! now and then, at the leader also when a fence disagreed, and at all of them often while nobody
//! leads; it lets [`leadership`](crate::leadership) `judge` what it saw, and believes the leader
//! once cluster, shard and schema version are this router's; it lets a promoted server `adopt`
//! the shard, and then has claims that were on their way `compare`d with their peers'.

mod adopt;
mod compare;
mod judge;
mod look;
mod post;

use std::{sync::Arc, time::Duration};

use freehold_core::{Fence, ShardId};
use freehold_storage::StorageError;
use futures::{StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

pub use self::{adopt::AdoptRequest, judge::standing_of};
use self::{
    compare::{Compared, Comparing},
    look::{Load, Lookout, TimeLimits, look},
    post::Post,
};
use crate::{
    backoff::Backoff,
    leadership::{Adoption, SILENCE_MAX},
    shards::{ServerLanes, Shard, Shards},
};

/// While nobody leads, and after a look that failed, each server is looked at so often.
const LOOK_OFTEN: Duration = Duration::from_millis(100);

/// Each server is looked at so often at least: it bounds how long a promotion, or a former master
/// that comes back, goes unseen.
const LOOK_EVERY_MAX: Duration = Duration::from_millis(500);

/// How often to look at the leader while slots are changing hands: requests wait for what the shard
/// says next, and no fence disagrees meanwhile. After the first second it becomes less often.
const HANDOVER_POLL: Duration = Duration::from_millis(10);

/// Looks after one shard for as long as the router runs.
pub struct MapLoader {
    shards: Arc<Shards>,
    shard: ShardId,
    posts: Vec<Post>,
    settings: LoaderSettings,
    requests: mpsc::Receiver<AdoptRequest>,
    random: Backoff,
    jobs: FuturesUnordered<BoxFuture<'static, Done>>,
    /// The highest term that is known, and since when.
    term: Option<(u64, Instant)>,
    /// The server whose rows are loaded next, because it is about to lead.
    next_leader: Option<usize>,
    is_adopting: bool,
    comparing: Comparing,
    /// Since when slots have been changing hands without a break.
    hands_over_since: Option<Instant>,
    /// Who asks for an adoption by hand, and when.
    by_hand: Option<(Instant, AdoptRequest)>,
}

/// How a loader works.
#[derive(Debug, Clone)]
pub struct LoaderSettings {
    /// How often to look without cause.
    pub poll: Duration,
    /// How long one look may take, and an adoption.
    pub timeout: Duration,
    /// How long it may take to read all rows of a shard, up to one per slot: it is not begun anew
    /// where a machine is slow.
    pub load_timeout: Duration,
    /// How promoted servers come to lead.
    pub adoption: Adoption,
}

enum Done {
    Looked {
        place: usize,
        began: Instant,
        result: Result<(look::Answer, Lookout), StorageError>,
    },
    Adopted {
        place: usize,
        result: Result<bool, StorageError>,
    },
    Compared(Compared),
}

impl MapLoader {
    /// A loader that has looked at nothing. `seed` is for jitter.
    #[must_use]
    pub fn new(
        shards: Arc<Shards>,
        shard: ShardId,
        settings: LoaderSettings,
        requests: mpsc::Receiver<AdoptRequest>,
        seed: u64,
    ) -> Self {
        Self {
            shards,
            shard,
            posts: Vec::new(),
            settings,
            requests,
            random: Backoff::new(seed),
            jobs: FuturesUnordered::new(),
            term: None,
            next_leader: None,
            is_adopting: false,
            comparing: Comparing::new(),
            hands_over_since: None,
            by_hand: None,
        }
    }

    /// Looks until `shutdown`.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let shards = self.shards.clone();
        let shard = shards.shard(self.shard);
        let mut asked_by_hand = true;
        loop {
            self.take_posts();
            self.send_looks();
            let (due, leader) = (self.due(), self.leader());
            let mut looked = None;
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                Some(done) = self.jobs.next() => looked = self.done(done),
                () = shard.reload.notified() => self.hurry(self.leader()),
                () = shard.look_around.notified() => self.hurry_all(),
                request = self.requests.recv(), if asked_by_hand => match request {
                    Some(request) => self.asked_by_hand(request),
                    None => asked_by_hand = false,
                },
                () = sleep_until(due) => {}
            }
            self.decide();
            self.compare();
            if let Some(place) = looked {
                self.plan(place);
            }
            if looked == Some(leader) || self.leader() != leader {
                shard.loads.send_modify(|loads| *loads += 1);
            }
            self.confirm(shard);
        }
    }

    fn leader(&self) -> usize {
        self.shards.map.load().shard(self.shard).leader
    }

    fn of_shard(&self) -> &Shard {
        self.shards.shard(self.shard)
    }

    fn lanes(&self, place: usize) -> &ServerLanes {
        &self.of_shard().servers[place]
    }

    /// Takes notice of servers that came into the config or left it.
    fn take_posts(&mut self) {
        for (place, lanes) in self.shards.shard(self.shard).servers.iter().enumerate() {
            match self.posts.get_mut(place) {
                Some(post) => post.is_retired = lanes.is_retired(),
                None => self.posts.push(Post::new()),
            }
        }
    }

    /// The servers that are in the config now.
    fn posts_now(&self) -> impl Iterator<Item = (usize, &Post)> {
        let posts = self.posts.iter().enumerate();
        posts.filter(|(_, post)| !post.is_retired)
    }

    fn known_fence(&self) -> Option<Fence> {
        self.shards.map.load().shard(self.shard).fence
    }

    /// When something is to be done, if nothing happens before.
    fn due(&self) -> Instant {
        let now = Instant::now();
        let due = |post: &Post| match post.asked {
            // It is found to hang then.
            Some(asked) => Some(asked + SILENCE_MAX).filter(|then| *then > now),
            None => Some(post.due),
        };
        let due = self
            .posts_now()
            .filter_map(|(_, post)| due(post))
            .chain(self.comparing.due());
        let due = due.min();
        due.unwrap_or(now + SILENCE_MAX)
    }

    /// Has a server looked at now; one that does not answer no more often than others.
    fn hurry(&mut self, place: usize) {
        let Some(post) = self.posts.get_mut(place) else {
            return;
        };
        post.again = post.asked.is_some();
        let again_at = match post.answer {
            Some(Err(_)) => post.ended + LOOK_OFTEN,
            _ => Instant::now(),
        };
        post.due = post.due.min(again_at);
    }

    /// Has all servers looked at now.
    fn hurry_all(&mut self) {
        (0..self.posts.len()).for_each(|place| self.hurry(place));
    }

    fn send_looks(&mut self) {
        let now = Instant::now();
        let (leader, known) = (self.leader(), self.known_fence());
        let shards = self.shards.clone();
        let limits = TimeLimits {
            look: self.settings.timeout,
            load: self.settings.load_timeout,
        };
        for (place, post) in self.posts.iter_mut().enumerate() {
            if post.asked.is_some() || post.due > now || post.is_retired {
                continue;
            }
            post.asked = Some(now);
            let load = if place == leader {
                Load::Since(known)
            } else if self.next_leader == Some(place) {
                Load::Since(None)
            } else {
                Load::Nothing
            };
            let server = shards.shard(self.shard).servers[place].server.load_full();
            let looking = look(server, post.lookout.take(), load, limits);
            self.jobs.push(Box::pin(async move {
                Done::Looked {
                    place,
                    began: now,
                    result: looking.await,
                }
            }));
        }
    }

    /// Notes what came of a job; which server was looked at, if one was.
    fn done(&mut self, done: Done) -> Option<usize> {
        let now = Instant::now();
        let mut looked = None;
        match done {
            Done::Looked {
                place,
                began,
                result,
            } => {
                self.posts[place].looked(began, result);
                let again = std::mem::take(&mut self.posts[place].again);
                // At the latest: what is decided now may want it sooner.
                self.posts[place].due = now + self.settings.poll;
                if again {
                    self.hurry(place);
                }
                looked = Some(place);
            }
            Done::Adopted { place, result } => {
                self.is_adopting = false;
                // Whoever did it, its fence shows it; what was refused would be once more.
                let pause = match result {
                    Ok(_) => Duration::ZERO,
                    Err(_) => LOOK_OFTEN,
                };
                if result.is_ok() {
                    self.next_leader = Some(place);
                }
                self.adopted(place, result);
                self.posts[place].asked = None;
                self.posts[place].due = now + pause;
            }
            Done::Compared(compared) => self.compared(compared),
        }
        self.note_terms();
        looked
    }

    /// What lasts for long is asked for less often: a slot may wait for a shard that is down, or for
    /// a mover that somebody stopped.
    fn handover_poll(&self) -> Duration {
        let lasts = self.hands_over_since.map(|since| since.elapsed());
        let poll = lasts.unwrap_or_default() / 64;
        poll.clamp(HANDOVER_POLL, LOOK_EVERY_MAX)
    }

    /// Says when a server that was looked at is looked at again.
    fn plan(&mut self, place: usize) {
        let map = self.shards.map.load();
        let hands_over = place == map.shard(self.shard).leader && map.is_handing_over(self.shard);
        if place == map.shard(self.shard).leader {
            let since = hands_over.then(|| self.hands_over_since.unwrap_or_else(Instant::now));
            self.hands_over_since = since;
        }
        let answered = matches!(self.posts[place].answer, Some(Ok(_)));
        let all_is_well = self.shards.leader(self.shard).is_usable();
        let is_replicated = self.of_shard().is_replicated();
        let every = match all_is_well && (answered || is_replicated) {
            true if hands_over => self.handover_poll(),
            true if is_replicated => self.settings.poll.min(LOOK_EVERY_MAX),
            true => self.settings.poll,
            false => LOOK_OFTEN,
        };
        let again_at = Instant::now() + self.random.jitter(every);
        let post = &mut self.posts[place];
        post.due = post.due.min(again_at);
    }
}

fn no_answer(time_max: Duration) -> StorageError {
    StorageError::Unreachable {
        reason: format!("no answer within {time_max:?}").into(),
    }
}
