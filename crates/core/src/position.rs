//! Where a server is in its shard's history of writes, in the terms of its own replication.

use std::{collections::BTreeMap, fmt};

use crate::varint;

/// A position: what a server has, or what a reader must find.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Position {
    /// MySQL: a set of transactions.
    Mysql(GtidSet),
    /// MariaDB: the last transaction of each domain.
    Mariadb(Gtids),
}

/// Bytes of the tag of a transaction.
const TAG_BYTES_MAX: usize = 32;

/// Text or bytes that are no position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a position of a replication log")]
pub struct NoPosition;

/// Names of transactions that are numbered together: a server's UUID, and a tag if they have one.
type Origin = ([u8; 16], Box<str>);

/// A set of transactions: of each origin ranges of numbers, both ends included, ascending, with
/// gaps between them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GtidSet(BTreeMap<Origin, Vec<(u64, u64)>>);

/// By domain: the server that wrote the last transaction, and its number.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Gtids(BTreeMap<u32, (u32, u64)>);

impl Position {
    /// What MySQL shows as `gtid_executed`.
    ///
    /// # Errors
    /// [`NoPosition`] if it is something else.
    pub fn of_mysql(text: &str) -> Result<Self, NoPosition> {
        let mut set = GtidSet::default();
        for part in text
            .split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty())
        {
            set.add(part).ok_or(NoPosition)?;
        }
        Ok(Self::Mysql(set))
    }

    /// What MariaDB shows as `gtid_slave_pos`, `gtid_binlog_pos` or `last_gtid`.
    ///
    /// # Errors
    /// [`NoPosition`] if it is something else.
    pub fn of_mariadb(text: &str) -> Result<Self, NoPosition> {
        let mut gtids = Gtids::default();
        for part in text
            .split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty())
        {
            let mut numbers = part.split('-');
            let mut next = || numbers.next().ok_or(NoPosition);
            let domain = next()?.parse().map_err(|_| NoPosition)?;
            let server = next()?.parse().map_err(|_| NoPosition)?;
            let number = next()?.parse().map_err(|_| NoPosition)?;
            if numbers.next().is_some() {
                return Err(NoPosition);
            }
            gtids.0.insert(domain, (server, number));
        }
        Ok(Self::Mariadb(gtids))
    }

    /// The position of a text of either server, as the table `terms` keeps it.
    ///
    /// # Errors
    /// [`NoPosition`] if it is neither.
    pub fn parse(text: &str) -> Result<Self, NoPosition> {
        if text.contains(':') {
            Self::of_mysql(text)
        } else {
            Self::of_mariadb(text)
        }
    }

    /// Whether nothing was written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        match self {
            Self::Mysql(set) => set.0.is_empty(),
            Self::Mariadb(gtids) => gtids.0.is_empty(),
        }
    }

    /// Whether a server that has this has everything that `other` names. Only for two positions of
    /// one history: MariaDB's numbers alone do not tell histories apart.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Mysql(has), Self::Mysql(wanted)) => has.covers(wanted),
            (Self::Mariadb(has), Self::Mariadb(wanted)) => {
                wanted.0.iter().all(|(domain, (_, wanted))| {
                    has.0
                        .get(domain)
                        .is_some_and(|(_, number)| number >= wanted)
                })
            }
            _ => false,
        }
    }

    /// [`Self::covers`], of what both name the origin of: what a server alone ever wrote (MySQL) is left
    /// out.
    #[must_use]
    pub fn covers_shared(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Mysql(has), Self::Mysql(wanted)) => {
                let knows = |server: &[u8; 16]| has.0.keys().any(|(of, _)| of == server);
                let shared = wanted.0.iter().filter(|((server, _), _)| knows(server));
                let shared = shared.map(|(origin, ranges)| (origin.clone(), ranges.clone()));
                has.covers(&GtidSet(shared.collect()))
            }
            _ => self.covers(other),
        }
    }

    /// How many sequences of transactions it names: of more than one, a heartbeat in one says
    /// nothing about the others (MariaDB's domains; MySQL commits all in one order).
    #[must_use]
    pub fn sequences(&self) -> usize {
        match self {
            Self::Mysql(_) => 1,
            Self::Mariadb(gtids) => gtids.0.len(),
        }
    }

    /// A number that grows with a server's position while it goes on writing.
    #[must_use]
    pub fn ordinal(&self) -> u64 {
        let sum = |total: u64, more: u64| total.saturating_add(more);
        match self {
            Self::Mysql(set) => {
                let ranges = set.0.values().flatten();
                ranges.map(|(first, last)| last - first + 1).fold(0, sum)
            }
            Self::Mariadb(gtids) => gtids.0.values().map(|(_, number)| *number).fold(0, sum),
        }
    }

    /// The kind of position in a token.
    pub(crate) const fn kind(&self) -> u8 {
        match self {
            Self::Mysql(_) => 1,
            Self::Mariadb(_) => 2,
        }
    }

    /// Appends it in a compact form.
    pub(crate) fn encode(&self, into: &mut Vec<u8>) {
        match self {
            Self::Mysql(set) => set.encode(into),
            Self::Mariadb(gtids) => {
                for (domain, (server, number)) in &gtids.0 {
                    varint::push(into, (*domain).into());
                    varint::push(into, (*server).into());
                    varint::push(into, *number);
                }
            }
        }
    }

    /// What [`Self::encode`] made.
    pub(crate) fn decode(kind: u8, bytes: &[u8]) -> Result<Self, NoPosition> {
        let decoded = match kind {
            1 => GtidSet::decode(bytes).map(Self::Mysql),
            2 => Gtids::decode(bytes).map(Self::Mariadb),
            _ => None,
        };
        decoded.ok_or(NoPosition)
    }
}

