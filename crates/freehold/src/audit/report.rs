//! What came of an audit.

use freehold_core::slot::SLOTS;
use freehold_storage::audit::{OCCUPIED_ROWS_MAX, Place};
use serde_json::{Value, json};

use super::{
    owners::{Ownership, ranges},
    strays::Stray,
};
use crate::{
    cluster::plan::ranges as range_words,
    output::{bytes::Encoding, human},
};

/// All of it.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) slots: Ownership,
    pub(crate) shards: Vec<ShardReport>,
}

/// One shard.
#[derive(Debug)]
pub(crate) struct ShardReport {
    pub(crate) name: String,
    /// The server that leads; empty if none does.
    pub(crate) master: String,
    /// Why it could not be looked at.
    pub(crate) unreached: Option<String>,
    pub(crate) strays: Vec<Stray>,
    pub(crate) replicas: Vec<Compared>,
}

impl ShardReport {
    pub(crate) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            master: String::new(),
            unreached: None,
            strays: Vec::new(),
            replicas: Vec::new(),
        }
    }
}

/// A replica beside its master.
#[derive(Debug)]
pub(crate) struct Compared {
    pub(crate) address: String,
    /// Rows of the master that were compared.
    pub(crate) rows: u64,
    /// Rows that differ.
    pub(crate) differences: u64,
    /// Some of them, each with whether the master and the replica have it.
    pub(crate) told: Vec<(Place, (bool, bool))>,
    /// Rows that were written too often to be compared.
    pub(crate) undecided: u64,
    /// Why it ended early.
    pub(crate) unfinished: Option<String>,
}

impl Compared {
    pub(crate) fn new(address: &str) -> Self {
        Self {
            address: address.to_owned(),
            rows: 0,
            differences: 0,
            told: Vec::new(),
            undecided: 0,
            unfinished: None,
        }
    }

    /// Notes a row that differs.
    pub(crate) fn differ(&mut self, place: Place, there: (bool, bool), told_max: usize) {
        self.differences += 1;
        if self.told.len() < told_max {
            self.told.push((place, there));
        }
    }
}

impl Report {
    /// Whether something is as it must not be.
    pub(crate) fn has_findings(&self) -> bool {
        let of_shard = |shard: &ShardReport| {
            !shard.strays.is_empty() || shard.replicas.iter().any(|other| other.differences > 0)
        };
        !self.slots.contested.is_empty()
            || (!self.slots.unowned.is_empty() && self.slots.unasked.is_empty())
            || self.shards.iter().any(of_shard)
    }

    /// Whether something could not be looked at.
    pub(crate) fn is_incomplete(&self) -> bool {
        let of_shard = |shard: &ShardReport| {
            let cut = |other: &Compared| other.unfinished.is_some() || other.undecided > 0;
            shard.unreached.is_some() || shard.replicas.iter().any(cut)
        };
        !self.slots.unasked.is_empty() || self.shards.iter().any(of_shard)
    }

    /// What is wrong, one line each; then what could not be looked at.
    pub(crate) fn lines(&self) -> Vec<String> {
        let mut lines = self.lines_of_slots();
        for shard in &self.shards {
            let name = &shard.name;
            for stray in &shard.strays {
                let more = if stray.rows >= OCCUPIED_ROWS_MAX {
                    "at least "
                } else {
                    ""
                };
                let rows = human::count(stray.rows);
                let why = match stray.was_given_away {
                    true => "which it gave away, and nothing deletes them: see `freehold moves`",
                    false => {
                        "which it never owned: see who writes to this database besides routers"
                    }
                };
                lines.push(format!(
                    "shard '{name}' ({}): {more}{rows} rows in slot {}, {why}",
                    shard.master, stray.slot
                ));
            }
            lines.extend(shard.replicas.iter().flat_map(|other| {
                let words = format!("shard '{name}' ({})", other.address);
                lines_of_replica(&words, other)
            }));
            if let Some(why) = &shard.unreached {
                lines.push(format!("shard '{name}' was not looked at: {why}"));
            }
        }
        lines
    }

