//! Moves of slots as their users see them: how long writes wait while slots change hands, how much
//! longer requests take meanwhile, and how long it takes to fill a new shard.
//!
//! The path of a run: [`servers`] starts durable masters with a replica each and two routers;
//! [`rows`] are loaded, and [`callers`] read and write them, each its own, so that every answer can
//! be checked. [`command`] moves slots under them by the program itself: there and back in
//! [`rounds`], to a new shard and away again in [`filling`], which is compared with a [`dump`], and
//! one slot again and again in [`changes`]. Then every row is read again, and [`report`] says which
//! [`goals`] are met.
//!
//! Nothing here fails because it is slow. A wrong answer, a failed request or a lost row ends it.

pub mod callers;
pub mod changes;
pub mod command;
pub mod dump;
pub mod filling;
pub mod goals;
pub mod options;
pub mod report;
pub mod rounds;
pub mod rows;
pub mod servers;
pub mod spread;

use std::fs;
use std::sync::Arc;

use freehold_client::{Client, ClientOptions};

pub use options::{Options, Part};

use crate::Result;
use callers::{Callers, Manner};
use report::{Report, machine};
use rows::{Own, Rows};
use servers::Servers;

/// What is measured on.
pub struct Stage {
    /// What was typed.
    pub options: Options,
    /// What all random choices begin with.
    pub seed: u64,
    /// Masters, replicas and routers.
    pub servers: Servers,
    /// One client, that all callers share.
    pub client: Client,
    /// What is in the database.
    pub rows: Arc<Rows>,
    /// What must be in each row.
    pub own: Vec<Own>,
}

impl Stage {
    /// Callers of all operations, that have all rows. They give them back when they stop.
    fn callers(&mut self) -> Callers {
        let (own, manner) = (
            std::mem::take(&mut self.own),
            Manner::Steady(self.options.rate),
        );
        Callers::start(&self.client, &self.rows, own, manner, self.seed)
    }
}

/// Runs it.
///
/// # Errors
/// Of the harness, and in words what was wrong with an answer or a row.
pub async fn run(options: Options, seed: u64) -> Result<Report> {
    // First: a long run must not end in a folder that cannot be written.
    fs::create_dir_all(&options.out)?;
    let mut report = Report::begin(&options, seed);
    let servers = Servers::start(&options).await?;
    report.database = servers.version().await?;
    let client = Client::connect(&servers.addresses(), &ClientOptions::default()).await?;
    let rows = Arc::new(Rows {
        prefix: "row:".to_owned(),
        count: options.rows,
        value_bytes: options.value_bytes,
    });
    eprintln!("loading {} rows of {} bytes", rows.count, rows.value_bytes);
    rows.load(&client).await?;
    let mut stage = Stage {
        own: Own::deal_out(&rows, options.callers),
        options,
        seed,
        servers,
        client,
        rows,
    };
    if stage.options.has(Part::Rounds) {
        report.rounds = rounds::measure(&mut stage).await?;
    }
    if stage.options.has(Part::Filling) {
        report.fillings = filling::measure(&mut stage).await?;
    }
    if stage.options.has(Part::Changes) {
        report.changes = Some(changes::measure(&stage).await?);
    }
    eprintln!("reading every row again");
    stage.rows.check(&stage.client, &stage.own).await?;
    stage.servers.audit().await?;
    report.end(machine());
    report.write(&stage.options.out)?;
    Ok(report)
}
