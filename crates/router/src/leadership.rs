//! Which server of a shard leads it: a pure function of what was seen of each.
//!
//! A server that the fence names, that takes writes and shows the highest term of all, leads. One
//! that an operator or the group promoted leads once it is adopted, which happens only if nothing
//! speaks against it:
//!
//! - It copies nothing any more, and has applied everything that it received.
//! - It was read-only at some time of the current term, so it was a replica then. A member of a
//!   group needs no such witness: the group has agreed on it by majority, now.
//! - No other server takes writes under the same term; if one does, neither is served.
//! - The current term is known: this router has served it, or a majority of the servers answered.
//!
//! By hand, the second rule is the operator's to vouch for. The others hold all the same.

use std::{collections::HashSet, sync::Arc, time::Duration};

use freehold_core::Fence;
use freehold_storage::{GroupMember, Part};
use tokio::time::Instant;

/// A server that says nothing for so long does not lead any more, if another one was promoted: it
/// hangs, or cannot be reached.
pub const SILENCE_MAX: Duration = Duration::from_secs(1);

/// What one look at a server showed.
#[derive(Debug, Clone)]
pub struct Sight {
    /// Its copy of the fence.
    pub fence: Fence,
    /// Its own `@@server_id`.
    pub server_id: u64,
    /// Whether it takes writes, and what it copies.
    pub part: Part,
    /// When the look began: it shows nothing older.
    pub began: Instant,
}

impl Sight {
    /// Whether it is the server that its fence names.
    fn is_named(&self) -> bool {
        self.fence.server_id == self.server_id
    }

    /// Whether it stores what it is sent, as far as its settings and its group say.
    fn takes_writes(&self) -> bool {
        !self.part.read_only && !self.is_left_by_group()
    }

    fn group(&self) -> Option<GroupMember> {
        let copying = self.part.copying.as_ref().ok();
        copying.and_then(|copying| copying.group)
    }

    /// Whether its group vouches for it.
    fn is_chosen_by_group(&self) -> bool {
        self.group().is_some_and(|member| member.leads())
    }

    /// Whether it is a member of a group that may have chosen another one.
    fn is_left_by_group(&self) -> bool {
        self.group().is_some_and(|member| !member.leads())
    }

    /// Why it still belongs to another server, if it does.
    fn copies(&self) -> Option<String> {
        match &self.part.copying {
            Ok(copying) if copying.is_over() => None,
            Ok(copying) if copying.receiver_runs => Some("its receiver still runs".to_owned()),
            Ok(copying) if copying.applier_runs => Some("its applier still runs".to_owned()),
            Ok(_) => Some("it has received what it has not applied".to_owned()),
            Err(words) => Some(format!("what it copies cannot be seen ({words})")),
        }
    }
}

/// What is known of a server now.
#[derive(Debug, Clone)]
pub enum Presence {
    /// The first look is under way.
    Pending,
    /// It does not answer, and why.
    Silent(Arc<str>),
    /// What its last answer showed. It may have been asked again since.
    Seen(Sight),
    /// It was asked [`SILENCE_MAX`] ago and has not answered; what it showed before.
    Hanging(Sight),
}

/// One server, as the decision sees it.
#[derive(Debug, Clone)]
pub struct Observed {
    /// Host and port.
    pub address: Arc<str>,
    /// False for one that the config marks as never promoted.
    pub may_lead: bool,
    /// What is known of it.
    pub presence: Presence,
    /// The term during which it was last seen read-only, if it ever was.
    pub read_only_in: Option<u64>,
    /// Since which look it has been seen to take writes without a break.
    pub open_since: Option<Instant>,
}

impl Observed {
    fn sight(&self) -> Option<&Sight> {
        match &self.presence {
            Presence::Seen(sight) => Some(sight),
            Presence::Pending | Presence::Silent(_) | Presence::Hanging(_) => None,
        }
    }

    /// What it last showed, whether it would still.
    fn last_sight(&self) -> Option<&Sight> {
        match &self.presence {
            Presence::Seen(sight) | Presence::Hanging(sight) => Some(sight),
            Presence::Pending | Presence::Silent(_) => None,
        }
    }
}

