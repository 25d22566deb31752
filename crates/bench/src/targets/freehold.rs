//! Through the router: one gRPC call per key, or through Freehold's client.

use async_trait::async_trait;
use bytes::Bytes;
use freehold_client::{Client, ClientOptions};
use freehold_proto::v1::{GetRequest, PutRequest, key_value_client::KeyValueClient};
use tonic::transport::Channel;

use super::Caller;
use crate::{cluster::Cluster, error::Error};

/// Connections that unary callers share.
const UNARY_CONNECTIONS: usize = 4;

struct Unary(KeyValueClient<Channel>);

struct Pipelined(Client);

pub(super) async fn unary_callers(
    cluster: &Cluster,
    count: usize,
) -> Result<Vec<Box<dyn Caller>>, Error> {
    let mut stubs = Vec::new();
    for _ in 0..UNARY_CONNECTIONS.min(count) {
        let address = format!("http://{}", cluster.router_address());
        stubs.push(KeyValueClient::connect(address).await?);
    }
    let caller = |stub: &KeyValueClient<Channel>| Box::new(Unary(stub.clone())) as Box<dyn Caller>;
    Ok(stubs.iter().cycle().take(count).map(caller).collect())
}

pub(super) async fn pipeline_callers(
    cluster: &Cluster,
    count: usize,
) -> Result<Vec<Box<dyn Caller>>, Error> {
    // On a few cores that databases use too, one stream means the fullest packets.
    let options = ClientOptions {
        streams: 1,
        ..ClientOptions::default()
    };
    let client = Client::connect(&cluster.router_address(), &options).await?;
    let caller = |_| Box::new(Pipelined(client.clone())) as Box<dyn Caller>;
    Ok((0..count).map(caller).collect())
}

#[async_trait]
impl Caller for Unary {
    async fn get(&mut self, key: Bytes) -> Result<Option<Bytes>, Error> {
        let reply = self
            .0
            .get(GetRequest { key, read: None })
            .await
            .map_err(Box::new)?;
        Ok(reply.into_inner().entry.map(|entry| entry.value))
    }

    async fn put(&mut self, key: Bytes, value: Bytes) -> Result<(), Error> {
        let ttl = None;
        self.0
            .put(PutRequest { key, value, ttl })
            .await
            .map_err(Box::new)?;
        Ok(())
    }
}

#[async_trait]
impl Caller for Pipelined {
    async fn get(&mut self, key: Bytes) -> Result<Option<Bytes>, Error> {
        Ok(self.0.get(key).await?.entry.map(|entry| entry.value))
    }

    async fn put(&mut self, key: Bytes, value: Bytes) -> Result<(), Error> {
        self.0.put(key, value).await?;
        Ok(())
    }
}