impl GtidSet {
    /// Adds `uuid[:tag]:ranges...`.
    fn add(&mut self, part: &str) -> Option<()> {
        let mut fields = part.split(':').map(str::trim);
        let uuid = uuid(fields.next()?)?;
        let mut tag = "";
        let mut is_empty = true;
        for field in fields {
            if field.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_') {
                if !is_tag(field) {
                    return None;
                }
                tag = field;
                continue;
            }
            let (first, last) = match field.split_once('-') {
                Some((first, last)) => (first.trim().parse().ok()?, last.trim().parse().ok()?),
                None => {
                    let number: u64 = field.parse().ok()?;
                    (number, number)
                }
            };
            if first == 0 || last < first {
                return None;
            }
            self.0
                .entry((uuid, tag.into()))
                .or_default()
                .push((first, last));
            is_empty = false;
        }
        for ranges in self.0.values_mut() {
            join(ranges);
        }
        (!is_empty).then_some(())
    }

    fn covers(&self, wanted: &Self) -> bool {
        wanted.0.iter().all(|(origin, wanted)| {
            let has = self.0.get(origin).map_or(&[][..], Vec::as_slice);
            wanted.iter().all(|(first, last)| {
                // The last range that begins at or before the wanted one.
                let behind = has.partition_point(|(begin, _)| begin <= first);
                behind
                    .checked_sub(1)
                    .is_some_and(|index| has[index].1 >= *last)
            })
        })
    }

    fn encode(&self, into: &mut Vec<u8>) {
        for ((uuid, tag), ranges) in &self.0 {
            into.extend_from_slice(uuid);
            varint::push(into, tag.len() as u64);
            into.extend_from_slice(tag.as_bytes());
            varint::push(into, ranges.len() as u64);
            let mut before = 0;
            for (first, last) in ranges {
                varint::push(into, first - before);
                varint::push(into, last - first);
                before = *last;
            }
        }
    }

    fn decode(mut bytes: &[u8]) -> Option<Self> {
        let mut set = Self::default();
        while !bytes.is_empty() {
            let uuid: [u8; 16] = varint::take_bytes(&mut bytes, 16)?.try_into().ok()?;
            let tag_bytes = usize::try_from(varint::take(&mut bytes)?).ok()?;
            let tag = std::str::from_utf8(varint::take_bytes(&mut bytes, tag_bytes)?).ok()?;
            let count = varint::take(&mut bytes)?;
            if count == 0 || !(tag.is_empty() || is_tag(tag)) {
                return None;
            }
            let (mut ranges, mut before) = (Vec::new(), 0_u64);
            for _ in 0..count {
                let gap = varint::take(&mut bytes)?;
                // They are counted from 1, and ranges that touch would be one.
                if gap == 0 || (gap == 1 && before > 0) {
                    return None;
                }
                let first = before.checked_add(gap)?;
                before = first.checked_add(varint::take(&mut bytes)?)?;
                ranges.push((first, before));
            }
            set.0.insert((uuid, tag.into()), ranges);
        }
        Some(set)
    }
}

impl Gtids {
    fn decode(mut bytes: &[u8]) -> Option<Self> {
        let mut gtids = Self::default();
        while !bytes.is_empty() {
            let domain = u32::try_from(varint::take(&mut bytes)?).ok()?;
            let server = u32::try_from(varint::take(&mut bytes)?).ok()?;
            gtids.0.insert(domain, (server, varint::take(&mut bytes)?));
        }
        Some(gtids)
    }
}

/// Orders ranges and joins those that touch.
fn join(ranges: &mut Vec<(u64, u64)>) {
    ranges.sort_unstable();
    let mut joined: Vec<(u64, u64)> = Vec::with_capacity(ranges.len());
    for (first, last) in ranges.drain(..) {
        match joined.last_mut() {
            Some((_, end)) if first <= end.saturating_add(1) => *end = last.max(*end),
            _ => joined.push((first, last)),
        }
    }
    *ranges = joined;
}

/// Whether MySQL takes it for the tag of a transaction.
fn is_tag(text: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    text.len() <= TAG_BYTES_MAX
        && !text.starts_with(|first: char| first.is_ascii_digit())
        && !text.is_empty()
        && text.bytes().all(word)
}

fn uuid(text: &str) -> Option<[u8; 16]> {
    let mut bytes = [0; 16];
    let mut digits = text.chars().filter(|digit| *digit != '-');
    for byte in &mut bytes {
        let (high, low) = (digits.next()?.to_digit(16)?, digits.next()?.to_digit(16)?);
        *byte = u8::try_from(high << 4 | low).ok()?;
    }
    digits.next().is_none().then_some(bytes)
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut comma = "";
        match self {
            Self::Mysql(set) => {
                for ((uuid, tag), ranges) in &set.0 {
                    f.write_str(comma)?;
                    for (index, byte) in uuid.iter().enumerate() {
                        let dash = if matches!(index, 4 | 6 | 8 | 10) {
                            "-"
                        } else {
                            ""
                        };
                        write!(f, "{dash}{byte:02x}")?;
                    }
                    if !tag.is_empty() {
                        write!(f, ":{tag}")?;
                    }
                    for (first, last) in ranges {
                        match first == last {
                            true => write!(f, ":{first}")?,
                            false => write!(f, ":{first}-{last}")?,
                        }
                    }
                    comma = ",";
                }
            }
            Self::Mariadb(gtids) => {
                for (domain, (server, number)) in &gtids.0 {
                    write!(f, "{comma}{domain}-{server}-{number}")?;
                    comma = ",";
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "position_tests.rs"]
mod tests;
