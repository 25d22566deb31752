//! What `serve` says when it is ready: where it listens, what it stores where, and what to do next.

use std::{env, path::Path};

use serde_json::{Value, json};

use crate::{
    config::ShardConfig,
    output::{bold, dim},
};

const DEFAULT_ADDRESS: &str = "127.0.0.1:7420";

/// A router that listens.
pub(crate) struct Banner<'a> {
    pub(crate) listen: &'a str,
    pub(crate) admin: &'a str,
    pub(crate) shards: &'a [ShardConfig],
    /// The folder of embedded shards, if that is what they are.
    pub(crate) folder: Option<&'a Path>,
}

impl Banner<'_> {
    /// For people.
    pub(crate) fn text(&self) -> String {
        let Self { listen, admin, .. } = self;
        let program = program();
        let address = if *listen == DEFAULT_ADDRESS {
            String::new()
        } else {
            format!(" --addr {listen}")
        };
        let line = |what: &str, text: String| format!("  {} {text}\n", dim(&format!("{what:<7}")));
        let mut text = format!(
            "{}\n\n",
            bold(concat!("Freehold ", env!("CARGO_PKG_VERSION")))
        );
        text += &line("keys", format!("{listen} (gRPC)"));
        text += &line("admin", format!("http://{admin}/metrics and /healthz"));
        text += &line("data", self.data());
        text +=
            &format!("\n  Next, in another terminal:\n    {program} put{address} hello world\n");
        text += &format!("    {program} get{address} hello\n    {program} --help\n");
        text
    }

    /// For programs.
    pub(crate) fn json(&self) -> Value {
        let shards: Vec<Value> = self
            .shards
            .iter()
            .map(|shard| {
                let replicas: Vec<String> =
                    shard.replicas.iter().map(ToString::to_string).collect();
                json!({
                    "name": shard.name,
                    "master": shard.master.to_string(),
                    "replicas": replicas,
                })
            })
            .collect();
        json!({ "listen": self.listen, "admin": self.admin, "shards": shards })
    }

    fn data(&self) -> String {
        const SHOWN: usize = 4;
        if let Some(folder) = self.folder {
            return format!(
                "{} embedded SQLite shards in {}; --config FILE for MySQL or MariaDB",
                self.shards.len(),
                Path::new(".").join(folder).display()
            );
        }
        let mut masters: Vec<String> = self
            .shards
            .iter()
            .take(SHOWN)
            .map(|shard| format!("{} on {}", shard.name, shard.master))
            .collect();
        if self.shards.len() > SHOWN {
            masters.push(format!("{} more", self.shards.len() - SHOWN));
        }
        let replicas: usize = self.shards.iter().map(|shard| shard.replicas.len()).sum();
        let plural = |number: usize, one| crate::output::human::plural(number as u64, one);
        format!(
            "{}, {}: {}",
            plural(self.shards.len(), "shard"),
            plural(replicas, "replica"),
            masters.join(", ")
        )
    }
}

/// This program as it was called: a first build is not on the path.
fn program() -> String {
    env::args().next().unwrap_or_else(|| "freehold".to_owned())
}
