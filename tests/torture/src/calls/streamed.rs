//! Calls through the Rust client.

use std::time::Duration;

use freehold_checker::record::Seen;
use freehold_client::{Client, Error, Source};

use super::{Ended, Question};
use crate::workload::{Ask, decode, encode};

/// Asks for one key.
pub(super) async fn single(client: &Client, question: &Question) -> Result<Ended, Error> {
    let ms = Duration::from_millis;
    let Question {
        name, read, within, ..
    } = question;
    match &question.ask {
        Ask::Put {
            key,
            ttl_ms,
            padding_bytes,
        } => {
            let put = client.put(key.clone(), encode(name, *padding_bytes));
            let reply = put.ttl(ttl_ms.map(ms)).timeout(*within).await?;
            Ok(Ended::stored(reply.session_token))
        }
        Ask::Delete { key } => {
            let reply = client.delete(key.clone()).timeout(*within).await?;
            Ok(Ended::existed(reply.existed, reply.session_token))
        }
        Ask::Expire { key, ttl_ms } => {
            let call = match ttl_ms {
                Some(ttl_ms) => client.expire(key.clone(), ms(*ttl_ms)),
                None => client.persist(key.clone()),
            };
            let reply = call.timeout(*within).await?;
            Ok(Ended::existed(reply.existed, reply.session_token))
        }
        Ask::Ttl { key, .. } => {
            let call = client.ttl(key.clone()).consistency(read.clone());
            let reply = call.timeout(*within).await?;
            Ok(Ended {
                seen: Some(Seen {
                    live: reply.found,
                    value: None,
                    ttl_ms: reply.found.then(|| left_ms(reply.ttl)),
                }),
                ..of_served(&reply.served)
            })
        }
        Ask::Get { key, .. } => {
            let call = client.get(key.clone()).consistency(read.clone());
            let reply = call.timeout(*within).await?;
            let entry = reply.entry.as_ref();
            Ok(Ended {
                seen: Some(Seen {
                    live: entry.is_some(),
                    value: entry.map(|entry| decode(&entry.value)),
                    ttl_ms: entry.map(|entry| left_ms(entry.ttl)),
                }),
                ..of_served(&reply.served)
            })
        }
        _ => unreachable!("not a single request"),
    }
}

fn left_ms(ttl: Option<Duration>) -> i64 {
    ttl.map_or(-1, |ttl| i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX))
}

fn of_served(served: &freehold_client::Served) -> Ended {
    Ended {
        by_replica: served.source == Source::Replica,
        staleness_ms: served.staleness.map(|age| left_ms(Some(age))),
        ..Ended::well()
    }
}
