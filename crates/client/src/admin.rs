//! Asking a router about its cluster. Answers are the wire's own messages: they are for showing.

use std::time::Duration;

use bytes::Bytes;
use freehold_proto::v1::{self, admin_client};
use tonic::transport::Channel;

use crate::{
    address,
    connect::{self, ConnectError},
    error::{CallKind, Error},
    options::ClientOptions,
};

/// Calls to the admin listener of one router.
#[derive(Debug, Clone)]
pub struct AdminClient {
    stub: admin_client::AdminClient<Channel>,
    timeout: Duration,
}

impl AdminClient {
    /// Connects to `HOST:PORT` or `http://HOST:PORT`.
    ///
    /// # Errors
    /// [`ConnectError`].
    pub async fn connect(address: &str, options: &ClientOptions) -> Result<Self, ConnectError> {
        let wrong = |address| ConnectError::Address { address };
        let authority = match address::parse_all(address).map_err(wrong)?.as_slice() {
            [one] => one.authority(),
            _ => return Err(wrong(address.to_owned())),
        };
        let channel = connect::channel(&authority, options).await?;
        Ok(Self {
            stub: admin_client::AdminClient::new(channel),
            timeout: options.timeout,
        })
    }

    /// The way of one key from its hash to its row.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn explain(&self, key: impl Into<Bytes>) -> Result<v1::ExplainResponse, Error> {
        let request = self.request(v1::ExplainRequest { key: key.into() });
        finish(self.stub.clone().explain(request).await)
    }

    /// What the router knows of each shard.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn list_shards(&self) -> Result<v1::ListShardsResponse, Error> {
        let request = self.request(v1::ListShardsRequest {});
        finish(self.stub.clone().list_shards(request).await)
    }

    /// Lets the promoted server of a shard be written to.
    ///
    /// # Errors
    /// [`Error`], with what speaks against it. Asking twice is as good as once.
    pub async fn adopt(&self, shard: &str) -> Result<v1::AdoptResponse, Error> {
        let shard = shard.to_owned();
        let request = self.request(v1::AdoptRequest { shard });
        finish(self.stub.clone().adopt(request).await)
    }

    /// What each shard's sweeper does; with `dry_run` also what is due. No shard means all.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn list_sweepers(
        &self,
        shard: Option<&str>,
        dry_run: bool,
    ) -> Result<v1::ListSweepersResponse, Error> {
        let shard = shard.unwrap_or_default().to_owned();
        let request = self.request(v1::ListSweepersRequest { shard, dry_run });
        finish(self.stub.clone().list_sweepers(request).await)
    }

    /// Pauses or resumes sweeping, for all routers and across restarts. No shard means all.
    ///
    /// # Errors
    /// [`Error`]. Doing it twice is as good as once.
    pub async fn pause_sweepers(
        &self,
        shard: Option<&str>,
        paused: bool,
    ) -> Result<v1::PauseSweepersResponse, Error> {
        let shard = shard.unwrap_or_default().to_owned();
        let request = self.request(v1::PauseSweepersRequest { shard, paused });
        finish(self.stub.clone().pause_sweepers(request).await)
    }

    /// What it takes to bring slots where somebody wants them. It has no timeout: to read rows takes as
    /// long as it takes, and dropping the call ends it.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn plan_moves(
        &self,
        wanted: v1::PlanMovesRequest,
    ) -> Result<v1::PlanMovesResponse, Error> {
        finish(self.stub.clone().plan_moves(wanted).await)
    }

    /// Has the router move slots.
    ///
    /// # Errors
    /// [`Error`]. Doing it twice, with the same id, is as good as once.
    pub async fn start_move(
        &self,
        wanted: v1::StartMoveRequest,
    ) -> Result<v1::StartMoveResponse, Error> {
        let request = self.request(wanted);
        finish(self.stub.clone().start_move(request).await)
    }

    /// How far a move is.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn get_move(&self, id: u64) -> Result<v1::GetMoveResponse, Error> {
        let request = self.request(v1::GetMoveRequest { id });
        finish(self.stub.clone().get_move(request).await)
    }

    /// The moves of slots that the shards have written down.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn list_moves(&self) -> Result<v1::ListMovesResponse, Error> {
        let request = self.request(v1::ListMovesRequest {});
        finish(self.stub.clone().list_moves(request).await)
    }

    /// Has the router go on with moves that are open; without ids, with all of them.
    ///
    /// # Errors
    /// [`Error`]. Doing it twice is as good as once.
    pub async fn resume_moves(&self, ids: Vec<u64>) -> Result<v1::ResumeMovesResponse, Error> {
        let request = self.request(v1::ResumeMovesRequest { ids });
        finish(self.stub.clone().resume_moves(request).await)
    }

    /// Has the router take moves back that are open; without ids, all of them.
    ///
    /// # Errors
    /// [`Error`]. Doing it twice is as good as once.
    pub async fn cancel_moves(&self, ids: Vec<u64>) -> Result<v1::CancelMovesResponse, Error> {
        let request = self.request(v1::CancelMovesRequest { ids });
        finish(self.stub.clone().cancel_moves(request).await)
    }

    fn request<T>(&self, message: T) -> tonic::Request<T> {
        let mut request = tonic::Request::new(message);
        request.set_timeout(self.timeout);
        request
    }
}

// None of these calls writes data, and each may be repeated.
fn finish<T>(response: Result<tonic::Response<T>, tonic::Status>) -> Result<T, Error> {
    response
        .map(tonic::Response::into_inner)
        .map_err(|status| Error::from_status(&status, CallKind::Read))
}
