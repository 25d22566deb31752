//! `freehold serve`.

use std::{path::Path, process};

use clap::Args;
use rand::{Rng as _, rngs::StdRng};
use tokio::signal::unix::{SignalKind, signal};

use super::{Site, open_site, random, read_config};
use crate::{
    app::App,
    args::ConfigArgs,
    banner::Banner,
    cluster::{ClusterError, init::init, plan::PlanError},
    embedded::FolderLock,
    exit::{Exit, Failure},
    output::Output,
    telemetry,
};

const EXAMPLES: &str = "\
Examples:
  freehold serve                             four embedded shards in ./freehold-data
  freehold serve --data /srv/freehold
  freehold serve --config freehold.toml      MySQL and MariaDB masters; run `freehold init` first
  FREEHOLD__SERVER__LISTEN=0.0.0.0:7420 freehold serve --config freehold.toml

Every key of the config but `[[shards]]` can be set in the environment as FREEHOLD__SECTION__KEY.
It follows changes of its config file while it runs, within seconds or on SIGHUP at once: shards,
their servers, [sweeper] and [mover]. A file that cannot be used, or that changes anything else, is refused
whole, and the one before stays in use: the log, /healthz and `freehold shards` say why.
On SIGTERM or Ctrl-C it takes no new requests, answers those it has, and ends with 0 within
server.grace_period_ms; a second one ends it at once.";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ServeArgs {
    #[command(flatten)]
    config: ConfigArgs,
}

pub(crate) async fn run(args: ServeArgs, output: Output) -> Result<Exit, Failure> {
    let (config, shards) = read_config(&args.config)?;
    telemetry::start(&config.log);
    let mut random = random()?;
    let folder = args
        .config
        .config
        .is_none()
        .then_some(args.config.data.as_path());
    let _lock = match folder {
        Some(_) => prepare_embedded(&args.config, &mut random).await?,
        None => None,
    };
    let app = App::build(&config, &shards, &mut random).await?;
    let shutdown = shutdown()?;
    let reloader = match &args.config.config {
        Some(file) => Some(app.reloader(file, &config, &shards, &mut random)?),
        None => None,
    };
    announce(&app, &shards, folder, config.log.format.is_json(), output)?;
    app.run(reloader, shutdown)
        .await
        .map_err(|error| Failure::Serve(format!("serving broke off: {error}")))?;
    tracing::info!("stopped");
    Ok(Exit::Done)
}

/// Creates the shards of a folder, or goes on where that was interrupted.
async fn prepare_embedded(
    args: &ConfigArgs,
    random: &mut StdRng,
) -> Result<Option<FolderLock>, Failure> {
    let Site {
        shards,
        wanted,
        lock,
        ..
    } = open_site(args, None, 1, true, random)?;
    match init(&shards, &wanted, random.next_u64()).await {
        Ok(_) | Err(ClusterError::Plan(PlanError::Finished { .. })) => Ok(lock),
        Err(error) => Err(error.into()),
    }
}

fn announce(
    app: &App,
    shards: &[crate::config::ShardConfig],
    folder: Option<&Path>,
    collected: bool,
    output: Output,
) -> Result<(), Failure> {
    let (listen, admin) = app
        .addresses()
        .map_err(|error| Failure::io("cannot tell the address", error))?;
    let banner = Banner {
        listen: &listen,
        admin: &admin,
        shards,
        folder,
    };
    if output.is_json() {
        output.json(&banner.json())?;
    } else if !collected {
        output.line(&banner.text())?;
    }
    if cfg!(feature = "planted-bugs") {
        tracing::error!("built with bugs on purpose: this program is for tests of the tests only");
    }
    tracing::info!(listen, admin, shards = shards.len(), "serving");
    Ok(())
}

/// Ends when the process is asked to; asked again, it ends at once.
fn shutdown() -> Result<impl Future<Output = ()> + Send, Failure> {
    let cannot = |error| Failure::io("cannot wait for signals", error);
    let mut terminate = signal(SignalKind::terminate()).map_err(cannot)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(cannot)?;
    let mut asked = async move || {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    Ok(async move {
        asked().await;
        tokio::spawn(async move {
            asked().await;
            tracing::warn!("asked again: ending at once");
            process::exit(i32::from(Exit::NotApplied as u8));
        });
    })
}
