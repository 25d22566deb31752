//! Many keys in one call.

use std::{future::IntoFuture, pin::Pin, time::Duration};

use bytes::Bytes;
use freehold_proto::v1::{self, batch_get_result, batch_write_result};
use tokio::time::Instant;

use crate::{
    client::{Client, deadline_of},
    error::{CallKind, Error, Failure},
    retry::Again,
    types::{Consistency, GetReply, Write, WriteReply},
    unary,
};

type Answers<T> = Pin<Box<dyn Future<Output = Result<Vec<Result<T, Error>>, Error>> + Send>>;

/// A [`Client::batch_get`]. It is made when it is awaited.
#[must_use = "a call is made when it is awaited"]
#[derive(Debug)]
pub struct BatchGet {
    client: Client,
    keys: Vec<Bytes>,
    consistency: Consistency,
    timeout: Duration,
}

/// A [`Client::batch_write`]. It is made when it is awaited.
#[must_use = "a call is made when it is awaited"]
#[derive(Debug)]
pub struct BatchWrite {
    client: Client,
    writes: Vec<Write>,
    timeout: Duration,
}

impl BatchGet {
    pub(crate) fn new(client: Client, keys: Vec<Bytes>) -> Self {
        Self {
            timeout: client.options().timeout,
            client,
            keys,
            consistency: Consistency::default(),
        }
    }

    /// How fresh the answers must be.
    pub fn consistency(mut self, consistency: Consistency) -> Self {
        self.consistency = consistency;
        self
    }

    /// What this call may take in all.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Asks for all keys, then again for those that found no room in the answer, or may be asked
    /// for again.
    async fn run(self) -> Result<Vec<Result<GetReply, Error>>, Error> {
        let deadline = deadline_of(Instant::now(), self.timeout);
        let mut results: Vec<Option<Result<GetReply, Error>>> = vec![None; self.keys.len()];
        let mut open: Vec<usize> = (0..self.keys.len()).collect();
        let mut attempts = 0;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let asked = open.iter().map(|place| self.keys[*place].clone()).collect();
            let answers = match self.ask(asked, left).await {
                Ok(answers) => answers,
                // The first try speaks for all; later ones only for what was still open.
                Err(error) if attempts == 0 => return Err(error),
                Err(error) => {
                    for place in open {
                        results[place] = Some(Err(error.clone()));
                    }
                    break;
                }
            };
            attempts += 1;
            let any_answered = answers.iter().any(Result::is_ok);
            let mut pause = Some(Duration::ZERO);
            let mut again = Vec::new();
            for (place, answer) in open.into_iter().zip(answers) {
                results[place] = Some(match answer {
                    Ok(reply) => Ok(reply),
                    Err(failure) => {
                        match failure.again {
                            // No room in the answer: not a retry, as long as some of them fit.
                            Again::After(Duration::ZERO) if any_answered => again.push(place),
                            Again::Never => {}
                            other => {
                                let asked = self.client.retries().again(other, attempts);
                                pause = pause.and_then(|pause| Some(pause.max(asked?)));
                                again.push(place);
                            }
                        }
                        Err(failure.error)
                    }
                });
            }
            match pause {
                Some(pause) if !again.is_empty() && Instant::now() + pause < deadline => {
                    tokio::time::sleep(pause).await;
                    open = again;
                }
                _ => break,
            }
        }
        Ok(results
            .into_iter()
            .map(|result| result.unwrap_or_else(|| Err(empty(CallKind::Read).error)))
            .collect())
    }

    async fn ask(
        &self,
        keys: Vec<Bytes>,
        timeout: Duration,
    ) -> Result<Vec<Result<GetReply, Failure>>, Error> {
        let expected = keys.len();
        let request = v1::BatchGetRequest {
            keys,
            read: self.consistency.to_wire(),
        };
        let response = unary::call(&self.client, CallKind::Read, timeout, |mut stub, left| {
            let request = with_timeout(request.clone(), left);
            async move { stub.batch_get(request).await }
        });
        let results = response.await?.results;
        counted(results.len(), expected, CallKind::Read)?;
        Ok(results
            .into_iter()
            .map(|result| match result.result {
                Some(batch_get_result::Result::Get(get)) => Ok(get.into()),
                Some(batch_get_result::Result::Error(status)) => {
                    Err(Failure::of_item(&status, CallKind::Read))
                }
                None => Err(empty(CallKind::Read)),
            })
            .collect())
    }
}

impl BatchWrite {
    pub(crate) fn new(client: Client, writes: Vec<Write>) -> Self {
        Self {
            timeout: client.options().timeout,
            client,
            writes,
        }
    }

    /// What this call may take in all.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    async fn run(self) -> Result<Vec<Result<WriteReply, Error>>, Error> {
        let expected = self.writes.len();
        let writes = self.writes.into_iter().map(v1::Write::from).collect();
        let request = v1::BatchWriteRequest { writes };
        let kind = CallKind::Write;
        let response = unary::call(&self.client, kind, self.timeout, |mut stub, left| {
            let request = with_timeout(request.clone(), left);
            async move { stub.batch_write(request).await }
        });
        let results = response.await?.results;
        counted(results.len(), expected, kind)?;
        Ok(results
            .into_iter()
            .map(|result| match result.result {
                Some(batch_write_result::Result::Put(put)) => Ok(WriteReply::Put(put.into())),
                Some(batch_write_result::Result::Delete(delete)) => {
                    Ok(WriteReply::Delete(delete.into()))
                }
                Some(batch_write_result::Result::Error(status)) => {
                    Err(Failure::of_item(&status, kind).error)
                }
                None => Err(empty(kind).error),
            })
            .collect())
    }
}

impl IntoFuture for BatchGet {
    type Output = Result<Vec<Result<GetReply, Error>>, Error>;
    type IntoFuture = Answers<GetReply>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

impl IntoFuture for BatchWrite {
    type Output = Result<Vec<Result<WriteReply, Error>>, Error>;
    type IntoFuture = Answers<WriteReply>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

fn with_timeout<T>(message: T, timeout: Duration) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.set_timeout(timeout);
    request
}

/// A router that answers fewer or more results than it was asked for says nothing about any.
fn counted(results: usize, expected: usize, kind: CallKind) -> Result<(), Error> {
    if results == expected {
        return Ok(());
    }
    Err(Error::no_answer(
        format!("the router answered {results} results for {expected} items"),
        kind,
    ))
}

fn empty(kind: CallKind) -> Failure {
    Failure {
        error: Error::no_answer("the router answered an empty result".to_owned(), kind),
        again: Again::Never,
    }
}
