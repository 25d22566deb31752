//! Deciding who leads from what was seen, and believing it.

use std::sync::Arc;

use freehold_core::{Extent, Fence, ShardClaims};
use freehold_storage::{Refusal, StorageError};
use tokio::time::Instant;

use super::{MapLoader, look, post::Post};
use crate::{
    leadership::{Adoption, Decision, Observed, Verdict, decide, knows_term, term_max},
    shards::{Shard, Standing},
};

impl MapLoader {
    /// Notes the highest term, and who was read-only in it.
    pub(super) fn note_terms(&mut self) {
        let observed = self.observed();
        let known = self.known_fence();
        let Some(term) = term_max(known.as_ref(), &observed) else {
            return;
        };
        if self.term.is_none_or(|(before, _)| before < term) {
            self.term = Some((term, Instant::now()));
            // Whoever is seen read-only from now on was so in this term, and may be adopted after it:
            // a master that dies right after this router started finds it ready.
            self.hurry_all();
        }
        if let Some((term, since)) = self.term
            && knows_term(known.as_ref(), &observed)
        {
            for post in &mut self.posts {
                post.note_term(term, since);
            }
        }
    }

    /// Everything that is known of the servers now.
    pub(super) fn observed(&self) -> Vec<Observed> {
        let is_first_known = self.shards.is_cluster_known() || self.posts[0].answer.is_some();
        let agreed = self.agreed_cluster();
        self.posts_now()
            .map(|(place, post)| {
                let lanes = self.lanes(place);
                let check = |sight: &look::Answer| {
                    let leads = sight.claims.answered_by == sight.claims.fence.server_id;
                    let identity = &sight.claims.identity;
                    let decides = leads || agreed == Some(identity.cluster_id);
                    self.shards.check_identity(self.shard, identity, decides)
                };
                let may_lead = lanes.server.load().may_lead();
                post.observed((&lanes.address, may_lead), is_first_known, check)
            })
            .collect()
    }

    /// The cluster that more than half of the servers are of, where the first one does not answer: a
    /// master died, and routers that never saw one shall follow the next all the same.
    fn agreed_cluster(&self) -> Option<u64> {
        if !matches!(self.posts[0].answer, Some(Err(_))) {
            return None;
        }
        let answers = self
            .posts_now()
            .filter_map(|(_, post)| post.answer.as_ref());
        let answers = answers.filter_map(|answer| answer.as_ref().ok());
        let identities: Vec<_> = answers.map(|answer| &answer.claims.identity).collect();
        let first = *identities.first()?;
        let name = &self.of_shard().name;
        let agree = identities
            .iter()
            .filter(|identity| identity.name == **name && identity.cluster_id == first.cluster_id);
        (2 * agree.count() > self.posts_now().count()).then_some(first.cluster_id)
    }

    /// What follows from that, in places of the shard.
    pub(super) fn decision(
        &self,
        known: Option<&Fence>,
        observed: &[Observed],
        adoption: Adoption,
    ) -> Decision {
        let places: Vec<usize> = self.posts_now().map(|(place, _)| place).collect();
        let Decision { verdict, alarms } = decide(known, observed, adoption);
        let verdict = match verdict {
            Verdict::Leads(index) => Verdict::Leads(places[index]),
            Verdict::Adopt(index) => Verdict::Adopt(places[index]),
            Verdict::Ask(index) => Verdict::Ask(places[index]),
            other @ (Verdict::Wait | Verdict::Nobody(_)) => other,
        };
        let alarms = alarms.into_iter();
        Decision {
            verdict,
            alarms: alarms
                .map(|(index, words)| (places[index], words))
                .collect(),
        }
    }

    pub(super) fn decide(&mut self) {
        let observed = self.observed();
        let known = self.known_fence();
        let Decision {
            verdict,
            mut alarms,
        } = self.decision(known.as_ref(), &observed, self.settings.adoption);
        // What was seen before the term began says nothing about it.
        let stale = |post: &Post| {
            self.term
                .is_some_and(|(_, since)| !post.is_seen_since(since))
        };
        let (late, now): (Vec<_>, Vec<_>) = alarms
            .drain(..)
            .partition(|(place, _)| stale(&self.posts[*place]));
        self.raise(&now);
        for (place, _) in late {
            self.hurry(place);
        }
        match verdict {
            Verdict::Leads(place) => self.follow(place),
            Verdict::Adopt(place) => self.adopt(place),
            Verdict::Ask(place) => self.hurry(place),
            Verdict::Wait => {}
            Verdict::Nobody(reason) => {
                self.next_leader = None;
                let leader = self.leader();
                match self.posts.get(leader).and_then(|post| post.answer.as_ref()) {
                    Some(Err(error)) => self.note(standing_of(error).and(&reason)),
                    Some(Ok(_)) => self.note(Standing::Leaderless(reason.into())),
                    // It is being asked for the first time.
                    None => {}
                }
            }
        }
        self.decide_by_hand(known.as_ref(), &observed);
    }

