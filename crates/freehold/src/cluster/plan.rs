//! What `init` does, as a pure function of what the masters say.
//!
//! A slot must never be dealt twice, so `init` acts only where it can prove that nobody owns
//! anything: on masters without tables, on masters where an earlier `init` began, and on those that
//! this very deal has finished. Tables are created everywhere before the first slot is dealt; hence
//! a master without tables beside a finished one is not what a crash leaves behind.

use std::{collections::BTreeSet, ops::RangeInclusive};

use freehold_core::{
    SCHEMA_VERSION,
    slot::{SLOTS, even_share},
};
use freehold_storage::schema::SchemaState;

/// What one master gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Step {
    /// Its slots.
    pub(crate) share: RangeInclusive<u16>,
    /// Whether its tables are there already.
    pub(crate) created: bool,
    /// Whether its slots are, too: nothing is left to do.
    pub(crate) finished: bool,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    /// The id that masters have already, if any has; all others get it too.
    pub(crate) cluster_id: Option<u64>,
    /// One per master, in order.
    pub(crate) steps: Vec<Step>,
}

/// What to do to add one shard to a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Join {
    /// The cluster that it joins.
    pub(crate) cluster_id: u64,
}

/// Why nothing may be done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PlanError {
    /// Every shard is finished.
    #[error(
        "nothing to do: all {shards} shards are initialised already (cluster {cluster_id:016x}). \
         Start `freehold serve` with this config"
    )]
    Finished {
        /// How many.
        shards: usize,
        /// Which cluster.
        cluster_id: u64,
    },
    /// The shard that is to be added is there already.
    #[error("nothing to do: shard '{shard}' ({address}) is in cluster {cluster_id:016x} already, {}",
        match slots { 0 => "and owns no slot".to_owned(), many => format!("and owns {many} slots") })]
    Joined {
        /// Which shard.
        shard: String,
        /// Its master.
        address: String,
        /// Its cluster.
        cluster_id: u64,
        /// How many slots it owns.
        slots: usize,
    },
    /// There is no cluster to add a shard to.
    #[error(
        "no other shard of this config is initialised, so there is no cluster that shard '{shard}' \
         could join: run `freehold init` without --shard"
    )]
    NoCluster {
        /// Which shard.
        shard: String,
    },
    /// The config has no such shard.
    #[error("no shard is called '{shard}': the config has {known}")]
    NoSuchShard {
        /// What was asked for.
        shard: String,
        /// Those that are there.
        known: String,
    },
    /// The database holds something, and nothing says whose it is.
    #[error(
        "shard '{shard}' ({address}) holds rows or slots already, though it is not initialised: a \
         new shard begins with an empty database. Give it one"
    )]
    NotEmpty {
        /// Which shard.
        shard: String,
        /// Its master.
        address: String,
    },
    /// Slots have an owner, and not the one of this deal.
    #[error(
        "shard '{shard}' ({address}) already owns {slots} slots ({ranges}), where this config would \
         deal out {share}: init deals slots once, to empty databases. Name the cluster's own shards \
         in their own order, or give this shard an empty database"
    )]
    Owned {
        /// Which shard.
        shard: String,
        /// Its master.
        address: String,
        /// How many slots.
        slots: usize,
        /// Which.
        ranges: String,
        /// What it would get.
        share: String,
    },
    /// The tables are of another version.
    #[error(
        "shard '{shard}' ({address}) has tables of version {version}; this program knows version \
         {SCHEMA_VERSION}. {}",
        if *version < SCHEMA_VERSION { "Run `freehold migrate`" } else { "Use a newer program" }
    )]
    Version {
        /// Which shard.
        shard: String,
        /// Its master.
        address: String,
        /// Of the tables.
        version: u32,
    },
    /// The database belongs to another shard.
    #[error(
        "shard '{shard}' ({address}) is a database of the shard '{found}': put the names and DSNs \
         of the config in their right order, or give this shard an empty database"
    )]
    Name {
        /// Which shard.
        shard: String,
        /// Its master.
        address: String,
        /// The name in the database.
        found: String,
    },
    /// The database belongs to another cluster.
    #[error(
        "shard '{shard}' ({address}) belongs to cluster {found:016x}, and shard '{other}' to \
         cluster {cluster_id:016x}: clusters never mix. Give one of them an empty database"
    )]
    Cluster {
        /// Which shard.
        shard: String,
        /// Its master.
        address: String,
        /// Its cluster.
        found: u64,
        /// A shard before it.
        other: String,
        /// That one's cluster.
        cluster_id: u64,
    },
    /// Tables are missing where they must have been.
    #[error(
        "shard '{shard}' ({address}) has no tables, but shard '{finished}' owns its slots already: \
         init creates all tables before it deals out a slot, so this is another database than the \
         one it saw. Point the config at that one, or, if the shard is new, add it with `freehold \
         init --shard {shard}`"
    )]
    Vanished {
        /// Which shard.
        shard: String,
        /// Its master.
        address: String,
        /// A shard that is finished.
        finished: String,
    },
}

