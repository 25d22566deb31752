//! Masters that are killed under load, again and again: what is lost, how long nobody can write, what
//! the other shard notices, and what a former master gets that comes back as one.

use std::time::Duration;

use bytes::Bytes;
use freehold_client::{Client, Consistency, Error};
use freehold_core::slot::even_share;
use freehold_tests::{Engine, Sql, failover};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::site::{Copies, Site, until_alarmed, until_served};
use crate::{
    history::Ending,
    load::{Load, Outcome, Plan},
    scene::{Result, keys_of, rounds, seed},
    table,
};

/// Of calls to the shard that nothing happens to, so many per thousand may fail.
const OTHERS_FAILED_PER_THOUSAND_MAX: u64 = 1;

/// What all rounds came to.
#[derive(Default)]
struct Sum {
    done: u64,
    unknown: usize,
    lost: usize,
    tokens_kept: usize,
    tokens_lost: usize,
    tokens_refused_though_kept: usize,
    until_written: Vec<Duration>,
    until_alarmed: Vec<Duration>,
    others_done: u64,
    others_failed: u64,
    others_before: Vec<Duration>,
    others_meanwhile: Vec<Duration>,
    /// Statements for rows that a former master got while it took writes.
    asked_of_former: usize,
}

impl Sum {
    fn print(&mut self, engine: Engine, copies: Copies, rounds: usize) {
        println!("{engine}, {copies:?}: {rounds} masters killed under load");
        println!(
            "  {} calls ended well, {} unknown, {} acknowledged writes lost",
            self.done, self.unknown, self.lost
        );
        println!(
            "  tokens: {} of writes that survived, {} of them refused; {} of lost ones, all refused",
            self.tokens_kept, self.tokens_refused_though_kept, self.tokens_lost
        );
        println!(
            "  from the new master's opening to a write through each router: {}",
            shares(&mut self.until_written)
        );
        println!(
            "  former masters that took writes again: {} statements for rows sent there, alarm \
             after {}",
            self.asked_of_former,
            shares(&mut self.until_alarmed)
        );
        let calls = self.others_failed + self.others_done;
        println!(
            "  the other shard: {} of {calls} calls failed ({:.3} %); before: {}, meanwhile: {} \
             ({:.2} times the p99)",
            self.others_failed,
            100.0 * self.others_failed as f64 / (calls as f64).max(1.0),
            shares(&mut self.others_before),
            shares(&mut self.others_meanwhile),
            share(&self.others_meanwhile, 99).as_secs_f64()
                / share(&self.others_before, 99).as_secs_f64().max(1e-6)
        );
    }
}

/// Half of them, and all but a hundredth, took no longer than that.
pub(crate) fn shares(times: &mut [Duration]) -> String {
    times.sort_unstable();
    let longest = times.last().copied().unwrap_or_default();
    format!(
        "p50 {:?}, p99 {:?}, longest {longest:?}",
        share(times, 50),
        share(times, 99)
    )
}

/// So many of a hundred took no longer than that; of times in their order.
fn share(times: &[Duration], hundredths: usize) -> Duration {
    let place = (times.len() * hundredths).div_ceil(100).saturating_sub(1);
    times.get(place).copied().unwrap_or_default()
}

/// Writes one key after the other once, and keeps what each acknowledgement brought.
struct Tokens {
    stop: CancellationToken,
    writer: JoinHandle<Vec<(String, Bytes)>>,
}

impl Tokens {
    fn start(client: &Client, prefix: &str) -> Self {
        let stop = CancellationToken::new();
        let (client, stopped) = (client.clone(), stop.clone());
        let prefix = prefix.to_owned();
        let writer = tokio::spawn(async move {
            let mut written = Vec::new();
            for key in keys_of(0, 2, &prefix) {
                if stopped.is_cancelled() {
                    break;
                }
                match client.put(key.clone(), key.clone()).await {
                    Ok(reply) => written.push((key, reply.session_token)),
                    Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
                }
            }
            written
        });
        Self { stop, writer }
    }

    async fn stop(self) -> Result<Vec<(String, Bytes)>> {
        self.stop.cancel();
        Ok(self.writer.await?)
    }
}

