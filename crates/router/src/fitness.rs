//! What a replica may be used for: a pure judgement of what was seen of it.

use std::{fmt, sync::Arc};

use freehold_core::{Fence, Position};
use freehold_storage::watch::{Channel, Replication, Sight};

/// What a replica may be used for, and why for no more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fitness {
    /// For every level: it follows the master, in order.
    Follows,
    /// For EVENTUAL, for good: how it is set up proves no more.
    OnlyEventual(Arc<str>),
    /// For EVENTUAL, and after a while not even for that: it does not follow the master now.
    Astray(Arc<str>),
    /// For nothing: what it shows is no past of the shard, or cannot be told to be one.
    Foreign(Arc<str>),
}

impl Fitness {
    /// The word in metrics.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Follows => "follows",
            Self::OnlyEventual(_) => "only_eventual",
            Self::Astray(_) => "astray",
            Self::Foreign(_) => "foreign",
        }
    }

    /// Why it is not used for everything; empty if it is.
    #[must_use]
    pub fn reason(&self) -> Arc<str> {
        match self {
            Self::Follows => "".into(),
            Self::OnlyEventual(reason) | Self::Astray(reason) | Self::Foreign(reason) => {
                reason.clone()
            }
        }
    }
}

fn astray(reason: impl fmt::Display) -> Fitness {
    Fitness::Astray(reason.to_string().into())
}

fn foreign(reason: impl fmt::Display) -> Fitness {
    Fitness::Foreign(reason.to_string().into())
}

fn only_eventual(reason: &str) -> Fitness {
    Fitness::OnlyEventual(reason.into())
}

/// Judges a server that does not lead by what a look at it showed.
#[must_use]
pub fn judge(sight: &Sight, replication: &Replication, believed: &Fence) -> Fitness {
    let (shown, term) = (&sight.fence, believed.term);
    // What another term took may be lost, or nobody's yet.
    if shown.term < term {
        return foreign(format_args!(
            "shows term {}, and the shard is in term {term}: it is behind, or follows a former master",
            shown.term
        ));
    }
    if shown.term > term {
        return foreign(format_args!(
            "shows term {}, which this router has not seen yet",
            shown.term
        ));
    }
    if shown.server_id != believed.server_id {
        return foreign(format_args!(
            "shows term {term} of server {}, and server {} leads in it: another history",
            shown.server_id, believed.server_id
        ));
    }
    match replication.channels.as_slice() {
        [] => return astray("it replicates from nowhere"),
        [only] => {
            if let Some(fitness) = judge_channel(only, believed.server_id) {
                return fitness;
            }
        }
        channels if channels.iter().all(|channel| channel.is_of_group) => {
            // Of the group's two channels one applies; the other works only while a member joins.
            if !channels.iter().any(|channel| channel.applies) {
                return astray("the group's applier is stopped");
            }
        }
        _ => return only_eventual("it replicates from several sources"),
    }
    if !replication.keeps_commit_order {
        return only_eventual("it commits out of order: set replica_preserve_commit_order = ON");
    }
    if sight.position.as_ref().map_or(0, Position::sequences) > 1 {
        return only_eventual("it mixes several GTID domains");
    }
    if sight.beat.term != term || sight.beat.seq == 0 {
        return astray(format_args!("it has shown no heartbeat of term {term}"));
    }
    Fitness::Follows
}

/// What the only source of a server makes of it, if that is not enough.
fn judge_channel(channel: &Channel, master: u64) -> Option<Fitness> {
    let words = match channel.error.as_str() {
        "" => String::new(),
        error => format!(": {error}"),
    };
    if channel.is_of_group {
        return (!channel.applies)
            .then(|| astray(format_args!("the group's applier is stopped{words}")));
    }
    if !channel.applies {
        return Some(astray(format_args!("its applier is stopped{words}")));
    }
    if !channel.receives {
        return Some(astray(format_args!("its receiver is not connected{words}")));
    }
    if channel.source_id != master {
        return Some(astray(format_args!(
            "its source is server {}, and server {master} leads",
            channel.source_id
        )));
    }
    channel
        .filters
        .then(|| only_eventual("its filters leave something out"))
}