/// How promoted servers come to lead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Adoption {
    /// As soon as one is seen that may.
    Automatic,
    /// When an operator says so.
    Manual,
    /// An operator says so.
    ByHand,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// This server leads.
    Leads(usize),
    /// This server is to be adopted.
    Adopt(usize),
    /// This server has to be asked once more before anything is decided.
    Ask(usize),
    /// Too little is known.
    Wait,
    /// Nobody leads, and why.
    Nobody(String),
}

/// A verdict, and what somebody has to look after.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// What is to be done.
    pub verdict: Verdict,
    /// Servers that take writes and must not be sent any, each with the reason.
    pub alarms: Vec<(usize, String)>,
}

/// The highest term that is known of a shard.
#[must_use]
pub fn term_max(known: Option<&Fence>, servers: &[Observed]) -> Option<u64> {
    let shown = servers.iter().filter_map(Observed::last_sight);
    let shown = shown.map(|sight| sight.fence.term);
    shown.chain(known.map(|fence| fence.term)).max()
}

/// Whether the term is known so well that a server may be adopted over it.
#[must_use]
pub fn knows_term(known: Option<&Fence>, servers: &[Observed]) -> bool {
    let answered = servers.iter().filter(|server| server.sight().is_some());
    known.is_some() || 2 * answered.count() > servers.len()
}

/// Who leads, given the latest fence that this router served (if it did) and what is known of each
/// server.
#[must_use]
pub fn decide(known: Option<&Fence>, servers: &[Observed], adoption: Adoption) -> Decision {
    let Some(term) = term_max(known, servers) else {
        let verdict = match servers.iter().any(is_pending) {
            true => Verdict::Wait,
            false => Verdict::Nobody(silence(servers).unwrap_or_else(unanswered)),
        };
        let alarms = Vec::new();
        return Decision { verdict, alarms };
    };
    let alarms = alarms(term, servers, adoption);
    let seen = || {
        let servers = servers.iter().enumerate();
        servers.filter_map(|(index, server)| Some((index, server.sight()?)))
    };
    let leads =
        |sight: &Sight| sight.is_named() && sight.takes_writes() && sight.fence.term == term;
    let mut leaders: Vec<(usize, &Sight)> = seen().filter(|(_, sight)| leads(sight)).collect();
    // One server under two names is no rival of itself. (Its fence may have changed in between.)
    let mut known_ids = HashSet::new();
    leaders.retain(|(_, sight)| known_ids.insert(sight.server_id));
    let promoted: Vec<(usize, &Sight)> = seen()
        .filter(|(index, _)| obstacle(&servers[*index], term, adoption).is_none())
        .collect();
    let rivals: Vec<usize> = leaders
        .iter()
        .chain(&promoted)
        .map(|(index, _)| *index)
        .collect();
    let verdict = match (leaders.as_slice(), promoted.as_slice()) {
        ([(leader, _)], []) if !servers.iter().any(is_pending) || known.is_some() => {
            Verdict::Leads(*leader)
        }
        ([_], []) | ([], _) if servers.iter().any(is_pending) => Verdict::Wait,
        // The leader may have answered before the other one was promoted.
        ([(leader, before)], [(other, _), ..])
            if servers[*other]
                .open_since
                .is_none_or(|open| before.began <= open) =>
        {
            Verdict::Ask(*leader)
        }
        ([], []) => match servers.iter().position(|server| may_go_on(server, term)) {
            Some(index) => Verdict::Leads(index),
            None => Verdict::Nobody(nobody(servers, term, adoption)),
        },
        ([], [(index, _)]) if !knows_term(known, servers) => Verdict::Nobody(format!(
            "{} was promoted, and too few servers answer to tell the current term: start them, or take \
             those that are gone for good out of the config",
            servers[*index].address
        )),
        ([], [(index, _)]) if adoption == Adoption::Manual => Verdict::Nobody(format!(
            "{} was promoted and waits for `freehold adopt`",
            servers[*index].address
        )),
        ([], [(index, _)]) => Verdict::Adopt(*index),
        _ => {
            let addresses: Vec<&str> = rivals
                .iter()
                .map(|index| &*servers[*index].address)
                .collect();
            let reason = format!(
                "{} take writes in term {term}: none of them is served. Switch off all but the one \
                 that was promoted last",
                addresses.join(" and ")
            );
            let mut alarms = alarms;
            alarms.extend(rivals.iter().map(|rival| (*rival, reason.clone())));
            let verdict = Verdict::Nobody(reason);
            return Decision { verdict, alarms };
        }
    };
    Decision { verdict, alarms }
}

