//! `freehold migrate`.

use clap::Args;
use freehold_core::SCHEMA_VERSION;
use serde_json::json;

use super::{Site, open_site, random};
use crate::{
    args::{AccountArgs, ConfigArgs},
    cluster::migrate::{MIGRATIONS, migrate},
    exit::{Exit, Failure},
    output::{Output, table},
};

const EXAMPLES: &str = "\
Examples:
  freehold migrate --config freehold.toml
  freehold migrate --config freehold.toml --user schema --password-file schema.password

Run it with a new program before its routers. Routers refuse tables of a version that they do not
know, so the old ones stop serving a shard when it is migrated. Where it was interrupted, run it
again.";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct MigrateArgs {
    #[command(flatten)]
    config: ConfigArgs,
    #[command(flatten)]
    account: AccountArgs,
}

pub(crate) async fn run(args: MigrateArgs, output: Output) -> Result<Exit, Failure> {
    let Site {
        shards,
        lock: _lock,
        ..
    } = open_site(&args.config, Some(&args.account), 1, true, &mut random()?)?;
    let done = migrate(&shards, MIGRATIONS).await?;
    if output.is_json() {
        let shards: Vec<_> = done
            .iter()
            .map(|shard| {
                json!({
                    "shard": shard.shard,
                    "server": shard.address,
                    "from_version": shard.from_version,
                    "to_version": shard.to_version,
                })
            })
            .collect();
        output.json(&json!({ "shards": shards }))?;
        return Ok(Exit::Done);
    }
    let mut table = table::table(&["SHARD", "MASTER", "VERSION", "STATE"]);
    for shard in &done {
        let state = if shard.from_version == shard.to_version {
            "nothing to do".to_owned()
        } else {
            format!("migrated from {}", shard.from_version)
        };
        table.add_row(vec![
            shard.shard.as_str().into(),
            shard.address.as_str().into(),
            table::number(shard.to_version),
            table::status(&state, true),
        ]);
    }
    output.line(&table::render(&table))?;
    output.line(&format!("all shards are at version {SCHEMA_VERSION}"))?;
    Ok(Exit::Done)
}
