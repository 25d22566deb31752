//! The ways to the data.

mod direct;
mod freehold;
mod raw;
mod redis;

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use clap::ValueEnum;
use serde::Serialize;

use crate::{error::Error, plan::Plan, servers::Servers, workload::Workload};

/// How long a key lives that a workload gives a time to live: longer than any run.
pub(crate) const TTL: Duration = Duration::from_secs(86_400);

/// A way to the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Target {
    /// One prepared statement per key, one connection per caller: what a team writes itself.
    Direct,
    /// The same, through MySQL Router.
    MysqlRouter,
    /// The same, on a table of the Spider engine whose rows lie on the same master.
    Spider,
    /// Redis, a connection per caller, one command per round trip; nothing is on disk.
    Redis,
    /// Redis, all callers on as few connections as Freehold's client has, pipelined.
    RedisPipelined,
    /// Redis, a connection per caller, each write synced to its log (appendfsync always).
    RedisAlways,
    /// Freehold, one gRPC call per key.
    Unary,
    /// Freehold, all callers on one Rust client.
    Client,
    /// The limit: Freehold's own statements in full batches, from two connections, with nothing in
    /// between.
    Raw,
    /// A gRPC call to the router that does nothing (health).
    EmptyCall,
}

/// What keeps a target's rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Store {
    Direct,
    Freehold,
    Redis,
    RedisAlways,
}

impl Store {
    pub(crate) const ALL: [Self; 4] =
        [Self::Direct, Self::Freehold, Self::Redis, Self::RedisAlways];
}

impl Target {
    pub(crate) const ALL: [Self; 10] = [
        Self::Direct,
        Self::MysqlRouter,
        Self::Spider,
        Self::Redis,
        Self::RedisPipelined,
        Self::RedisAlways,
        Self::Unary,
        Self::Client,
        Self::Raw,
        Self::EmptyCall,
    ];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::MysqlRouter => "mysql-router",
            Self::Spider => "spider",
            Self::Redis => "redis",
            Self::RedisPipelined => "redis-pipelined",
            Self::RedisAlways => "redis-always",
            Self::Unary => "unary",
            Self::Client => "client",
            Self::Raw => "raw",
            Self::EmptyCall => "empty-call",
        }
    }

    /// For people who read the report.
    pub(crate) const fn explanation(self) -> &'static str {
        match self {
            Self::Direct => "per-key prepared statements, a connection per caller",
            Self::MysqlRouter => "the same through MySQL Router",
            Self::Spider => "the same on a Spider table whose rows lie on the same master",
            Self::Redis => "Redis in memory, a connection per caller, one command per round trip",
            Self::RedisPipelined => {
                "Redis in memory, as few connections as the client has streams, pipelined"
            }
            Self::RedisAlways => "Redis with appendfsync always, a connection per caller",
            Self::Unary => "Freehold, one gRPC call per key, 4 connections",
            Self::Client => "Freehold through its Rust client",
            Self::Raw => "Freehold's statements in full batches from two connections: the limit",
            Self::EmptyCall => "a gRPC call to the router that does nothing",
        }
    }

    pub(crate) const fn store(self) -> Store {
        match self {
            Self::Direct | Self::MysqlRouter | Self::Spider => Store::Direct,
            Self::Redis | Self::RedisPipelined => Store::Redis,
            Self::RedisAlways => Store::RedisAlways,
            Self::Unary | Self::Client | Self::Raw | Self::EmptyCall => Store::Freehold,
        }
    }

    /// Whether the database executes a statement for each call.
    pub(crate) const fn is_one_statement_per_call(self) -> bool {
        matches!(
            self,
            Self::Direct
                | Self::MysqlRouter
                | Self::Redis
                | Self::RedisPipelined
                | Self::RedisAlways
        )
    }

    /// Why it has no part in a cell, if so.
    pub(crate) fn has_no_part_in(self, workload: Workload, callers: usize) -> Option<&'static str> {
        match self {
            Self::Redis | Self::RedisPipelined | Self::RedisAlways if workload.scans() => {
                Some("Redis has no scan in the order of keys")
            }
            Self::RedisAlways if !workload.writes() => Some("a read waits for no log"),
            Self::Raw if !matches!(workload, Workload::Get | Workload::Put | Workload::PutTtl) => {
                Some("the limit is measured for plain reads and writes")
            }
            Self::EmptyCall if workload != Workload::Get || callers != 1 => {
                Some("an empty call is measured alone")
            }
            _ => None,
        }
    }

    /// So many callers, connected and ready.
    pub(crate) async fn callers(
        self,
        servers: &Servers,
        plan: &Plan,
        count: usize,
    ) -> Result<Callers, Error> {
        let one_by_one = match self {
            Self::Direct | Self::MysqlRouter | Self::Spider => {
                direct::callers(servers.sql_options(self)?, count).await?
            }
            Self::Redis | Self::RedisAlways => {
                redis::callers(redis_port(self, servers)?, count).await?
            }
            Self::RedisPipelined => {
                redis::pipelined(redis_port(self, servers)?, count, plan.streams).await?
            }
            Self::Unary => freehold::unary_callers(servers, count).await?,
            Self::Client => freehold::client_callers(servers, count, plan.streams).await?,
            Self::EmptyCall => freehold::empty_callers(servers, count).await?,
            Self::Raw => return Ok(Callers::Batches(raw::callers(servers, count).await?)),
        };
        Ok(Callers::OneByOne(one_by_one))
    }
}

fn redis_port(target: Target, servers: &Servers) -> Result<u16, Error> {
    servers.redis_port(target).ok_or_else(|| Error::Peer {
        reason: "Redis was not started".to_owned(),
    })
}

/// Who calls.
pub(crate) enum Callers {
    OneByOne(Vec<Box<dyn Caller>>),
    /// Each stands for as many callers as its batches have places.
    Batches(Vec<raw::Batcher>),
}

/// Somebody with one request outstanding at a time.
#[async_trait]
pub(crate) trait Caller: Send {
    /// The value of a key.
    async fn get(&mut self, key: Bytes) -> Result<Option<Bytes>, Error>;

    /// Stores a value, for [`TTL`] or for ever; returns when it is as durable as the target has it.
    async fn put(&mut self, key: Bytes, value: Bytes, expires: bool) -> Result<(), Error>;

    /// The first rows from `start` on, before `end`, in the order of their keys.
    async fn scan(
        &mut self,
        _start: Bytes,
        _end: Bytes,
        _rows: u64,
    ) -> Result<Vec<(Bytes, Bytes)>, Error> {
        unreachable!("a target without scans has no part in workloads with them")
    }
}

pub(crate) use raw::Batcher;
