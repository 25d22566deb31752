//! Through the router: one gRPC call per key, or through Freehold's client.

use async_trait::async_trait;
use bytes::Bytes;
use freehold_client::{Client, ClientOptions, ScanOptions};
use freehold_proto::v1::{GetRequest, PutRequest, ScanRequest, key_value_client::KeyValueClient};
use tonic::transport::{Channel, Endpoint};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use super::{Caller, TTL};
use crate::{error::Error, servers::Servers};

/// Connections that unary callers share.
const UNARY_CONNECTIONS: usize = 4;

struct Unary(KeyValueClient<Channel>);

struct Pipelined(Client);

struct Empty(HealthClient<Channel>);

async fn channels(servers: &Servers, count: usize) -> Result<Vec<Channel>, Error> {
    let mut channels = Vec::new();
    for _ in 0..UNARY_CONNECTIONS.min(count) {
        let address = format!("http://{}", servers.router_address());
        let endpoint = Endpoint::from_shared(address)?;
        channels.push(endpoint.tcp_nodelay(true).connect().await?);
    }
    Ok(channels)
}

pub(super) async fn unary_callers(
    servers: &Servers,
    count: usize,
) -> Result<Vec<Box<dyn Caller>>, Error> {
    let channels = channels(servers, count).await?;
    let caller = |channel: &Channel| {
        Box::new(Unary(KeyValueClient::new(channel.clone()))) as Box<dyn Caller>
    };
    Ok(channels.iter().cycle().take(count).map(caller).collect())
}

pub(super) async fn empty_callers(
    servers: &Servers,
    count: usize,
) -> Result<Vec<Box<dyn Caller>>, Error> {
    let channels = channels(servers, count).await?;
    let caller =
        |channel: &Channel| Box::new(Empty(HealthClient::new(channel.clone()))) as Box<dyn Caller>;
    Ok(channels.iter().cycle().take(count).map(caller).collect())
}

pub(super) async fn client_callers(
    servers: &Servers,
    count: usize,
    streams: usize,
) -> Result<Vec<Box<dyn Caller>>, Error> {
    let options = ClientOptions {
        streams,
        ..ClientOptions::default()
    };
    let client = Client::connect(&servers.router_address(), &options).await?;
    let caller = |_| Box::new(Pipelined(client.clone())) as Box<dyn Caller>;
    Ok((0..count).map(caller).collect())
}

#[async_trait]
impl Caller for Unary {
    async fn get(&mut self, key: Bytes) -> Result<Option<Bytes>, Error> {
        let reply = self.0.get(GetRequest { key, read: None }).await;
        let reply = reply.map_err(Box::new)?;
        Ok(reply.into_inner().entry.map(|entry| entry.value))
    }

    async fn put(&mut self, key: Bytes, value: Bytes, expires: bool) -> Result<(), Error> {
        let ttl = expires.then(|| TTL.try_into().expect("a day fits"));
        let reply = self.0.put(PutRequest { key, value, ttl }).await;
        reply.map_err(Box::new)?;
        Ok(())
    }

    async fn scan(
        &mut self,
        start: Bytes,
        _end: Bytes,
        rows: u64,
    ) -> Result<Vec<(Bytes, Bytes)>, Error> {
        let request = ScanRequest {
            prefix: start,
            page_token: Bytes::new(),
            page_size: u32::try_from(rows).unwrap_or(u32::MAX),
            read: None,
            slots: None,
        };
        let reply = self.0.scan(request).await.map_err(Box::new)?;
        let (mut stream, mut found) = (reply.into_inner(), Vec::new());
        while let Some(message) = stream.message().await.map_err(Box::new)? {
            if let Some(entry) = message.entry {
                found.push((message.key, entry.value));
            }
        }
        Ok(found)
    }
}

#[async_trait]
impl Caller for Pipelined {
    async fn get(&mut self, key: Bytes) -> Result<Option<Bytes>, Error> {
        Ok(self.0.get(key).await?.entry.map(|entry| entry.value))
    }

    async fn put(&mut self, key: Bytes, value: Bytes, expires: bool) -> Result<(), Error> {
        self.0.put(key, value).ttl(expires.then_some(TTL)).await?;
        Ok(())
    }

    async fn scan(
        &mut self,
        start: Bytes,
        _end: Bytes,
        rows: u64,
    ) -> Result<Vec<(Bytes, Bytes)>, Error> {
        let options = ScanOptions {
            prefix: start,
            rows_max: u32::try_from(rows).unwrap_or(u32::MAX),
            ..ScanOptions::default()
        };
        let mut scan = self.0.scan(&options).await?;
        let mut found = Vec::new();
        while let Some((key, entry)) = scan.next().await? {
            found.push((key, entry.value));
        }
        Ok(found)
    }
}

#[async_trait]
impl Caller for Empty {
    async fn get(&mut self, _key: Bytes) -> Result<Option<Bytes>, Error> {
        let service = String::new();
        let reply = self.0.check(HealthCheckRequest { service }).await;
        reply.map_err(Box::new)?;
        Ok(None)
    }

    async fn put(&mut self, _key: Bytes, _value: Bytes, _expires: bool) -> Result<(), Error> {
        unreachable!("an empty call has no part in writes")
    }
}