    /// Believes the server that leads, once its rows are there.
    fn follow(&mut self, place: usize) {
        let is_new = place != self.leader();
        let Some((claims, extent)) = self.posts[place].loaded.take() else {
            if is_new && self.next_leader.replace(place) != Some(place) {
                self.posts[place].due = Instant::now();
            }
            return;
        };
        if is_new && extent != Extent::Whole {
            return;
        }
        self.next_leader = None;
        let standing = self.believe(place, claims, extent);
        if is_new && standing == Standing::Usable {
            let address = &self.lanes(place).address;
            tracing::warn!(shard = %self.of_shard().name, server = %address, "another server leads");
        }
        self.note(standing);
    }

    fn believe(&self, place: usize, claims: ShardClaims, extent: Extent) -> Standing {
        let checked = self
            .shards
            .check_identity(self.shard, &claims.identity, true);
        if let Err(problem) = checked {
            return Standing::Unfit(problem.into());
        }
        let is_new = place != self.leader();
        match self.known_fence() {
            Some(known) if known == claims.fence && !is_new => {}
            Some(known) if known.is_newer_than(&claims.fence) => {
                return Standing::Unfit(
                    format!(
                        "the fence went back from term {} epoch {} to term {} epoch {}: was the \
                         server restored from a backup? Restart the routers once that is settled",
                        known.term, known.epoch, claims.fence.term, claims.fence.epoch
                    )
                    .into(),
                );
            }
            _ => {
                self.shards.change_map(|map| {
                    let map = match is_new {
                        true => map.with_leader(self.shard, place),
                        false => map.clone(),
                    };
                    map.with_snapshot(self.shard, claims, extent)
                });
                // Who was given slots is to say so.
                for heir in self.shards.map.load().heirs_of(self.shard) {
                    self.shards.shard(heir).reload.notify_one();
                }
            }
        }
        Standing::Usable
    }

    fn note(&self, standing: Standing) {
        let shard = self.of_shard();
        let leader = self.shards.leader(self.shard);
        let before = leader.standing.load_full();
        if *before == standing {
            return;
        }
        match &standing {
            Standing::Usable => tracing::info!(shard = %shard.name, "shard is up"),
            other => {
                tracing::warn!(shard = %shard.name, reason = %other.reason(), "shard is not served")
            }
        }
        leader.set_standing(standing);
    }

    /// Raises and ends alarms.
    pub(super) fn raise(&self, alarms: &[(usize, String)]) {
        for (place, lanes) in self.of_shard().servers.iter().enumerate() {
            let alarm = alarms.iter().find(|(alarmed, _)| *alarmed == place);
            let alarm = alarm.map(|(_, reason)| reason.as_str());
            let before = lanes.alarm.load_full();
            if before.as_deref().map(|before| &**before) == alarm {
                continue;
            }
            let (shard, server) = (&self.of_shard().name, &lanes.address);
            match alarm {
                Some(reason) => tracing::error!(%shard, %server, reason, "alarm"),
                None => tracing::info!(%shard, %server, "alarm is over"),
            }
            lanes
                .alarm
                .store(alarm.map(|reason| Arc::new(reason.into())));
        }
    }

    /// Tells since when it is certain that nobody else leads: every server was looked at since then,
    /// or says nothing.
    pub(super) fn confirm(&self, shard: &Shard) {
        let is_led = self.next_leader.is_none() && self.shards.leader(self.shard).is_usable();
        let heard = self.posts_now().map(|(_, post)| post.heard_since());
        let heard = heard.min().flatten().filter(|_| is_led);
        let leader = self.leader();
        // One that came into the config a moment ago has no post yet.
        let post = self.posts.get(leader).filter(|_| is_led);
        let answered = post.and_then(Post::answered_since);
        shard
            .answering
            .store(answered.map(|began| Arc::new((leader, began))));
        shard.confirmed.send_if_modified(|confirmed| {
            let next = heard.map(|since| (leader, since));
            std::mem::replace(confirmed, next) != next
        });
    }
}

/// What an error says of the server it came from.
#[must_use]
pub fn standing_of(error: &StorageError) -> Standing {
    let reason: Arc<str> = error.to_string().into();
    match error {
        StorageError::Refused {
            refusal: Refusal::Schema,
            ..
        } => Standing::Unfit(format!("{reason}: run `freehold init`").into()),
        StorageError::Refused {
            refusal: Refusal::Denied,
            ..
        } => Standing::Unfit(reason),
        _ => Standing::Down(reason),
    }
}
