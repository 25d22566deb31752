//! Calls by the generated client, as any gRPC client makes them.

use std::time::Duration;

use bytes::Bytes;
use freehold_checker::record::Seen;
use freehold_client::Consistency;
use freehold_proto::v1::{self, key_value_client::KeyValueClient};
use tokio::time::{Instant, timeout};
use tonic::{Request, Status, transport::Channel};

use super::{Ended, Question, awaited};
use crate::workload::{Ask, decode, encode};

/// The generated client.
pub type Stub = KeyValueClient<Channel>;

/// Milliseconds, rounded down; -1 for ever.
fn wire_ms(duration: Option<&prost_types::Duration>) -> i64 {
    duration.map_or(-1, |one| {
        one.seconds * 1_000 + i64::from(one.nanos) / 1_000_000
    })
}

fn wire(ms: u64) -> prost_types::Duration {
    prost_types::Duration {
        seconds: i64::try_from(ms / 1_000).unwrap_or(i64::MAX),
        nanos: i32::try_from(ms % 1_000).unwrap_or(0) * 1_000_000,
    }
}

fn wire_read(read: &Consistency) -> Option<v1::ReadOptions> {
    let mut options = v1::ReadOptions::default();
    match read {
        Consistency::Strong => return None,
        Consistency::Eventual => options.set_consistency(v1::Consistency::Eventual),
        Consistency::BoundedStaleness(max) => {
            options.set_consistency(v1::Consistency::BoundedStaleness);
            options.max_staleness = Some(wire(u64::try_from(max.as_millis()).unwrap_or(u64::MAX)));
        }
        Consistency::Session(token) => {
            options.set_consistency(v1::Consistency::Session);
            options.session_token = token.clone();
        }
    }
    Some(options)
}

/// A put as it is on the wire.
pub fn wire_put(
    key: &str,
    name: &str,
    ttl_ms: Option<u64>,
    padding_bytes: usize,
) -> v1::PutRequest {
    v1::PutRequest {
        key: key.to_owned().into(),
        value: encode(name, padding_bytes).into(),
        ttl: ttl_ms.map(wire),
    }
}

/// A request with a deadline.
fn with<T>(message: T, within: Duration) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(within);
    request
}

/// Asks for one key by a single method.
pub(super) async fn single(stub: &mut Stub, question: &Question) -> Result<Ended, Status> {
    let Question { name, within, .. } = question;
    let read = wire_read(&question.read);
    match &question.ask {
        Ask::Put {
            key,
            ttl_ms,
            padding_bytes,
        } => {
            let put = wire_put(key, name, *ttl_ms, *padding_bytes);
            let reply = stub.put(with(put, *within)).await?.into_inner();
            Ok(Ended::stored(reply.session_token))
        }
        Ask::Delete { key } => {
            let key = key.clone().into();
            let delete = v1::DeleteRequest { key };
            let reply = stub.delete(with(delete, *within)).await?.into_inner();
            Ok(Ended::existed(reply.existed, reply.session_token))
        }
        Ask::Expire { key, ttl_ms } => {
            let (key, ttl) = (key.clone().into(), ttl_ms.map(wire));
            let expire = v1::ExpireRequest { key, ttl };
            let reply = stub.expire(with(expire, *within)).await?.into_inner();
            Ok(Ended::existed(reply.existed, reply.session_token))
        }
        Ask::Ttl { key, .. } => {
            let key = key.clone().into();
            let reply = stub.ttl(with(v1::TtlRequest { key, read }, *within)).await;
            Ok(of_ttl(reply?.get_ref()))
        }
        Ask::Get { key, .. } => {
            let key = key.clone().into();
            let reply = stub.get(with(v1::GetRequest { key, read }, *within)).await;
            Ok(of_get(reply?.get_ref()))
        }
        _ => unreachable!("not a single request"),
    }
}

fn of_get(reply: &v1::GetResponse) -> Ended {
    let entry = reply.entry.as_ref();
    Ended {
        seen: Some(Seen {
            live: entry.is_some(),
            value: entry.map(|entry| decode(&entry.value)),
            ttl_ms: entry.map(|entry| wire_ms(entry.ttl.as_ref())),
        }),
        ..served(reply.served.as_ref())
    }
}

fn of_ttl(reply: &v1::TtlResponse) -> Ended {
    Ended {
        seen: Some(Seen {
            live: reply.found,
            value: None,
            ttl_ms: reply.found.then(|| wire_ms(reply.ttl.as_ref())),
        }),
        ..served(reply.served.as_ref())
    }
}

fn served(served: Option<&v1::Served>) -> Ended {
    Ended {
        by_replica: served.is_some_and(|served| served.source() == v1::Source::Replica),
        staleness_ms: served
            .and_then(|served| served.staleness.as_ref())
            .map(|staleness| wire_ms(Some(staleness))),
        ..Ended::well()
    }
}

/// How each item of a batch ended, as its results or its one failure say.
fn items<T>(
    results: Result<Vec<T>, Box<Ended>>,
    count: usize,
    of: impl Fn(&T) -> Ended,
) -> Vec<Ended> {
    match results {
        Ok(results) => {
            let mut all: Vec<Ended> = results.iter().map(of).collect();
            all.resize(count, Ended::failed("OTHER", "TOO_FEW_RESULTS"));
            all
        }
        Err(failed) => vec![*failed; count],
    }
}