/// What a token is worth after the failover: it is refused if its write is lost.
async fn judge_tokens(client: &Client, written: Vec<(String, Bytes)>, sum: &mut Sum) -> Result<()> {
    for (key, token) in written {
        let shown = client.get(key.clone()).await?;
        let level = Consistency::Session(token);
        let read = client.get(key.clone()).consistency(level).await;
        match (shown.value(), read) {
            (Some(_), Ok(reply)) if reply.value().is_some() => sum.tokens_kept += 1,
            (None, Err(Error::Refused { reason, .. })) if reason == "SESSION_LOST" => {
                sum.tokens_lost += 1;
            }
            (Some(_), Err(Error::Refused { reason, .. })) if reason == "SESSION_LOST" => {
                sum.tokens_kept += 1;
                sum.tokens_refused_though_kept += 1;
            }
            (shown, read) => {
                return Err(format!("{key}: STRONG shows {shown:?}, its token {read:?}").into());
            }
        }
    }
    Ok(())
}

async fn loads(site: &Site, round: usize, seed: u64) -> Result<[Load; 2]> {
    let plan = |shard: usize| {
        let mut plan = Plan::new(
            &format!("kill{round}:{shard}"),
            seed.wrapping_add(round as u64),
        );
        plan.slots = even_share(shard, 2);
        plan
    };
    let mut other = plan(1);
    // Enough to be noticed, and no more: it is not what the machine is to be busy with.
    (other.unary, other.pipelined) = (2, 2);
    other.pause = Duration::from_millis(2);
    other.timeout = Duration::from_secs(20);
    let router = site.routers[round % 2].address();
    Ok([
        Load::start(router, &plan(0)).await?,
        Load::start(router, &other).await?,
    ])
}

impl Sum {
    fn add_others(&mut self, killed: tokio::time::Instant, outcome: Outcome) {
        assert_eq!(outcome.violations, [""; 0]);
        self.others_done += outcome.done;
        self.others_failed += outcome.failures.values().sum::<u64>();
        for (began, took) in outcome.took {
            match began + took < killed {
                true => self.others_before.push(took),
                false => self.others_meanwhile.push(took),
            }
        }
    }
}

async fn round(site: &mut Site, number: usize, seed: u64, sum: &mut Sum) -> Result<()> {
    let clients = site.clients().await?;
    let [load, others] = loads(site, number, seed).await?;
    let tokens = Tokens::start(&clients[(number + 1) % 2], &format!("token{number}"));
    load.until_done(300).await?;
    others.until_done(50).await?;
    let former = site.leaders[0];
    if site.copies == Copies::Later && number.is_multiple_of(2) {
        // There is a tail to lose, for certain.
        for place in site.replicas(0) {
            let mut sql = site.shards[0][place].connect().await?;
            sql.run("STOP REPLICA IO_THREAD").await?;
        }
        load.until_done(100).await?;
    }
    let killed = tokio::time::Instant::now();
    site.shards[0][former].kill();
    let open = site.promote_best(0).await?;
    let key = keys_of(0, 2, "after").next().expect("endless");
    for client in &clients {
        until_served(std::slice::from_ref(client), &key).await?;
        sum.until_written.push(open.elapsed());
    }
    load.until_done(100).await?;
    others.until_done(50).await?;
    sum.add_others(killed, others.stop().await?);
    let outcome = load.stop().await?;
    sum.done += outcome.done;
    sum.unknown += outcome.history.count(Ending::Unknown);
    let shown = table::shown(&clients[number % 2], &outcome.history).await?;
    let lost = outcome.history.violations(&shown);
    if site.copies == Copies::First {
        assert!(lost.is_empty(), "{lost:?}");
    }
    let is_lost = |words: &String| words.contains("lost or undone");
    assert!(lost.iter().all(is_lost), "{lost:?}");
    sum.lost += lost.len();
    let written = tokens.stop().await?;
    judge_tokens(&clients[number % 2], written, sum).await?;
    comes_back(site, number, former, sum).await?;
    site.rebuild(0, former).await
}

