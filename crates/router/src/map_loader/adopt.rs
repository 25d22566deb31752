//! Adopting a promoted server, by itself or because an operator says so.

use std::sync::Arc;

use freehold_core::Fence;
use freehold_storage::StorageError;
use tokio::{
    sync::oneshot,
    time::{Instant, timeout},
};

use super::{Done, MapLoader, no_answer, post::Post};
use crate::leadership::{Adoption, Decision, Observed, Verdict};

/// A server as an operator asks to have it adopted, and how it went: its address, or why not.
pub type AdoptRequest = oneshot::Sender<Result<Arc<str>, String>>;

impl MapLoader {
    pub(super) fn adopt(&mut self, place: usize) {
        let post = &mut self.posts[place];
        if self.is_adopting || post.asked.is_some() {
            return;
        }
        let (Some(Ok(answer)), Some(mut lookout)) = (&post.answer, post.lookout.take()) else {
            post.due = Instant::now();
            return;
        };
        let seen = answer.claims.fence;
        let known = self
            .shards
            .map
            .load()
            .shard(self.shard)
            .fence
            .unwrap_or(seen);
        let time_max = self.settings.timeout;
        post.asked = Some(Instant::now());
        self.is_adopting = true;
        self.jobs.push(Box::pin(async move {
            let adopting = lookout.connection.adopt(&seen, &known);
            let result = timeout(time_max, adopting).await;
            Done::Adopted {
                place,
                result: result.unwrap_or_else(|_| Err(no_answer(time_max))),
            }
        }));
    }

    pub(super) fn adopted(&mut self, place: usize, result: Result<bool, StorageError>) {
        let (shard, server) = (&self.of_shard().name, self.lanes(place).address.clone());
        match &result {
            Ok(true) => tracing::warn!(%shard, %server, "promoted server adopted"),
            Ok(false) => tracing::info!(%shard, %server, "another router adopted it"),
            Err(error) => tracing::warn!(%shard, %server, %error, "server not adopted"),
        }
        if let Some((_, request)) = self.by_hand.take() {
            let answer = result.map(|_| server).map_err(|error| error.to_string());
            drop(request.send(answer));
        }
    }

    /// Looks at all servers anew before it decides.
    pub(super) fn asked_by_hand(&mut self, request: AdoptRequest) {
        self.by_hand = Some((Instant::now(), request));
        for place in 0..self.posts.len() {
            self.hurry(place);
        }
    }

    pub(super) fn decide_by_hand(&mut self, known: Option<&Fence>, observed: &[Observed]) {
        let Some((asked, _)) = &self.by_hand else {
            return;
        };
        let is_heard = |post: &Post| post.is_heard_since(*asked);
        if self.is_adopting || !self.posts_now().all(|(_, post)| is_heard(post)) {
            return;
        }
        let Decision { verdict, alarms } = self.decision(known, observed, Adoption::ByHand);
        let refusal = match verdict {
            Verdict::Adopt(place) => return self.adopt(place),
            Verdict::Ask(place) => return self.hurry(place),
            Verdict::Wait => return,
            Verdict::Leads(place) => {
                format!(
                    "{} leads: there is nothing to adopt",
                    self.lanes(place).address
                )
            }
            Verdict::Nobody(reason) => {
                let alarms = alarms.into_iter();
                let alarms = alarms
                    .map(|(place, alarm)| format!("; {}: {alarm}", self.lanes(place).address));
                reason + &alarms.collect::<String>()
            }
        };
        if let Some((_, request)) = self.by_hand.take() {
            drop(request.send(Err(refusal)));
        }
    }
}