/// Whether a server that led may be asked for what it can still do, where nobody else leads: it may
/// only hang, or somebody closed it for writes for a while.
fn may_go_on(server: &Observed, term: u64) -> bool {
    let sight = server.last_sight();
    sight.is_some_and(|sight| {
        sight.is_named() && sight.fence.term == term && !sight.is_left_by_group()
    })
}

fn is_pending(server: &Observed) -> bool {
    matches!(server.presence, Presence::Pending)
}

/// What speaks against adopting a server. Whoever is not writable, or is the one that the fence
/// names, is no candidate.
fn obstacle(server: &Observed, term: u64, adoption: Adoption) -> Option<String> {
    let Some(sight) = server.sight() else {
        return Some("it does not answer".to_owned());
    };
    if !server.may_lead {
        return Some("the config says that it is never promoted".to_owned());
    }
    if !sight.takes_writes() {
        return Some("it is read-only".to_owned());
    }
    if sight.is_named() {
        return Some("it led an earlier term".to_owned());
    }
    let witnessed = server.read_only_in == Some(term)
        || sight.is_chosen_by_group()
        || adoption == Adoption::ByHand;
    let unwitnessed = || {
        format!(
            "this router has not seen it read-only during term {term}: if it was promoted, run \
             `freehold adopt`"
        )
    };
    sight.copies().or_else(|| (!witnessed).then(unwitnessed))
}

/// Servers that take writes although they neither lead nor copy.
fn alarms(term: u64, servers: &[Observed], adoption: Adoption) -> Vec<(usize, String)> {
    let mut alarms = Vec::new();
    for (index, server) in servers.iter().enumerate() {
        let Some(sight) = server.sight().filter(|sight| sight.takes_writes()) else {
            continue;
        };
        if sight.is_named() {
            if sight.fence.term < term {
                alarms.push((
                    index,
                    format!(
                        "a former master takes writes: it led term {}, and the shard is in term \
                         {term}. Switch it off, or make it a replica",
                        sight.fence.term
                    ),
                ));
            }
        } else if sight.copies().is_none()
            && let Some(obstacle) = obstacle(server, term, adoption)
        {
            alarms.push((
                index,
                format!("it takes writes and is no replica: {obstacle}"),
            ));
        }
    }
    alarms
}

/// Why there is nobody, as the one that comes first in the config shows it.
fn nobody(servers: &[Observed], term: u64, adoption: Adoption) -> String {
    let is_named = |server: &&Observed| server.sight().is_some_and(Sight::is_named);
    if let Some(server) = servers.iter().find(is_named) {
        return format!("{} takes no writes", server.address);
    }
    let not_adopted = |server: &Observed| {
        let obstacle = obstacle(server, term, adoption)?;
        let address = &server.address;
        Some(format!(
            "{address} is not the server that the fence names, and is not adopted: {obstacle}"
        ))
    };
    silence(servers)
        .or_else(|| servers.iter().find_map(not_adopted))
        .unwrap_or_else(unanswered)
}

fn unanswered() -> String {
    "no server answers".to_owned()
}

fn silence(servers: &[Observed]) -> Option<String> {
    servers.iter().find_map(|server| match &server.presence {
        Presence::Silent(reason) => Some(reason.to_string()),
        Presence::Pending | Presence::Seen(_) | Presence::Hanging(_) => None,
    })
}

#[cfg(test)]
#[path = "leadership_tests.rs"]
mod tests;