    fn lines_of_slots(&self) -> Vec<String> {
        let mut lines = Vec::new();
        let slots = &self.slots;
        if !slots.unowned.is_empty() {
            let told = range_words(&ranges(slots.unowned.iter().copied()));
            let count = human::count(slots.unowned.len() as u64);
            lines.push(match slots.unasked.as_slice() {
                [] => format!("{count} slots have no owner: {told}"),
                unasked => format!(
                    "{count} slots have no owner among the shards that answered ({told}); they may \
                     belong to {}",
                    unasked.join(", ")
                ),
            });
        }
        if !slots.contested.is_empty() {
            let told = range_words(&ranges(slots.contested.keys().copied()));
            let owners = slots.contested.values().next();
            let owners = owners.map_or_else(String::new, |owners| owners.join(" and "));
            let count = human::count(slots.contested.len() as u64);
            lines.push(format!(
                "{count} slots have several owners ({owners}): {told}"
            ));
        }
        lines
    }

    /// For programs.
    pub(crate) fn to_json(&self) -> Value {
        let slots = &self.slots;
        json!({
            "clean": !self.has_findings(),
            "complete": !self.is_incomplete(),
            "slots": {
                "all": SLOTS,
                "owned": slots.owned,
                "unowned": json_ranges(slots.unowned.iter().copied()),
                "contested": slots.contested.iter().map(|(slot, owners)| json!({
                    "slot": slot.0, "shards": owners,
                })).collect::<Vec<_>>(),
                "shards_unasked": slots.unasked,
            },
            "shards": self.shards.iter().map(shard_json).collect::<Vec<_>>(),
            "findings": self.lines(),
        })
    }
}

fn lines_of_replica(words: &str, other: &Compared) -> Vec<String> {
    let mut lines = Vec::new();
    if other.differences > 0 {
        lines.push(format!(
            "{words}: {} rows differ from the master's: build this replica anew",
            human::count(other.differences)
        ));
    }
    for (place, there) in &other.told {
        let what = match there {
            (true, false) => "is missing",
            (false, true) => "is not on the master",
            _ => "is another one",
        };
        lines.push(format!(
            "  slot {}, key {}: {what}",
            place.slot,
            Encoding::Text.encode_line(&place.key)
        ));
    }
    if other.undecided > 0 {
        lines.push(format!(
            "{words}: {} rows are written so often that they could not be compared",
            human::count(other.undecided)
        ));
    }
    if let Some(why) = &other.unfinished {
        lines.push(format!("{words}: not compared to the end: {why}"));
    }
    lines
}

fn json_ranges(slots: impl IntoIterator<Item = freehold_core::Slot>) -> Vec<Value> {
    let ranges = ranges(slots).into_iter();
    ranges
        .map(|range| json!({ "first": range.start(), "last": range.end() }))
        .collect()
}

fn shard_json(shard: &ShardReport) -> Value {
    json!({
        "name": shard.name,
        "master": shard.master,
        "error": shard.unreached,
        "strays": shard.strays.iter().map(|stray| json!({
            "slot": stray.slot.0,
            "rows": stray.rows,
            "rows_more": stray.rows >= OCCUPIED_ROWS_MAX,
            "was_given_away": stray.was_given_away,
        })).collect::<Vec<_>>(),
        "replicas": shard.replicas.iter().map(|other| json!({
            "address": other.address,
            "rows": other.rows,
            "differences": other.differences,
            "differing": other.told.iter().map(|(place, (master, replica))| json!({
                "slot": place.slot.0,
                "key_hex": Encoding::Hex.encode(&place.key),
                "on_master": master,
                "on_replica": replica,
            })).collect::<Vec<_>>(),
            "undecided": other.undecided,
            "error": other.unfinished,
        })).collect::<Vec<_>>(),
    })
}