#[cfg(test)]
mod tests {
    use freehold_core::{Beat, ShardIdentity};

    use super::*;

    const MASTER: u64 = 1;

    fn fence(term: u64, server_id: u64) -> Fence {
        Fence {
            server_id,
            stamp: 7,
            term,
            epoch: 3,
        }
    }

    fn sight(fence: Fence) -> Sight {
        let identity = ShardIdentity {
            name: "a".to_owned(),
            cluster_id: 1,
            schema_version: 1,
        };
        Sight {
            identity,
            fence,
            answered_by: 2,
            beat: Beat { term: 2, seq: 9 },
            position: Position::of_mariadb("0-1-5").ok(),
        }
    }

    fn replication() -> Replication {
        let channel = Channel {
            source_id: MASTER,
            is_of_group: false,
            receives: true,
            applies: true,
            filters: false,
            error: String::new(),
        };
        Replication {
            channels: vec![channel],
            keeps_commit_order: true,
        }
    }

    /// Judged after a change of what is fine.
    fn changed(change: impl FnOnce(&mut Sight, &mut Replication)) -> Fitness {
        let (mut sight, mut replication) = (sight(fence(2, MASTER)), replication());
        change(&mut sight, &mut replication);
        judge(&sight, &replication, &fence(2, MASTER))
    }

    #[test]
    fn a_replica_that_follows_in_order_is_fit_for_everything() {
        assert_eq!(changed(|_, _| {}), Fitness::Follows);
    }

    #[test]
    fn what_does_not_follow_the_master_is_astray() {
        let astray = |change: fn(&mut Sight, &mut Replication), why: &str| {
            let fitness = changed(change);
            assert!(matches!(fitness, Fitness::Astray(_)), "{fitness:?}");
            assert!(fitness.reason().contains(why), "{fitness:?}");
        };
        astray(|_, r| r.channels.clear(), "nowhere");
        astray(|_, r| r.channels[0].applies = false, "applier");
        astray(|_, r| r.channels[0].receives = false, "receiver");
        astray(|_, r| r.channels[0].source_id = 9, "server 9");
        astray(|s, _| s.beat = Beat { term: 1, seq: 9 }, "no heartbeat");
        astray(|s, _| s.beat.seq = 0, "no heartbeat");
    }

    #[test]
    fn what_proves_too_little_serves_eventual_only() {
        let only = |change: fn(&mut Sight, &mut Replication)| {
            let fitness = changed(change);
            assert!(matches!(fitness, Fitness::OnlyEventual(_)), "{fitness:?}");
        };
        only(|_, r| r.keeps_commit_order = false);
        only(|_, r| r.channels[0].filters = true);
        only(|_, r| r.channels.push(r.channels[0].clone()));
        only(|s, _| s.position = Position::of_mariadb("0-1-5,1-1-5").ok());
    }

    #[test]
    fn a_server_of_another_history_or_term_serves_nothing() {
        let others: [fn(&mut Sight, &mut Replication); 3] = [
            |sight, _| sight.fence.server_id = 9,
            |sight, _| sight.fence.term = 1,
            |sight, _| sight.fence.term = 3,
        ];
        for other in others {
            let fitness = changed(other);
            assert!(matches!(fitness, Fitness::Foreign(_)), "{fitness:?}");
        }
    }

    #[test]
    fn a_member_of_a_group_has_no_source_of_its_own() {
        let member = |applies| {
            changed(|_, r| {
                r.channels[0] = Channel {
                    source_id: 0,
                    is_of_group: true,
                    receives: false,
                    applies,
                    ..r.channels[0].clone()
                };
            })
        };
        assert_eq!(member(true), Fitness::Follows);
        assert!(matches!(member(false), Fitness::Astray(_)));
    }
}
