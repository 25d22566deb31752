//! A method for each of `KeyValue`'s.

use std::time::Duration;

use bytes::Bytes;
use freehold_core::limits::VALUE_BYTES_MAX;
use freehold_proto::v1::{self, batch_get_result, batch_write_result, key_value_client};
use tonic::transport::Channel;

use crate::{
    connect::{self, ClientOptions, ConnectError},
    error::{CallKind, Error},
    pipeline::Pipeline,
    scan::{Scan, ScanOptions},
    types::{
        Consistency, DeleteReply, ExpireReply, GetReply, PutReply, TtlReply, Write, WriteReply,
        to_wire_duration,
    },
};

/// Room for the largest value and what stands around it.
const MESSAGE_BYTES_MAX: usize = VALUE_BYTES_MAX + (1 << 20);

/// Calls to one router. Clones share its connection.
#[derive(Debug, Clone)]
pub struct Client {
    stub: key_value_client::KeyValueClient<Channel>,
    timeout: Duration,
}

impl Client {
    /// Connects to `HOST:PORT` or `http://HOST:PORT`.
    ///
    /// # Errors
    /// [`ConnectError`].
    pub async fn connect(address: &str, options: &ClientOptions) -> Result<Self, ConnectError> {
        let channel = connect::channel(address, options).await?;
        let stub = key_value_client::KeyValueClient::new(channel)
            .max_decoding_message_size(MESSAGE_BYTES_MAX);
        Ok(Self {
            stub,
            timeout: options.timeout,
        })
    }

    /// Reads one key. A key that is not there is a normal answer without entry.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn get(
        &self,
        key: impl Into<Bytes>,
        consistency: &Consistency,
    ) -> Result<GetReply, Error> {
        let request = v1::GetRequest {
            key: key.into(),
            read: Some(consistency.to_wire()),
        };
        let response = self.stub.clone().get(self.request(request)).await;
        Ok(finish(response, CallKind::Read)?.into())
    }

    /// Stores a value, replacing what was there with its expiry.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn put(
        &self,
        key: impl Into<Bytes>,
        value: impl Into<Bytes>,
        ttl: Option<Duration>,
    ) -> Result<PutReply, Error> {
        let request = v1::PutRequest {
            key: key.into(),
            value: value.into(),
            ttl: ttl.map(to_wire_duration),
        };
        let response = self.stub.clone().put(self.request(request)).await;
        Ok(finish(response, CallKind::Write)?.into())
    }

    /// Removes a key and tells whether it was there.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn delete(&self, key: impl Into<Bytes>) -> Result<DeleteReply, Error> {
        let request = v1::DeleteRequest { key: key.into() };
        let response = self.stub.clone().delete(self.request(request)).await;
        Ok(finish(response, CallKind::Write)?.into())
    }

    /// Tells how long a key has to live.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn ttl(
        &self,
        key: impl Into<Bytes>,
        consistency: &Consistency,
    ) -> Result<TtlReply, Error> {
        let request = v1::TtlRequest {
            key: key.into(),
            read: Some(consistency.to_wire()),
        };
        let response = self.stub.clone().ttl(self.request(request)).await;
        Ok(finish(response, CallKind::Read)?.into())
    }

    /// Changes how long a live key has to live, without touching its value. `None`: for ever.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn expire(
        &self,
        key: impl Into<Bytes>,
        ttl: Option<Duration>,
    ) -> Result<ExpireReply, Error> {
        let request = v1::ExpireRequest {
            key: key.into(),
            ttl: ttl.map(to_wire_duration),
        };
        let response = self.stub.clone().expire(self.request(request)).await;
        Ok(finish(response, CallKind::Write)?.into())
    }

    /// Reads up to 1,000 keys: one result per key, in order.
    ///
    /// # Errors
    /// [`Error`] for all of them, or one for each in its place.
    pub async fn batch_get(
        &self,
        keys: Vec<Bytes>,
        consistency: &Consistency,
    ) -> Result<Vec<Result<GetReply, Error>>, Error> {
        let expected = keys.len();
        let request = v1::BatchGetRequest {
            keys,
            read: Some(consistency.to_wire()),
        };
        let response = self.stub.clone().batch_get(self.request(request)).await;
        let results = finish(response, CallKind::Read)?.results;
        counted(results.len(), expected, CallKind::Read)?;
        Ok(results
            .into_iter()
            .map(|result| match result.result {
                Some(batch_get_result::Result::Get(get)) => Ok(get.into()),
                Some(batch_get_result::Result::Error(status)) => {
                    Err(Error::from_item(&status, CallKind::Read))
                }
                None => Err(empty_result(CallKind::Read)),
            })
            .collect())
    }

    /// Writes up to 1,000 items or 8 MiB: one result per write, in order. Not atomic across keys.
    ///
    /// # Errors
    /// [`Error`] for all of them, or one for each in its place.
    pub async fn batch_write(
        &self,
        writes: Vec<Write>,
    ) -> Result<Vec<Result<WriteReply, Error>>, Error> {
        let expected = writes.len();
        let writes = writes.into_iter().map(v1::Write::from).collect();
        let request = v1::BatchWriteRequest { writes };
        let response = self.stub.clone().batch_write(self.request(request)).await;
        let results = finish(response, CallKind::Write)?.results;
        counted(results.len(), expected, CallKind::Write)?;
        Ok(results
            .into_iter()
            .map(|result| match result.result {
                Some(batch_write_result::Result::Put(put)) => Ok(WriteReply::Put(put.into())),
                Some(batch_write_result::Result::Delete(delete)) => {
                    Ok(WriteReply::Delete(delete.into()))
                }
                Some(batch_write_result::Result::Error(status)) => {
                    Err(Error::from_item(&status, CallKind::Write))
                }
                None => Err(empty_result(CallKind::Write)),
            })
            .collect())
    }

    /// Walks live keys. The timeout is for each message, not for the whole walk.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn scan(&self, options: &ScanOptions) -> Result<Scan, Error> {
        let call = self.stub.clone();
        Scan::open(call, options, self.timeout).await
    }

    /// Opens a stream that keeps up to `in_flight_max` requests under way.
    ///
    /// # Errors
    /// [`Error`].
    ///
    /// # Panics
    /// If `in_flight_max` is 0.
    pub async fn pipeline(&self, in_flight_max: usize) -> Result<Pipeline, Error> {
        Pipeline::open(self.stub.clone(), in_flight_max, self.timeout).await
    }

    fn request<T>(&self, message: T) -> tonic::Request<T> {
        let mut request = tonic::Request::new(message);
        request.set_timeout(self.timeout);
        request
    }
}

fn finish<T>(
    response: Result<tonic::Response<T>, tonic::Status>,
    kind: CallKind,
) -> Result<T, Error> {
    response
        .map(tonic::Response::into_inner)
        .map_err(|status| Error::from_status(&status, kind))
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

fn empty_result(kind: CallKind) -> Error {
    Error::no_answer("the router answered an empty result".to_owned(), kind)
}
