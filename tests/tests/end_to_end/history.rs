//! What was written and how each write ended, and the check that the store agrees.
//!
//! It knows nothing of Freehold's code: a key, the effects that were asked for, when it is to expire,
//! and three endings.
//! Each key has one writer, which writes it no more once an outcome is unknown.

use std::{collections::BTreeMap, ops::Range, time::Duration};

use tokio::time::Instant;

/// How far two servers' clocks, and what is rounded, may put a time to live off.
const CLOCKS_OFF_MAX: Duration = Duration::from_secs(1);

/// How a write ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// It was acknowledged.
    Applied,
    /// It was certainly not applied.
    NotApplied,
    /// It may have been applied.
    Unknown,
}

/// What a key shows after a write: a value, or nothing.
pub(crate) type Effect = Option<String>;

/// One key's writes.
#[derive(Debug, Default, Clone)]
pub(crate) struct Known {
    acknowledged: Effect,
    /// When that was heard of.
    acknowledged_at: Option<Instant>,
    unknown: Option<Effect>,
    refused: Vec<String>,
    /// When its value expires, at the earliest and at the latest; never, if absent.
    expires: Option<Range<Instant>>,
    /// Whether an expiry has an unknown outcome.
    expiry_unknown: bool,
}

/// All writes of a run.
#[derive(Debug, Default)]
pub(crate) struct History {
    keys: BTreeMap<String, Known>,
}

impl History {
    /// Notes a write.
    pub(crate) fn note(&mut self, key: &str, effect: Effect, ending: Ending) {
        let known = self.keys.entry(key.to_owned()).or_default();
        assert!(known.unknown.is_none(), "{key} was not to be written again");
        match ending {
            Ending::Applied => {
                known.acknowledged = effect;
                known.acknowledged_at = Some(Instant::now());
                known.expires = None;
            }
            Ending::Unknown => known.unknown = Some(effect),
            Ending::NotApplied => known.refused.extend(effect),
        }
    }

    /// Notes that the value was given so long to live, far longer than the run, or for ever.
    pub(crate) fn note_expiry(
        &mut self,
        key: &str,
        ttl: Option<Duration>,
        asked_at: Instant,
        ending: Ending,
    ) {
        let known = self.keys.entry(key.to_owned()).or_default();
        match ending {
            Ending::Applied => known.expires = ttl.map(|ttl| asked_at + ttl..Instant::now() + ttl),
            Ending::Unknown => known.expiry_unknown = true,
            Ending::NotApplied => {}
        }
    }

    /// What is wrong with the time that a key is shown to have left, by a read in this time; for
    /// ever, if absent.
    pub(crate) fn wrong_ttl(
        &self,
        key: &str,
        shown: Option<Duration>,
        asked: Range<Instant>,
    ) -> Option<String> {
        let known = self.keys.get(key)?;
        if known.unknown.is_some() || known.expiry_unknown {
            return None;
        }
        let is_right = match (&known.expires, shown) {
            (None, None) => true,
            (Some(expires), Some(shown)) => {
                asked.end + shown + CLOCKS_OFF_MAX >= expires.start
                    && asked.start + shown <= expires.end + CLOCKS_OFF_MAX
            }
            _ => false,
        };
        let left = known
            .expires
            .as_ref()
            .map(|expires| expires.end - asked.start);
        (!is_right).then(|| format!("{key}: {shown:?} to live instead of {left:?}"))
    }

    /// What a key must show now, if that is known.
    pub(crate) fn expected(&self, key: &str) -> Option<&Effect> {
        match self.keys.get(key) {
            None => Some(&None),
            Some(known) => known.unknown.is_none().then_some(&known.acknowledged),
        }
    }

