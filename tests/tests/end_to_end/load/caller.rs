//! One call of a writer, by a single method or on the client's Pipeline streams.

use std::time::Duration;

use freehold_client::{Client, Error};

use crate::{
    history::{Effect, Ending},
    wire::{self, Stub, Verdict},
};

/// What came of a call that did not end well: what it says of a write, and why, in words.
pub(crate) type Failed = (Ending, String);

/// How a writer asks.
pub(super) struct Caller {
    pub(super) client: Client,
    /// Of one that uses single methods.
    pub(super) stub: Option<Stub>,
    pub(super) timeout: Duration,
}

impl Caller {
    pub(super) async fn put(&self, key: &str, value: &str) -> Result<(), Failed> {
        match &self.stub {
            Some(stub) => of_verdict(&wire::put(stub, key, value, self.timeout).await),
            None => {
                let put = self.client.put(key.to_owned(), value.to_owned());
                put.await.map(drop).map_err(|error| of_error(&error))
            }
        }
    }

    pub(super) async fn delete(&self, key: &str) -> Result<(), Failed> {
        match &self.stub {
            Some(stub) => of_verdict(&wire::write(stub, key, None, self.timeout).await),
            None => {
                let delete = self.client.delete(key.to_owned());
                delete.await.map(drop).map_err(|error| of_error(&error))
            }
        }
    }

    /// Whether the key was there. Without a time to live it never expires again.
    pub(super) async fn expire(&self, key: &str, ttl: Option<Duration>) -> Result<bool, Failed> {
        if let Some(stub) = &self.stub {
            let (verdict, existed) = wire::expire(stub, key, ttl, self.timeout).await;
            return of_verdict(&verdict).map(|()| existed);
        }
        let expire = match ttl {
            Some(ttl) => self.client.expire(key.to_owned(), ttl),
            None => self.client.persist(key.to_owned()),
        };
        let reply = expire.await.map_err(|error| of_error(&error))?;
        Ok(reply.existed)
    }

    pub(super) async fn get(&self, key: &str) -> Result<Effect, Failed> {
        if let Some(stub) = &self.stub {
            let (verdict, shown) = wire::read(stub, key, self.timeout).await;
            return of_verdict(&verdict).map(|()| shown);
        }
        let reply = self.client.get(key.to_owned()).await;
        let reply = reply.map_err(|error| of_error(&error))?;
        let text = |value| String::from_utf8_lossy(value).into_owned();
        Ok(reply.value().map(|value| text(value)))
    }

    /// How long a key has to live, if it is there.
    pub(super) async fn ttl(&self, key: &str) -> Result<Option<Option<Duration>>, Failed> {
        if let Some(stub) = &self.stub {
            let (verdict, shown) = wire::ttl(stub, key, self.timeout).await;
            return of_verdict(&verdict).map(|()| shown);
        }
        let reply = self.client.ttl(key.to_owned()).await;
        let reply = reply.map_err(|error| of_error(&error))?;
        Ok(reply.found.then_some(reply.ttl))
    }
}

fn of_verdict(verdict: &Verdict) -> Result<(), Failed> {
    let Verdict {
        reason, message, ..
    } = verdict;
    match verdict.of_write() {
        Ending::Applied => Ok(()),
        Ending::NotApplied => Err((
            Ending::NotApplied,
            format!("not applied, {reason}: {message}"),
        )),
        Ending::Unknown => Err((Ending::Unknown, format!("unknown: {message}"))),
    }
}

/// What an error of the client says of a write.
pub(crate) fn of_error(error: &Error) -> Failed {
    match error {
        Error::NotApplied {
            reason, message, ..
        } => (
            Ending::NotApplied,
            format!("not applied, {reason}: {message}"),
        ),
        Error::OutcomeUnknown { message } => (Ending::Unknown, format!("unknown: {message}")),
        other => (Ending::NotApplied, format!("{other:?}")),
    }
}
