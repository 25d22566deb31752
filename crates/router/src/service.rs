//! The gRPC service `KeyValue`: decodes, validates, asks, encodes. One file per kind of method.

mod batch;
mod counted;
mod encode;
mod pipeline;
mod scan;
mod single;

use std::{pin::Pin, sync::Arc};

use freehold_proto::v1::{self, key_value_server::KeyValue};
use futures::Stream;
use tonic::{Code, Request, Response, Status, Streaming};

use self::{counted::Counted, single::Single};
use crate::{
    admission::Waiting, budget::Held, calls::Calls, failure::Failure, metrics::Metrics, status,
};

/// Serves `KeyValue`.
#[derive(Debug, Clone)]
pub struct KeyValueService {
    calls: Arc<Calls>,
    metrics: Metrics,
}

/// A stream of responses.
pub type ResponseStream<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl KeyValueService {
    /// A service over these lanes.
    #[must_use]
    pub fn new(calls: Arc<Calls>, metrics: Metrics) -> Self {
        Self { calls, metrics }
    }

    /// A call on one key.
    fn respond<T>(
        &self,
        method: &'static str,
        single: Single<'_, T>,
    ) -> Result<Response<T>, Status> {
        let Single { shard, result } = single;
        let code = result.as_ref().map_or_else(status::code, |_| Code::Ok);
        self.metrics.request_of(method, shard, code);
        result
            .map(Response::new)
            .map_err(|failure| status::to_status(&failure))
    }

    /// A call on many keys: its items have shards and endings of their own.
    fn respond_whole<T>(
        &self,
        method: &'static str,
        result: Result<T, Failure>,
    ) -> Result<Response<T>, Status> {
        match result {
            Ok(response) => {
                self.metrics.request(method, Code::Ok);
                Ok(Response::new(response))
            }
            Err(failure) => Err(self.refuse(method, &failure)),
        }
    }

    /// A call that is counted when its stream ends.
    fn respond_stream<T: 'static>(
        &self,
        method: &'static str,
        stream: Result<ResponseStream<T>, Failure>,
    ) -> Result<Response<ResponseStream<T>>, Status> {
        let stream = stream.map_err(|failure| self.refuse(method, &failure))?;
        let counted = Counted::new(stream, method, self.metrics.clone());
        Ok(Response::new(Box::pin(counted)))
    }

    fn refuse(&self, method: &'static str, failure: &Failure) -> Status {
        self.metrics.request(method, status::code(failure));
        self.calls.shards.unrouted.refused(failure);
        status::to_status(failure)
    }
}

/// The response takes this room until it was sent.
fn with_rooms<T>(mut response: Response<T>, rooms: Vec<Arc<Held>>) -> Response<T> {
    response.extensions_mut().insert(Waiting(rooms));
    response
}

#[tonic::async_trait]
impl KeyValue for KeyValueService {
    async fn get(
        &self,
        request: Request<v1::GetRequest>,
    ) -> Result<Response<v1::GetResponse>, Status> {
        let deadline = self.calls.deadline(request.metadata());
        let got = single::get(&self.calls, request.into_inner(), deadline).await;
        let mut rooms = Vec::new();
        let got = got.map(|(response, room)| {
            rooms.extend(room);
            response
        });
        Ok(with_rooms(self.respond("Get", got)?, rooms))
    }

    async fn put(
        &self,
        request: Request<v1::PutRequest>,
    ) -> Result<Response<v1::PutResponse>, Status> {
        let deadline = self.calls.deadline(request.metadata());
        let result = single::put(&self.calls, request.into_inner(), deadline).await;
        self.respond("Put", result)
    }

    async fn delete(
        &self,
        request: Request<v1::DeleteRequest>,
    ) -> Result<Response<v1::DeleteResponse>, Status> {
        let deadline = self.calls.deadline(request.metadata());
        let result = single::delete(&self.calls, request.into_inner(), deadline).await;
        self.respond("Delete", result)
    }

    async fn ttl(
        &self,
        request: Request<v1::TtlRequest>,
    ) -> Result<Response<v1::TtlResponse>, Status> {
        let deadline = self.calls.deadline(request.metadata());
        let result = single::ttl(&self.calls, request.into_inner(), deadline).await;
        self.respond("Ttl", result)
    }

    async fn expire(
        &self,
        request: Request<v1::ExpireRequest>,
    ) -> Result<Response<v1::ExpireResponse>, Status> {
        let deadline = self.calls.deadline(request.metadata());
        let result = single::expire(&self.calls, request.into_inner(), deadline).await;
        self.respond("Expire", result)
    }

    async fn batch_get(
        &self,
        request: Request<v1::BatchGetRequest>,
    ) -> Result<Response<v1::BatchGetResponse>, Status> {
        let deadline = self.calls.deadline(request.metadata());
        let result = batch::get(&self.calls, request.into_inner(), deadline).await;
        let (result, rooms) = match result {
            Ok((response, rooms)) => (Ok(response), rooms),
            Err(failure) => (Err(failure), Vec::new()),
        };
        let response = self.respond_whole("BatchGet", result)?;
        Ok(with_rooms(response, rooms))
    }

    async fn batch_write(
        &self,
        request: Request<v1::BatchWriteRequest>,
    ) -> Result<Response<v1::BatchWriteResponse>, Status> {
        let deadline = self.calls.deadline(request.metadata());
        let result = batch::write(&self.calls, request.into_inner(), deadline).await;
        self.respond_whole("BatchWrite", result)
    }

    type ScanStream = ResponseStream<v1::ScanResponse>;

    async fn scan(
        &self,
        request: Request<v1::ScanRequest>,
    ) -> Result<Response<Self::ScanStream>, Status> {
        self.respond_stream("Scan", scan::start(&self.calls, request))
    }

    type PipelineStream = ResponseStream<v1::PipelineResponse>;

    async fn pipeline(
        &self,
        request: Request<Streaming<v1::PipelineRequest>>,
    ) -> Result<Response<Self::PipelineStream>, Status> {
        let stream = pipeline::start(self.calls.clone(), request);
        self.respond_stream("Pipeline", Ok(stream))
    }
}