    /// Every key that was written.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &String> {
        self.keys.keys()
    }

    /// How many keys have a write of this ending behind them.
    pub(crate) fn count(&self, ending: Ending) -> usize {
        let has = |known: &&Known| match ending {
            Ending::Applied => known.acknowledged.is_some(),
            Ending::NotApplied => !known.refused.is_empty(),
            Ending::Unknown => known.unknown.is_some() || known.expiry_unknown,
        };
        self.keys.values().filter(has).count()
    }

    /// Keys whose last write has an unknown outcome and was applied: its answer was lost.
    pub(crate) fn unanswered(&self, found: &BTreeMap<String, String>) -> Vec<&String> {
        let lost = self.keys.iter().filter(|(key, known)| {
            let shown = found.get(*key).cloned();
            shown != known.acknowledged && known.unknown.as_ref() == Some(&shown)
        });
        lost.map(|(key, _)| key).collect()
    }

    /// Adds the writes of another writer.
    pub(crate) fn merge(&mut self, other: Self) {
        for (key, known) in other.keys {
            let before = self.keys.insert(key, known);
            assert!(before.is_none(), "a key has one writer");
        }
    }

    /// What the store shows and must not show, of keys that were last acknowledged after a time.
    pub(crate) fn violations_since(
        &self,
        time: Instant,
        found: &BTreeMap<String, String>,
    ) -> Vec<String> {
        let is_later = |known: &&Known| known.acknowledged_at.is_some_and(|at| at >= time);
        let later = self.keys.iter().filter(|(_, known)| is_later(known));
        let keys = later.map(|(key, known)| (key.clone(), known.clone()));
        let later = Self {
            keys: keys.collect(),
        };
        let is_of_them = |key: &&String| later.keys.contains_key(*key);
        let found = found.iter().filter(|(key, _)| is_of_them(key));
        let found = found.map(|(key, value)| (key.clone(), value.clone()));
        later.violations(&found.collect())
    }

    /// What the store shows and must not show.
    pub(crate) fn violations(&self, found: &BTreeMap<String, String>) -> Vec<String> {
        let nobody = found
            .keys()
            .filter(|key| !self.keys.contains_key(*key))
            .map(|key| format!("{key}: nobody wrote it"));
        let wrong = self.keys.iter().filter_map(|(key, known)| {
            let shown = found.get(key).cloned();
            let may_be = shown == known.acknowledged || known.unknown.as_ref() == Some(&shown);
            if may_be {
                return None;
            }
            let refused = shown
                .as_ref()
                .is_some_and(|shown| known.refused.contains(shown));
            let what = if refused {
                "a write that was said not to be applied is there"
            } else {
                "an acknowledged write is lost or undone"
            };
            Some(format!("{key}: {what}: shown {shown:?}, known {known:?}"))
        });
        nobody.chain(wrong).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn check(writes: &[(Option<&str>, Ending)], shown: Option<&str>) -> Vec<String> {
        let mut history = History::default();
        for (effect, ending) in writes {
            history.note("k", effect.map(str::to_owned), *ending);
        }
        let found = shown.map(|value| ("k".to_owned(), value.to_owned()));
        history.violations(&found.into_iter().collect())
    }

    #[test]
    fn the_checker_accepts_what_the_endings_allow() {
        use Ending::{Applied, NotApplied, Unknown};
        assert!(check(&[(Some("1"), Applied)], Some("1")).is_empty());
        assert!(check(&[(Some("1"), Applied), (None, Applied)], None).is_empty());
        assert!(check(&[(Some("1"), Applied), (Some("2"), NotApplied)], Some("1")).is_empty());
        for shown in [Some("1"), Some("2")] {
            let writes = [(Some("1"), Applied), (Some("2"), Unknown)];
            assert!(check(&writes, shown).is_empty());
        }
        assert!(check(&[(Some("1"), Applied), (None, Unknown)], None).is_empty());
    }

    #[test]
    fn the_checker_finds_planted_bugs() {
        use Ending::{Applied, NotApplied, Unknown};
        for (writes, shown, words) in [
            (vec![(Some("1"), Applied)], None, "lost"),
            (
                vec![(Some("1"), Applied), (Some("2"), Applied)],
                Some("1"),
                "lost",
            ),
            (
                vec![(Some("1"), Applied), (None, Applied)],
                Some("1"),
                "undone",
            ),
            (
                vec![(Some("1"), NotApplied)],
                Some("1"),
                "said not to be applied",
            ),
            (
                vec![(Some("1"), Applied), (Some("2"), Unknown)],
                Some("3"),
                "lost",
            ),
            (
                vec![(Some("1"), Applied), (Some("2"), Unknown)],
                None,
                "lost",
            ),
        ] {
            let found = check(&writes, shown);
            assert!(
                found.len() == 1 && found[0].contains(words),
                "{writes:?}: {found:?}"
            );
        }
        let mut history = History::default();
        let before = Instant::now();
        history.note("k", Some("1".to_owned()), Applied);
        assert_eq!(history.violations_since(before, &BTreeMap::new()).len(), 1);
        let after = Instant::now() + Duration::from_secs(1);
        assert!(history.violations_since(after, &BTreeMap::new()).is_empty());
        let stranger = [("x".to_owned(), "1".to_owned())].into();
        assert_eq!(
            History::default().violations(&stranger),
            ["x: nobody wrote it"]
        );
    }

    #[test]
    fn the_checker_knows_how_long_keys_live() {
        let hours = |hours: u64| Some(Duration::from_secs(hours * 3_600));
        let now = Instant::now();
        let mut history = History::default();
        history.note("k", Some("1".to_owned()), Ending::Applied);
        let wrong = |history: &History, shown| {
            let later = Instant::now() + Duration::from_millis(1);
            history.wrong_ttl("k", shown, now..later).is_some()
        };
        assert!(!wrong(&history, None) && wrong(&history, hours(1)));
        history.note_expiry("k", hours(2), now, Ending::Applied);
        assert!(!wrong(&history, hours(2)));
        for shown in [None, hours(1), hours(3)] {
            assert!(wrong(&history, shown), "{shown:?}");
        }
        history.note_expiry("k", None, now, Ending::NotApplied);
        assert!(wrong(&history, None), "that was not applied");
        history.note("k", Some("2".to_owned()), Ending::Applied);
        assert!(!wrong(&history, None), "a put lasts for ever");
        history.note_expiry("k", hours(1), now, Ending::Unknown);
        assert!(!wrong(&history, None) && !wrong(&history, hours(1)));
    }
}
