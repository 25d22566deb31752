//! Through the router: one call per key, or all callers on one stream.

use async_trait::async_trait;
use bytes::Bytes;
use freehold_client::{Client, ClientOptions, Consistency, Pipeline, Request, Response};

use super::Caller;
use crate::{cluster::Cluster, error::Error};

/// Connections that unary callers share.
const UNARY_CONNECTIONS: usize = 4;

struct Unary(Client);

struct Pipelined(Pipeline);

async fn client(cluster: &Cluster) -> Result<Client, Error> {
    Ok(Client::connect(&cluster.router_address(), &ClientOptions::default()).await?)
}

pub(super) async fn unary_callers(
    cluster: &Cluster,
    count: usize,
) -> Result<Vec<Box<dyn Caller>>, Error> {
    let mut clients = Vec::new();
    for _ in 0..UNARY_CONNECTIONS.min(count) {
        clients.push(client(cluster).await?);
    }
    let caller = |client: &Client| Box::new(Unary(client.clone())) as Box<dyn Caller>;
    Ok(clients.iter().cycle().take(count).map(caller).collect())
}

pub(super) async fn pipeline_callers(
    cluster: &Cluster,
    count: usize,
) -> Result<Vec<Box<dyn Caller>>, Error> {
    let pipeline = client(cluster).await?.pipeline(count).await?;
    let caller = |_| Box::new(Pipelined(pipeline.clone())) as Box<dyn Caller>;
    Ok((0..count).map(caller).collect())
}

#[async_trait]
impl Caller for Unary {
    async fn get(&mut self, key: Bytes) -> Result<Option<Bytes>, Error> {
        let reply = self.0.get(key, &Consistency::Strong).await?;
        Ok(reply.entry.map(|entry| entry.value))
    }

    async fn put(&mut self, key: Bytes, value: Bytes) -> Result<(), Error> {
        self.0.put(key, value, None).await?;
        Ok(())
    }
}

#[async_trait]
impl Caller for Pipelined {
    async fn get(&mut self, key: Bytes) -> Result<Option<Bytes>, Error> {
        let request = Request::Get {
            key,
            consistency: Consistency::Strong,
        };
        match self.0.call(request).await? {
            Response::Get(reply) => Ok(reply.entry.map(|entry| entry.value)),
            other => unreachable!("a get is answered with a get: {other:?}"),
        }
    }

    async fn put(&mut self, key: Bytes, value: Bytes) -> Result<(), Error> {
        self.0
            .call(Request::Put {
                key,
                value,
                ttl: None,
            })
            .await?;
        Ok(())
    }
}