/// The former master takes writes again, and gets none.
async fn comes_back(site: &mut Site, number: usize, former: usize, sum: &mut Sum) -> Result<()> {
    site.shards[0][former].start_again().await?;
    let server = &site.shards[0][former];
    let mut sql = server.connect().await?;
    sql.run("SET GLOBAL log_output = 'TABLE', GLOBAL general_log = ON")
        .await?;
    failover::open(server).await?;
    let address = site.address(0, former);
    sum.until_alarmed.push(until_alarmed(site, &address).await?);
    let before = table::rows(server).await?;
    let [load, others] = loads(site, number + 1_000_000, 0).await?;
    load.until_done(100).await?;
    others.stop().await?;
    let outcome = load.stop().await?;
    assert_eq!(outcome.violations, [""; 0]);
    table::audit(&site.clients().await?[0], &outcome.history).await?;
    let asked = asked_for_rows(&mut sql).await?;
    sum.asked_of_former += asked.len();
    assert_eq!(asked, [""; 0], "nobody reads or writes there");
    assert!(
        table::rows(server).await? == before,
        "nothing is written there"
    );
    for router in &site.routers {
        let (_, metrics) = router.http_get("/metrics").await?;
        let alarm =
            format!("freehold_server_alarm{{shard=\"a\",server=\"{address}\",role=\"replica\"}} 1");
        assert!(metrics.contains(&alarm), "{metrics}");
        assert!(router.log().contains("a former master takes writes"));
    }
    Ok(())
}

/// What a server was asked to do with rows since it logs that, but by the test, which asked, too.
async fn asked_for_rows(sql: &mut Sql) -> Result<Vec<String>> {
    sql.run("SET GLOBAL general_log = OFF").await?;
    let query = "SELECT CONVERT(argument USING utf8mb4) FROM mysql.general_log \
                 WHERE argument LIKE '%store%'";
    let mut asked: Vec<String> = sql.rows(query).await?;
    let all = asked.len();
    asked.retain(|statement| statement != table::ROWS);
    assert!(asked.len() < all, "it logs what it is asked");
    Ok(asked)
}

async fn killed(engine: Engine, copies: Copies) -> Result<()> {
    let mut site = Site::new(engine, copies, "").await?;
    let (seed, rounds) = (seed(), rounds(1));
    let mut sum = Sum::default();
    let first = site.shards[0][0].port();
    for number in 0..rounds {
        round(&mut site, number, seed, &mut sum).await?;
        // Both routers went over to one term, and it is known where the one before ended.
        let mut sql = site.shards[0][site.leaders[0]].connect().await?;
        let term: u64 = sql.one("SELECT term FROM shard").await?;
        assert_eq!(term, number as u64 + 2);
        let ended: Vec<(u64, u64, String)> = sql
            .rows("SELECT term, server_id, position FROM terms ORDER BY term")
            .await?;
        assert_eq!(ended.len() as u64, term - 1, "{ended:?}");
        assert_eq!((ended[0].0, ended[0].1), (1, first.into()));
        assert!(ended.iter().all(|(.., position)| !position.is_empty()));
    }
    sum.print(engine, copies, rounds);
    assert_eq!(sum.lost > 0, copies == Copies::Later);
    // A position of MySQL names all that was there, also what was committed beside the write and lost.
    if copies == Copies::First || engine == Engine::MariaDb {
        assert_eq!(sum.tokens_refused_though_kept, 0);
    }
    let calls = sum.others_done + sum.others_failed;
    assert!(
        sum.others_failed * 1_000 <= calls * OTHERS_FAILED_PER_THOUSAND_MAX,
        "{} of {calls} calls to the other shard failed",
        sum.others_failed
    );
    Ok(())
}

/// A commit waits for a replica, and the promotion applies what that one has.
async fn killed_masters_cost_no_acknowledged_write(engine: Engine) -> Result<()> {
    killed(engine, Copies::First).await
}

/// The last writes are lost, and everybody who asks for one of them is told so.
async fn killed_masters_cost_what_no_replica_had_and_tokens_tell(engine: Engine) -> Result<()> {
    killed(engine, Copies::Later).await
}

on_servers!(
    killed_masters_cost_no_acknowledged_write,
    killed_masters_cost_what_no_replica_had_and_tokens_tell
);
