//! Whether a replica has nothing that its leader lacks: a pure comparison of what both were seen to
//! have.
//!
//! A MySQL server that received the tail that a failover lost can be pointed at the new leader, and
//! replicates without an error: auto-position looks at what the replica lacks, not at what it has
//! too much. MariaDB refuses that itself (`gtid_strict_mode`), and its positions would not show it.

use freehold_core::{Position, Term};
use tokio::time::Instant;

use crate::fitness::Fitness;

/// What the leader of a term had in a look that began then.
#[derive(Debug, Clone)]
pub struct LeaderHas {
    /// In which it led.
    pub term: Term,
    /// When the look began.
    pub began: Instant,
    /// Everything that it had committed.
    pub position: Position,
}

/// What is known of one replica's transactions.
#[derive(Debug, Default)]
pub struct History {
    /// The term that this is about.
    term: Option<Term>,
    /// What it had, and when that was known: the leader must have all of it in a look that begins
    /// later.
    unproven: Option<(Instant, Position)>,
    /// It has followed the leader since it was seen to have nothing else.
    is_proven: bool,
    /// It was so at some time of this term.
    was_proven: bool,
    /// The leader was seen to lack something.
    has_more: bool,
}

impl History {
    /// What becomes of a replica that otherwise follows, and had this in a look that ended now;
    /// `None` if nothing speaks against it.
    pub fn judge(
        &mut self,
        term: Term,
        has: Option<&Position>,
        now: Instant,
        leader: Option<&LeaderHas>,
    ) -> Option<Fitness> {
        let has = has.filter(|position| matches!(position, Position::Mysql(_)))?;
        if self.term != Some(term) {
            *self = Self {
                term: Some(term),
                ..Self::default()
            };
        }
        if self.is_proven {
            return None;
        }
        // One that was built anew lacks what it had.
        self.unproven = self.unproven.take().filter(|(_, had)| has.covers(had));
        let (since, unproven) = self.unproven.get_or_insert_with(|| (now, has.clone()));
        if let Some(leader) = leader.filter(|leader| leader.term == term && leader.began >= *since)
        {
            self.has_more = !leader.position.covers_shared(unproven);
            (self.is_proven, self.was_proven) = (!self.has_more, !self.has_more);
        }
        if self.is_proven {
            self.unproven = None;
            return None;
        }
        if self.has_more {
            let words = "has transactions that the leader lacks, as one that received what a \
                         failover lost: build it anew from the leader";
            return Some(Fitness::Foreign(words.into()));
        }
        let words = "what it has was not compared with the leader yet";
        Some(match self.was_proven {
            true => Fitness::Astray(words.into()),
            false => Fitness::Foreign(words.into()),
        })
    }

    /// It does not follow now: what it has when it does again is to be compared anew.
    pub fn doubt(&mut self) {
        (self.unproven, self.is_proven, self.has_more) = (None, false, false);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const LEADER: &str = "00000000-0000-0000-0000-00000000000b";
    const FORMER: &str = "00000000-0000-0000-0000-00000000000a";
    const OWN: &str = "00000000-0000-0000-0000-00000000000c";

    struct Scene {
        history: History,
        began: Instant,
    }

    impl Scene {
        fn new() -> Self {
            Self {
                history: History::default(),
                began: Instant::now(),
            }
        }

        /// A look at a replica that has this, 100 ms after one at the leader that had that.
        fn look(&mut self, term: u32, has: &str, leader: &str) -> Option<Fitness> {
            let position = |text: &str| Position::of_mysql(text).unwrap();
            self.began += Duration::from_millis(200);
            let term = Term::new(term.into(), 11);
            let leader = LeaderHas {
                term,
                began: self.began - Duration::from_millis(100),
                position: position(leader),
            };
            let has = position(has);
            self.history
                .judge(term, Some(&has), self.began, Some(&leader))
        }
    }

    fn is_foreign(fitness: Option<&Fitness>) -> bool {
        matches!(fitness, Some(Fitness::Foreign(_)))
    }

    #[test]
    fn a_replica_counts_once_a_later_look_at_the_leader_found_all_that_it_had() {
        let mut scene = Scene::new();
        let (at_first, later) = (format!("{FORMER}:1-102"), format!("{FORMER}:1-103"));
        assert!(is_foreign(scene.look(2, &later, &at_first).as_ref()));
        assert_eq!(scene.look(2, &later, &later), None);
        // A commit of the leader that is not over there yet.
        assert_eq!(scene.look(2, &format!("{FORMER}:1-104"), &later), None);
    }

    #[test]
    fn a_replica_with_the_tail_that_a_failover_lost_serves_nothing() {
        let mut scene = Scene::new();
        let leader = format!("{FORMER}:1-102,{LEADER}:1-9");
        let has = format!("{FORMER}:1-104,{LEADER}:1-9");
        for _ in 0..5 {
            assert!(is_foreign(scene.look(2, &has, &leader).as_ref()));
        }
        assert_eq!(
            scene
                .history
                .judge(Term::new(3, 11), None, scene.began, None),
            None,
            "nothing is known of a replica that shows nothing"
        );
    }

    #[test]
    fn a_replica_that_was_built_anew_is_compared_anew() {
        let mut scene = Scene::new();
        let (leader, more) = (format!("{FORMER}:1-102"), format!("{FORMER}:1-104"));
        scene.look(2, &more, &leader);
        assert!(is_foreign(scene.look(2, &more, &leader).as_ref()));
        assert!(is_foreign(scene.look(2, &leader, &leader).as_ref()));
        assert_eq!(scene.look(2, &leader, &leader), None);
    }

    #[test]
    fn what_only_the_replica_itself_ever_wrote_is_its_own_business() {
        let mut scene = Scene::new();
        let leader = format!("{FORMER}:1-102");
        let has = format!("{FORMER}:1-102,{OWN}:1-3");
        scene.look(2, &has, &leader);
        assert_eq!(scene.look(2, &has, &leader), None);
    }

    #[test]
    fn one_that_stopped_following_and_every_term_begin_anew() {
        let mut scene = Scene::new();
        let has = format!("{FORMER}:1-102");
        scene.look(2, &has, &has);
        assert_eq!(scene.look(2, &has, &has), None);
        scene.history.doubt();
        let again = scene.look(2, &has, &has);
        assert!(matches!(again, Some(Fitness::Astray(_))), "{again:?}");
        assert_eq!(scene.look(2, &has, &has), None);
        assert!(is_foreign(scene.look(3, &has, &has).as_ref()));
        assert_eq!(scene.look(3, &has, &has), None);
    }
}