/// Writes several keys in one call: how each item ended.
pub async fn batch_write(stub: &mut Stub, writes: Vec<v1::Write>, within: Duration) -> Vec<Ended> {
    use v1::batch_write_result::Result as Of;
    let count = writes.len();
    let call = async {
        let reply = stub.batch_write(with(v1::BatchWriteRequest { writes }, within));
        let reply = reply
            .await
            .map_err(|status| Box::new(Ended::of_status(&status)))?;
        Ok(reply.into_inner().results)
    };
    items(awaited(within, call).await, count, |item| {
        match &item.result {
            Some(Of::Put(reply)) => Ended::stored(reply.session_token.clone()),
            Some(Of::Delete(reply)) => Ended::existed(reply.existed, reply.session_token.clone()),
            Some(Of::Error(status)) => Ended::of_item(status),
            None => Ended::failed("OTHER", "NO_RESULT"),
        }
    })
}

/// Reads several keys in one call: what each item showed.
pub async fn batch_get(
    stub: &mut Stub,
    keys: &[String],
    read: &Consistency,
    within: Duration,
) -> Vec<Ended> {
    use v1::batch_get_result::Result as Of;
    let call = async {
        let message = v1::BatchGetRequest {
            keys: keys.iter().map(|key| key.clone().into()).collect(),
            read: wire_read(read),
        };
        let reply = stub.batch_get(with(message, within)).await;
        let reply = reply.map_err(|status| Box::new(Ended::of_status(&status)))?;
        Ok(reply.into_inner().results)
    };
    let results = awaited(within, call).await;
    items(results, keys.len(), |item| match &item.result {
        Some(Of::Get(reply)) => of_get(reply),
        Some(Of::Error(status)) => Ended::of_item(status),
        None => Ended::failed("OTHER", "NO_RESULT"),
    })
}

/// A walk: what it goes over, and how.
#[derive(Debug, Clone)]
pub struct Walk {
    /// What all keys begin with.
    pub prefix: String,
    /// How fresh.
    pub read: Consistency,
    /// Rows of one call; 0 is all.
    pub page_size: u32,
    /// How long all calls of it may take.
    pub within: Duration,
}

/// What came of a walk.
#[derive(Debug, Clone, Default)]
pub struct Walked {
    /// Keys and values in the order in which they came.
    pub rows: Vec<(String, String)>,
    /// Whether it came to its end.
    pub is_complete: bool,
    /// Code and reason of the call that failed; else empty.
    pub status: String,
}

/// Less time than that is not worth another page.
const PAGE_WITHIN_MIN: Duration = Duration::from_millis(200);

/// Walks, call after call, each from where the one before ended.
pub async fn scan(stub: &mut Stub, walk: &Walk) -> Walked {
    let mut walked = Walked::default();
    let (end, mut place) = (Instant::now() + walk.within, Bytes::new());
    loop {
        let within = end.saturating_duration_since(Instant::now());
        if within < PAGE_WITHIN_MIN {
            return walked;
        }
        let page = page(stub, walk, place, within, &mut walked.rows);
        // The library ends a call at its deadline, but not a stream that has begun.
        let page = async {
            let ended = timeout(within, page).await;
            ended.unwrap_or_else(|_| Err(Box::new(Ended::failed("DEADLINE_EXCEEDED", ""))))
        };
        match awaited(within, page).await {
            Ok(next) if next.is_empty() => {
                walked.is_complete = true;
                return walked;
            }
            Ok(next) => place = next,
            Err(failed) => {
                walked.status = failed.status;
                return walked;
            }
        }
    }
}

/// One call of a walk: where the next one goes on, empty at the end.
async fn page(
    stub: &mut Stub,
    walk: &Walk,
    page_token: Bytes,
    within: Duration,
    rows: &mut Vec<(String, String)>,
) -> Result<Bytes, Box<Ended>> {
    let failed = |status: Status| Box::new(Ended::of_status(&status));
    let message = v1::ScanRequest {
        prefix: walk.prefix.clone().into(),
        page_token,
        page_size: walk.page_size,
        read: wire_read(&walk.read),
        slots: None,
    };
    let stream = stub.scan(with(message, within)).await.map_err(failed)?;
    let (mut stream, mut last, before) = (stream.into_inner(), None, rows.len());
    while let Some(message) = stream.message().await.map_err(failed)? {
        last = message.entry.is_none().then_some(message.page_token);
        if let Some(entry) = message.entry {
            let key = String::from_utf8_lossy(&message.key).into_owned();
            rows.push((key, decode(&entry.value)));
        }
    }
    let page_size = usize::try_from(walk.page_size).unwrap_or(usize::MAX);
    if walk.page_size > 0 && rows.len() - before > page_size {
        return Err(Box::new(Ended::failed("OTHER", "TOO_MANY_ROWS")));
    }
    // A stream that ends well ends with a message that has no row.
    last.ok_or_else(|| Box::new(Ended::failed("OTHER", "NO_LAST_MESSAGE")))
}
