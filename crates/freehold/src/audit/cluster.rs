//! Which server of each shard leads, by what they themselves say.

use freehold_core::ShardClaims;
use freehold_storage::{Server, StorageError};

use super::all;
use crate::cluster::servers::ShardServers;

/// The server that leads a shard, what it says of its slots, and the others.
pub(crate) struct Leader<'a> {
    pub(crate) server: &'a Server,
    pub(crate) claims: ShardClaims,
    pub(crate) replicas: Vec<&'a Server>,
}

/// The leader of each shard, or why there is none.
pub(crate) async fn leaders(shards: &[ShardServers]) -> Vec<Result<Leader<'_>, String>> {
    all(shards.iter().map(leader).collect()).await
}

async fn leader(shard: &ShardServers) -> Result<Leader<'_>, String> {
    let servers: Vec<&Server> = std::iter::once(&shard.master)
        .chain(&shard.replicas)
        .collect();
    let looks = all(servers.iter().map(|server| claims(server)).collect()).await;
    let mut leading: Option<(usize, ShardClaims)> = None;
    let mut latest: Option<(u64, &str)> = None;
    let mut problems = Vec::new();
    for (index, (server, look)) in servers.iter().zip(looks).enumerate() {
        let address = server.address();
        match look {
            Err(error) => problems.push(format!("{address}: {error}")),
            Ok(claims) if claims.identity.name != shard.name => {
                let found = &claims.identity.name;
                problems.push(format!("{address}: it belongs to shard '{found}'"));
            }
            Ok(claims) => {
                let term = claims.fence.term;
                latest = latest.max(Some((term, address)));
                if claims.answered_by != claims.fence.server_id {
                    continue;
                }
                if leading
                    .as_ref()
                    .is_none_or(|(_, known)| known.fence.term < term)
                {
                    leading = Some((index, claims));
                }
            }
        }
    }
    // A former master goes on naming itself until it is told otherwise.
    let latest = latest.filter(|(term, _)| {
        let led = leading.as_ref().map(|(_, claims)| claims.fence.term);
        led.is_some_and(|led| led < *term)
    });
    if let Some((term, address)) = latest {
        problems.push(format!(
            "{address} shows term {term}, whose leader does not answer"
        ));
        leading = None;
    }
    let Some((index, claims)) = leading else {
        problems.insert(0, "no server of it leads".to_owned());
        return Err(problems.join("; "));
    };
    let replicas = servers.iter().enumerate().filter(|(at, _)| *at != index);
    Ok(Leader {
        server: servers[index],
        claims,
        replicas: replicas.map(|(_, server)| *server).collect(),
    })
}

/// What a server says of its slots.
pub(crate) async fn claims(server: &Server) -> Result<ShardClaims, StorageError> {
    server.connect().await?.claims(0).await
}
