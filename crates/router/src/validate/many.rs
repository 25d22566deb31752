//! Requests of many keys, and of one among many.

use freehold_core::limits::{BATCH_BYTES_MAX, BATCH_ITEMS_MAX, PAGE_ROWS_MAX, PREFIX_BYTES_MAX};
use freehold_proto::v1::{self, pipeline_request::Request as Body, write};

use super::{Validator, delete, expire, get, key, level, slots, ttl};
use crate::{
    failure::Failure,
    page_token::{Place, Scope},
    request::{Level, Operation},
};

/// An item of a batch, and what is wrong with it alone.
type Item = Result<Operation, Failure>;

/// A walk as it was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scan {
    /// What it is over.
    pub scope: Scope,
    /// Who may answer.
    pub level: Level,
    /// Where to begin; `None` where there is nothing to walk.
    pub place: Option<Place>,
    /// Rows that may be sent; `None` has no bound.
    pub rows_max: Option<usize>,
}

/// The items of a BatchGet, in order, and who may answer.
///
/// # Errors
/// [`Failure::Invalid`] if it is the request that breaks a limit.
pub fn batch_get(request: v1::BatchGetRequest) -> Result<(Vec<Item>, Level), Failure> {
    let level = level(request.read.as_ref())?;
    check_items("keys", request.keys.len())?;
    let get = |bytes: &bytes::Bytes| Ok(Operation::Get(key(bytes)?));
    Ok((request.keys.iter().map(get).collect(), level))
}

/// A walk.
///
/// # Errors
/// [`Failure::Invalid`].
pub fn scan(request: v1::ScanRequest) -> Result<Scan, Failure> {
    let prefix = request.prefix;
    if prefix.len() > PREFIX_BYTES_MAX {
        let problem = format!(
            "prefix has {} bytes: at most {PREFIX_BYTES_MAX} are allowed",
            prefix.len()
        );
        return Err(Failure::invalid("prefix", problem));
    }
    let page_size = request.page_size as usize;
    if page_size > PAGE_ROWS_MAX {
        let problem = format!(
            "page_size is {page_size}: 1 to {PAGE_ROWS_MAX}, or 0 for all rows in one stream"
        );
        return Err(Failure::invalid("page_size", problem));
    }
    let scope = Scope {
        prefix,
        slots: slots(request.slots)?,
    };
    let slots = scope.slots();
    let place = if request.page_token.is_empty() {
        (!slots.is_empty()).then(|| Place {
            slot: *slots.start(),
            after: None,
        })
    } else {
        Some(Place::from_token(&request.page_token, &scope)?)
    };
    Ok(Scan {
        level: level(request.read.as_ref())?,
        rows_max: (page_size > 0).then_some(page_size),
        place,
        scope,
    })
}

impl Validator {
    /// The items of a BatchWrite, in order. `version` makes the versions of its puts.
    ///
    /// # Errors
    /// [`Failure::Invalid`] if it is the request that breaks a limit.
    pub fn batch_write(
        &self,
        request: v1::BatchWriteRequest,
        mut version: impl FnMut() -> u64,
    ) -> Result<Vec<Item>, Failure> {
        check_items("writes", request.writes.len())?;
        let bytes: usize = request.writes.iter().map(write_bytes).sum();
        if bytes > BATCH_BYTES_MAX {
            return Err(Failure::invalid(
                "writes",
                format!("writes hold {bytes} bytes: at most {BATCH_BYTES_MAX} are allowed"),
            ));
        }
        let item = |write: v1::Write| match write.write {
            Some(write::Write::Put(put)) => self.put(put, version()),
            Some(write::Write::Delete(request)) => delete(&request),
            None => Err(Failure::invalid(
                "writes",
                "writes has an item that is neither a put nor a delete",
            )),
        };
        Ok(request.writes.into_iter().map(item).collect())
    }

    /// One request of a stream, and who may answer. `version` makes the version of a put.
    ///
    /// # Errors
    /// [`Failure::Invalid`].
    pub fn pipelined(
        &self,
        request: Option<Body>,
        version: impl FnOnce() -> u64,
    ) -> Result<(Operation, Level), Failure> {
        let write = |operation| (operation, Level::Strong);
        match request {
            Some(Body::Get(request)) => get(request),
            Some(Body::Ttl(request)) => ttl(request),
            Some(Body::Put(request)) => self.put(request, version()).map(write),
            Some(Body::Delete(request)) => delete(&request).map(write),
            Some(Body::Expire(request)) => expire(request).map(write),
            None => Err(Failure::invalid(
                "request",
                "request is not set: set one of its fields",
            )),
        }
    }
}

fn write_bytes(write: &v1::Write) -> usize {
    match &write.write {
        Some(write::Write::Put(put)) => put.key.len() + put.value.len(),
        Some(write::Write::Delete(delete)) => delete.key.len(),
        None => 0,
    }
}

fn check_items(field: &'static str, count: usize) -> Result<(), Failure> {
    match count {
        1..=BATCH_ITEMS_MAX => Ok(()),
        _ => Err(Failure::invalid(
            field,
            format!("{field} has {count} items: 1 to {BATCH_ITEMS_MAX} are allowed"),
        )),
    }
}