impl PlanError {
    /// Which shard stands in the way.
    pub(crate) fn shard(&self) -> Option<&str> {
        match self {
            Self::Finished { .. } => None,
            Self::Joined { shard, .. }
            | Self::NoCluster { shard }
            | Self::NoSuchShard { shard, .. }
            | Self::NotEmpty { shard, .. } => Some(shard),
            Self::Owned { shard, .. }
            | Self::Version { shard, .. }
            | Self::Name { shard, .. }
            | Self::Cluster { shard, .. }
            | Self::Vanished { shard, .. } => Some(shard),
        }
    }
}

/// A master of the config and how far it is.
#[derive(Debug, Clone)]
pub(crate) struct Master<'a> {
    pub(crate) shard: &'a str,
    pub(crate) address: &'a str,
    pub(crate) state: &'a SchemaState,
}

/// Decides what `init` does with these masters, all of the config in its order.
pub(crate) fn plan(masters: &[Master<'_>]) -> Result<Plan, PlanError> {
    if let Some(cluster_id) = grown(masters) {
        return Err(PlanError::Finished {
            shards: masters.len(),
            cluster_id,
        });
    }
    let mut steps = Vec::with_capacity(masters.len());
    let mut cluster: Option<(u64, &str)> = None;
    for (index, master) in masters.iter().enumerate() {
        let step = step(master, even_share(index, masters.len()))?;
        let identity = match master.state {
            SchemaState::Absent => None,
            SchemaState::Started(identity) | SchemaState::Ready { identity, .. } => Some(identity),
        };
        if let Some(identity) = identity {
            let (cluster_id, other) = *cluster.get_or_insert((identity.cluster_id, master.shard));
            if identity.cluster_id != cluster_id {
                return Err(of_other_cluster(
                    master,
                    identity.cluster_id,
                    other,
                    cluster_id,
                ));
            }
        }
        steps.push(step);
    }
    let cluster_id = cluster.map(|(cluster_id, _)| cluster_id);
    if let (true, Some(cluster_id)) = (steps.iter().all(|step| step.finished), cluster_id) {
        return Err(PlanError::Finished {
            shards: steps.len(),
            cluster_id,
        });
    }
    let finished = steps.iter().position(|step| step.finished);
    let absent = steps.iter().position(|step| !step.created);
    if let (Some(finished), Some(absent)) = (finished, absent) {
        return Err(PlanError::Vanished {
            shard: masters[absent].shard.to_owned(),
            address: masters[absent].address.to_owned(),
            finished: masters[finished].shard.to_owned(),
        });
    }
    Ok(Plan { cluster_id, steps })
}

/// The cluster, if these are all its shards and every slot has an owner, whatever has moved since
/// `init` dealt them out.
fn grown(masters: &[Master<'_>]) -> Option<u64> {
    let mut cluster = None;
    let mut owned = BTreeSet::new();
    for master in masters {
        let SchemaState::Ready {
            identity, claimed, ..
        } = master.state
        else {
            return None;
        };
        let same = *cluster.get_or_insert(identity.cluster_id) == identity.cluster_id;
        if !same || identity.name != master.shard || identity.schema_version != SCHEMA_VERSION {
            return None;
        }
        owned.extend(claimed.iter().cloned().flatten());
    }
    cluster.filter(|_| owned.len() == SLOTS)
}

/// Decides how a shard joins the cluster of the others. `others` are those of the config that
/// answered; `is_empty` says that the shard's database holds no row and no slot.
pub(crate) fn join(
    master: &Master<'_>,
    is_empty: bool,
    others: &[Master<'_>],
) -> Result<Join, PlanError> {
    let (shard, address) = (master.shard.to_owned(), master.address.to_owned());
    let mut cluster: Option<(u64, &str)> = None;
    for other in others {
        let SchemaState::Ready { identity, .. } = other.state else {
            continue;
        };
        let (cluster_id, first) = *cluster.get_or_insert((identity.cluster_id, other.shard));
        if identity.cluster_id != cluster_id {
            return Err(of_other_cluster(
                other,
                identity.cluster_id,
                first,
                cluster_id,
            ));
        }
    }
    let Some((cluster_id, first)) = cluster else {
        return Err(PlanError::NoCluster { shard });
    };
    let (identity, slots) = match master.state {
        SchemaState::Absent | SchemaState::Started(_) if !is_empty => {
            return Err(PlanError::NotEmpty { shard, address });
        }
        SchemaState::Absent => return Ok(Join { cluster_id }),
        SchemaState::Started(identity) => (identity, None),
        SchemaState::Ready {
            identity,
            slots_claimed,
            ..
        } => (identity, Some(*slots_claimed)),
    };
    if identity.name != master.shard {
        let found = identity.name.clone();
        return Err(PlanError::Name {
            shard,
            address,
            found,
        });
    }
    if identity.cluster_id != cluster_id {
        return Err(of_other_cluster(
            master,
            identity.cluster_id,
            first,
            cluster_id,
        ));
    }
    match slots {
        None => Ok(Join { cluster_id }),
        Some(slots) => Err(PlanError::Joined {
            shard,
            address,
            cluster_id,
            slots,
        }),
    }
}

fn of_other_cluster(master: &Master<'_>, found: u64, other: &str, cluster_id: u64) -> PlanError {
    PlanError::Cluster {
        shard: master.shard.to_owned(),
        address: master.address.to_owned(),
        found,
        other: other.to_owned(),
        cluster_id,
    }
}

fn step(master: &Master<'_>, share: RangeInclusive<u16>) -> Result<Step, PlanError> {
    let (shard, address) = (master.shard.to_owned(), master.address.to_owned());
    let identity = match master.state {
        SchemaState::Absent => {
            return Ok(Step {
                share,
                created: false,
                finished: false,
            });
        }
        SchemaState::Started(identity) | SchemaState::Ready { identity, .. } => identity,
    };
    if identity.name != master.shard {
        return Err(PlanError::Name {
            shard,
            address,
            found: identity.name.clone(),
        });
    }
    let SchemaState::Ready {
        slots_claimed,
        claimed,
        ..
    } = master.state
    else {
        return Ok(Step {
            share,
            created: true,
            finished: false,
        });
    };
    if identity.schema_version != SCHEMA_VERSION {
        return Err(PlanError::Version {
            shard,
            address,
            version: identity.schema_version,
        });
    }
    if *claimed != [share.clone()] {
        return Err(PlanError::Owned {
            shard,
            address,
            slots: *slots_claimed,
            ranges: ranges(claimed),
            share: ranges(std::slice::from_ref(&share)),
        });
    }
    Ok(Step {
        share,
        created: true,
        finished: true,
    })
}

/// `0-32767, 40000`, and how many more there are.
pub(crate) fn ranges(ranges: &[RangeInclusive<u16>]) -> String {
    const SHOWN: usize = 4;
    let words = |range: &RangeInclusive<u16>| match (range.start(), range.end()) {
        (start, end) if start == end => start.to_string(),
        (start, end) => format!("{start}-{end}"),
    };
    let mut text: Vec<String> = ranges.iter().take(SHOWN).map(words).collect();
    match ranges.len() {
        0 => text.push("none".to_owned()),
        many if many > SHOWN => text.push(format!("{} more ranges", many - SHOWN)),
        _ => {}
    }
    text.join(", ")
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
