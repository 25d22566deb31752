//! A mover between two embedded shards: moves, cancels, and movers that end anywhere.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use freehold_core::{Key, ShardIdentity, SlotSet, SlotState, moving::Aim};
use freehold_mover::{MoveError, Mover, MoverSettings, Outcome, Point, Points, Shard};
use freehold_storage::{
    Columns, ConnectOptions, Dsn, Outcome as Written, PutRow, Server, Value, Write,
    moves::MoveState,
};
use tempfile::TempDir;
use tokio::{
    sync::{Notify, Semaphore},
    time::{Duration, timeout},
};

type Result<T, E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

const WITHIN: Duration = Duration::from_secs(60);

/// Two shards: `a` owns every slot, `b` none.
struct Scene {
    folder: TempDir,
    a: Server,
    b: Server,
    keys: Vec<Key>,
    slots: SlotSet,
    settings: MoverSettings,
}

/// A shard of which `a` owns every slot, and the others none.
async fn server(folder: &std::path::Path, name: &str, seed: u64) -> Result<Server> {
    let options = ConnectOptions {
        connect_timeout: WITHIN,
        seed,
    };
    let server = Server::new(&Dsn::sqlite(folder.join(name)), options);
    let mut schema = server.connect_schema().await?;
    schema
        .create(&ShardIdentity {
            name: name.to_owned(),
            cluster_id: 7,
            schema_version: 0,
        })
        .await?;
    #[allow(clippy::reversed_empty_ranges, reason = "no slot at all")]
    let share = if name == "a" { 0..=u16::MAX } else { 1..=0 };
    schema.take_slots(share).await?;
    Ok(server)
}

impl Scene {
    async fn new(rows: usize) -> Result<Self> {
        let folder = TempDir::new()?;
        let (a, b) = (
            server(folder.path(), "a", 1).await?,
            server(folder.path(), "b", 2).await?,
        );
        let mut keys: Vec<Key> = (0..rows)
            .map(|number| Key::new(format!("key:{number}")).expect("a key"))
            .collect();
        keys.sort_unstable();
        let slots = keys.iter().map(Key::slot).collect();
        let scene = Self {
            folder,
            a,
            b,
            keys,
            slots,
            settings: MoverSettings {
                batch_slots_max: 100,
                page_rows_max: 7,
                drain_keys_max: 5,
                last_drain_keys_max: 2,
                beat: Duration::from_millis(20),
                repeat_after_max: Duration::from_millis(1),
                ..MoverSettings::default()
            },
        };
        scene.put(&scene.keys, "first").await?;
        Ok(scene)
    }

    /// The first value is there before the move, later ones are written while it is under way.
    async fn put(&self, keys: &[Key], value: &str) -> Result<()> {
        let mut data = self.a.connect().await?;
        let fence = data.claims(u64::MAX >> 1).await?.fence;
        for keys in keys.chunks(100) {
            let rows: Vec<PutRow> = keys
                .iter()
                .map(|key| PutRow {
                    key: key.clone(),
                    value: value.to_owned().into(),
                    version: value.len() as u64,
                    ttl_ms: None,
                })
                .collect();
            let outcomes = match value {
                "first" => {
                    let stored = data.put(&fence, &rows).await;
                    assert_eq!(stored, vec![Written::Applied(()); rows.len()]);
                    continue;
                }
                _ => data.write_logged(&fence, Write::Put(&rows)).await,
            };
            assert_eq!(outcomes, vec![Written::Applied(true); rows.len()]);
        }
        Ok(())
    }

    /// Those that the source has still: the others are written elsewhere.
    async fn keys_of_a(&self) -> Result<Vec<Key>> {
        let claims = self.a.connect().await?.claims(0).await?.claims;
        let claims = claims.iter().filter(|claim| claim.state.is_claim());
        let claimed: SlotSet = claims.map(|claim| claim.slot).collect();
        let keys = self.keys.iter();
        Ok(keys
            .filter(|key| claimed.contains(key.slot()))
            .cloned()
            .collect())
    }

    fn mover(&self, number: u64, points: Arc<dyn Points>) -> Mover {
        let ways = (("a", &self.a), ("b", &self.b));
        self.mover_between(ways, number).watched_by(points)
    }

    fn mover_between(&self, ways: ((&str, &Server), (&str, &Server)), number: u64) -> Mover {
        let shard = |(name, server): (&str, &Server)| Shard {
            name: name.to_owned(),
            servers: vec![server.clone()],
        };
        let settings = self.settings.clone();
        let (from, to) = (shard(ways.0), shard(ways.1));
        Mover::new(from, to, settings, number, format!("test {number}"))
    }

    /// Runs a move by a mover that dies when it comes to a point.
    async fn killed_at(&self, point: Point, id: u64, number: u64) -> Result<()> {
        let stop = StopAt::new(point);
        let mover = self.mover(number, stop.clone());
        let slots = self.slots.clone();
        let killed = tokio::spawn(async move { mover.run(id, &slots, Aim::Move).await });
        timeout(WITHIN, stop.reached.acquire()).await??.forget();
        // Its last words: the second beat from here on began after it was reached.
        let mut moves = self.a.connect_moves().await?;
        for _ in 0..2 {
            let before = moves.record_of(id).await?;
            while moves.record_of(id).await? == before {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        killed.abort();
        assert!(killed.await.is_err_and(|error| error.is_cancelled()));
        Ok(())
    }

    /// Runs a move to its end, by a mover with a number of its own.
    async fn run(&self, id: u64, number: u64, aim: Aim) -> Result<Outcome> {
        let mover = self.mover(number, Arc::new(()));
        Ok(timeout(WITHIN, mover.run(id, &self.slots, aim)).await??)
    }

    /// Which of the slots a shard claims.
    async fn claimed(server: &Server) -> Result<SlotSet> {
        let claims = server.connect().await?.claims(0).await?.claims;
        let owned = claims.iter().filter(|claim| claim.state.is_claim());
        assert!(
            owned.clone().all(|claim| claim.state == SlotState::Owned),
            "no fence stays"
        );
        Ok(owned.map(|claim| claim.slot).collect())
    }

    /// The rows, the log and the owner as they have to be when `server` owns the slots.
    async fn assert_owned_by(&self, owner: &Server, value: &str) -> Result<()> {
        for server in [&self.a, &self.b] {
            let claimed = Self::claimed(server).await?;
            let owns = std::ptr::eq(server, owner);
            assert!(self.slots.iter().all(|slot| claimed.contains(slot) == owns));
            let mut data = server.connect().await?;
            let mut found = 0;
            for keys in self.keys.chunks(100) {
                let read = data.read(keys, Columns::Value { bytes_max: 100 }).await?;
                for row in read.rows.into_iter().flatten() {
                    assert_eq!(row.value, Value::Bytes(value.to_owned().into()));
                    found += 1;
                }
            }
            assert_eq!(found, if owns { self.keys.len() } else { 0 });
            let mut moves = server.connect_moves().await?;
            let log = moves.logged(&SlotSet::from(0..=u16::MAX), None, 1).await?;
            assert_eq!(log, [], "no log entry stays");
        }
        Ok(())
    }
}

/// Stops the mover for good when it comes to a point for the n-th time, as a kill does.
struct StopAt {
    point: Point,
    reached: Semaphore,
}

impl StopAt {
    fn new(point: Point) -> Arc<Self> {
        let reached = Semaphore::new(0);
        Arc::new(Self { point, reached })
    }
}

#[async_trait]
impl Points for StopAt {
    async fn at(&self, point: Point) {
        if point == self.point {
            self.reached.add_permits(1);
            std::future::pending::<()>().await;
        }
    }
}

#[tokio::test]
async fn slots_move_with_their_rows_and_back_again() -> Result<()> {
    let scene = Scene::new(500).await?;
    let outcome = scene.run(1, 3, Aim::Move).await?;
    assert_eq!(outcome.moved, scene.slots);
    assert_eq!(outcome.progress.rows, 500);
    assert_eq!(outcome.progress.rows_verified, 500);
    assert!(!outcome.progress.pauses.is_empty());
    scene.assert_owned_by(&scene.b, "first").await?;
    let others = Scene::claimed(&scene.a).await?;
    assert_eq!(others.len() + scene.slots.len(), 65_536);

    let mut moves = scene.b.connect_moves().await?;
    let record = moves.records(10).await?.remove(0);
    assert_eq!((record.state, record.rows), (MoveState::Done, 500));
    assert_eq!(record.slots, scene.slots);

    // A second time nothing is left to do.
    let again = scene.run(2, 4, Aim::Move).await?;
    assert_eq!((again.moved, again.progress.rows), (scene.slots.clone(), 0));
    Ok(())
}

#[tokio::test]
async fn slots_change_hands_in_parts_that_fit_the_pause() -> Result<()> {
    for (pause_aim, parts) in [(Duration::ZERO, 6..=8), (WITHIN, 3..=3)] {
        let mut scene = Scene::new(150).await?;
        scene.settings.part_slots = 64;
        scene.settings.part_slots_min = 16;
        scene.settings.pause_aim = pause_aim;
        let scene = Arc::new(scene);
        // Each part has something to drain, and what was written meanwhile to those behind it.
        let watch = WriteAt {
            scene: scene.clone(),
            point: Point::Verified,
        };
        let mover = scene.mover(5, Arc::new(watch));
        let outcome = timeout(WITHIN, mover.run(1, &scene.slots, Aim::Move)).await??;
        assert_eq!(outcome.moved, scene.slots);
        let pauses = outcome.progress.pauses;
        assert!(parts.contains(&pauses.len()), "{pauses:?} {pause_aim:?}");
        let slots: usize = pauses.iter().map(|pause| pause.slots).sum();
        assert_eq!(slots, scene.slots.len());
        scene.assert_owned_by(&scene.b, "second, longer").await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_move_that_ended_anywhere_is_resumed_or_cancelled() -> Result<()> {
    let scene = Scene::new(60).await?;
    let back = Scene {
        folder: TempDir::new()?,
        a: scene.b.clone(),
        b: scene.a.clone(),
        keys: scene.keys.clone(),
        slots: scene.slots.clone(),
        settings: scene.settings.clone(),
    };
    let mut seed = 10;
    for aim in [Aim::Move, Aim::Cancel] {
        for point in Point::ALL {
            if matches!(point, Point::Returned | Point::Emptied | Point::Closed) {
                continue;
            }
            seed += 2;
            let stop = StopAt::new(point);
            let mover = scene.mover(seed, stop.clone());
            let slots = scene.slots.clone();
            let killed = tokio::spawn(async move { mover.run(seed, &slots, Aim::Move).await });
            let reached = timeout(WITHIN, stop.reached.acquire()).await?;
            reached?.forget();
            killed.abort();
            assert!(killed.await.is_err_and(|error| error.is_cancelled()));

            let outcome = scene.run(seed, seed + 1, aim).await?;
            let forward = aim == Aim::Move || point >= Point::GivenAway;
            println!("{point:?} {aim:?}: {} moved", outcome.moved.len());
            match forward {
                true => {
                    assert_eq!(outcome.moved, scene.slots, "{point:?} {aim:?}");
                    scene.assert_owned_by(&scene.b, "first").await?;
                    back.run(seed + 1, seed, Aim::Move).await?;
                }
                false => assert_eq!(outcome.returned, scene.slots, "{point:?} {aim:?}"),
            }
            scene.assert_owned_by(&scene.a, "first").await?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_cancel_that_ended_anywhere_is_cancelled_again() -> Result<()> {
    let scene = Scene::new(60).await?;
    let mut seed = 100;
    for point in [Point::Returned, Point::Emptied, Point::Closed] {
        seed += 3;
        let id = seed;
        for (seed, stop, aim) in [
            (seed, StopAt::new(Point::Verified), Aim::Move),
            (seed + 1, StopAt::new(point), Aim::Cancel),
        ] {
            let mover = scene.mover(seed, stop.clone());
            let slots = scene.slots.clone();
            let killed = tokio::spawn(async move { mover.run(id, &slots, aim).await });
            timeout(WITHIN, stop.reached.acquire()).await??.forget();
            killed.abort();
            assert!(killed.await.is_err_and(|error| error.is_cancelled()));
        }
        let outcome = scene.run(id, seed + 2, Aim::Cancel).await?;
        assert_eq!(outcome.returned, scene.slots);
        scene.assert_owned_by(&scene.a, "first").await?;
    }
    Ok(())
}

/// Writes while the mover is at a point.
struct WriteAt {
    scene: Arc<Scene>,
    point: Point,
}

#[async_trait]
impl Points for WriteAt {
    async fn at(&self, point: Point) {
        if point == self.point {
            let scene = &self.scene;
            let keys = scene.keys_of_a().await.expect("the source answers");
            scene
                .put(&keys, "second, longer")
                .await
                .expect("writes go on");
        }
    }
}

#[tokio::test]
async fn what_is_written_on_the_way_arrives() -> Result<()> {
    for point in [
        Point::Announced,
        Point::PageCopied,
        Point::Copied,
        Point::Drained,
        Point::Verified,
    ] {
        let scene = Arc::new(Scene::new(50).await?);
        let watch = WriteAt {
            scene: scene.clone(),
            point,
        };
        let mover = scene.mover(5, Arc::new(watch));
        let outcome = timeout(WITHIN, mover.run(1, &scene.slots, Aim::Move)).await??;
        assert_eq!(outcome.moved, scene.slots);
        scene.assert_owned_by(&scene.b, "second, longer").await?;
    }
    Ok(())
}

/// Deletes everything once it was copied.
struct DeleteAll(Arc<Scene>);

#[async_trait]
impl Points for DeleteAll {
    async fn at(&self, point: Point) {
        if point == Point::Copied {
            let Self(scene) = self;
            let mut data = scene.a.connect().await.expect("the source answers");
            let claims = data.claims(u64::MAX >> 1).await;
            let fence = claims.expect("the source answers").fence;
            let deleted = data.write_logged(&fence, Write::Delete(&scene.keys)).await;
            assert_eq!(deleted, vec![Written::Applied(true); scene.keys.len()]);
        }
    }
}

#[tokio::test]
async fn what_is_deleted_on_the_way_is_gone_a_few_rows_at_a_time() -> Result<()> {
    let mut scene = Scene::new(50).await?;
    scene.settings.drain_keys_max = 50;
    // Of five bytes each.
    scene.settings.page_bytes_max = 64;
    let scene = Arc::new(scene);
    let mover = scene.mover(5, Arc::new(DeleteAll(scene.clone())));
    let outcome = timeout(WITHIN, mover.run(1, &scene.slots, Aim::Move)).await??;
    assert_eq!(outcome.moved, scene.slots);
    for name in ["a", "b"] {
        let file = rusqlite::Connection::open(scene.folder.path().join(name))?;
        let left: i64 = file.query_row("SELECT COUNT(*) FROM store", (), |row| row.get(0))?;
        assert_eq!(left, 0, "{name}");
    }
    Ok(())
}

/// More keys than are kept in doubt at a time are written between the drain and the comparison.
#[tokio::test]
async fn keys_that_are_written_while_others_are_compared_stop_no_move() -> Result<()> {
    let mut scene = Scene::new(10_500).await?;
    scene.settings.batch_slots_max = usize::from(u16::MAX);
    scene.settings.part_slots = usize::from(u16::MAX);
    scene.settings.page_rows_max = 1_000;
    scene.settings.drain_keys_max = 1_000;
    let scene = Arc::new(scene);
    let watch = WriteAt {
        scene: scene.clone(),
        point: Point::Drained,
    };
    let mover = scene.mover(5, Arc::new(watch));
    let outcome = timeout(WITHIN, mover.run(1, &scene.slots, Aim::Move)).await??;
    assert_eq!(outcome.moved, scene.slots);
    scene.assert_owned_by(&scene.b, "second, longer").await
}

/// Spoils a row of the target that nobody wrote.
struct Spoil {
    folder: std::path::PathBuf,
}

#[async_trait]
impl Points for Spoil {
    async fn at(&self, point: Point) {
        if point == Point::Copied {
            let file = rusqlite::Connection::open(&self.folder).expect("the target's file");
            file.execute(
                "UPDATE store SET value = x'00' WHERE key = CAST('key:7' AS BLOB)",
                (),
            )
            .expect("a row to spoil");
        }
    }
}

#[tokio::test]
async fn a_row_that_differs_stops_the_move_and_is_named() -> Result<()> {
    let scene = Scene::new(50).await?;
    let folder = scene.folder.path().join("b");
    let mover = scene.mover(5, Arc::new(Spoil { folder }));
    let stopped = timeout(WITHIN, mover.run(1, &scene.slots, Aim::Move)).await?;
    let error = stopped.err().ok_or("it went through")?.to_string();
    assert!(error.contains("'key:7'"), "{error}");
    let mut moves = scene.a.connect_moves().await?;
    let record = moves.records(1).await?.remove(0);
    assert_eq!((record.state, record.error), (MoveState::Stopped, error));

    scene.run(1, 6, Aim::Move).await?;
    scene.assert_owned_by(&scene.b, "first").await
}

#[tokio::test]
async fn of_two_movers_the_later_one_goes_on() -> Result<()> {
    let scene = Scene::new(50).await?;
    let stop = StopAt::new(Point::Announced);
    let frozen = scene.mover(5, Arc::new(FreezeAt(stop.clone(), Semaphore::new(0))));
    let slots = scene.slots.clone();
    let frozen = tokio::spawn(async move { frozen.run(1, &slots, Aim::Move).await });
    timeout(WITHIN, stop.reached.acquire()).await??.forget();
    scene.run(1, 6, Aim::Move).await?;
    // It wakes up, and can do nothing.
    stop.reached.close();
    let woken = timeout(WITHIN, frozen).await??;
    assert!(matches!(woken, Err(MoveError::TakenOver)), "{woken:?}");
    scene.assert_owned_by(&scene.b, "first").await
}

#[tokio::test]
async fn a_frozen_mover_does_not_go_on_with_what_was_cancelled() -> Result<()> {
    // Three batches, the first of which is through.
    let scene = Scene::new(250).await?;
    let stop = StopAt::new(Point::Cleaned);
    let frozen = scene.mover(5, Arc::new(FreezeAt(stop.clone(), Semaphore::new(0))));
    let slots = scene.slots.clone();
    let frozen = tokio::spawn(async move { frozen.run(1, &slots, Aim::Move).await });
    timeout(WITHIN, stop.reached.acquire()).await??.forget();
    let cancelled = scene.run(1, 6, Aim::Cancel).await?;
    assert!(!cancelled.moved.is_empty() && !cancelled.returned.is_empty());
    // It wakes up before its next batch, which is nobody's by now and could be moved.
    stop.reached.close();
    let woken = timeout(WITHIN, frozen).await??;
    assert!(matches!(woken, Err(MoveError::TakenOver)), "{woken:?}");
    let claimed = Scene::claimed(&scene.b).await?;
    assert_eq!(claimed, cancelled.moved);
    for server in [&scene.a, &scene.b] {
        let record = server.connect_moves().await?.records(10).await?.remove(0);
        assert_eq!(record.state, MoveState::Cancelled, "not all of it was done");
        assert_eq!(record.slots_done, claimed.len() as u64);
        assert!(record.mover.starts_with("test 6, "), "{}", record.mover);
    }
    // Nor does one that saw it under way before it ended.
    let late = scene.run(1, 7, Aim::Move).await;
    assert!(late.is_err_and(|error| error.to_string().contains("has ended it")));
    assert_eq!(Scene::claimed(&scene.b).await?, claimed);
    Ok(())
}

#[tokio::test]
async fn a_move_that_ended_on_one_shard_ends_on_the_other_one() -> Result<()> {
    let scene = Scene::new(50).await?;
    scene.run(1, 5, Aim::Move).await?;
    for (name, server) in [("b", &scene.b), ("a", &scene.a)] {
        // Its mover died before it could write it down there.
        let file = rusqlite::Connection::open(scene.folder.path().join(name))?;
        file.execute("UPDATE moves SET state = 'running'", ())?;
        let again = scene.run(1, 6, Aim::Move).await;
        assert!(again.is_err_and(|error| error.to_string().contains("has ended it")));
        let mut moves = server.connect_moves().await?;
        assert_eq!(moves.open_records(10).await?, []);
        let record = moves.record_of(1).await?.ok_or("it is known")?;
        assert_eq!(record.state, MoveState::Done, "{name}");
        assert!(record.mover.starts_with("test 5, "), "{}", record.mover);
    }
    Ok(())
}

#[tokio::test]
async fn what_the_target_gave_on_is_cleaned_up() -> Result<()> {
    let scene = Scene::new(50).await?;
    let c = server(scene.folder.path(), "c", 3).await?;
    scene.killed_at(Point::Opened, 1, 5).await?;
    // As somebody does who looks at no list of moves.
    let slots = SlotSet::from_iter(Scene::claimed(&scene.b).await?.iter());
    let on = scene.mover_between((("b", &scene.b), ("c", &c)), 6);
    timeout(WITHIN, on.run(2, &slots, Aim::Move)).await??;
    let outcome = scene.run(1, 7, Aim::Move).await?;
    assert_eq!(outcome.moved, scene.slots);
    let file = rusqlite::Connection::open(scene.folder.path().join("a"))?;
    let left: i64 = file.query_row("SELECT COUNT(*) FROM store", (), |row| row.get(0))?;
    assert_eq!(left, 0, "the source's rows are nobody's any more");
    assert_eq!(Scene::claimed(&c).await?, slots);
    Ok(())
}

#[tokio::test]
async fn a_cancel_of_what_another_move_took_ends() -> Result<()> {
    for point in [Point::TakenOver, Point::Received] {
        let scene = Scene::new(50).await?;
        let c = server(scene.folder.path(), "c", 3).await?;
        scene.killed_at(point, 1, 5).await?;
        let other = scene.mover_between((("a", &scene.a), ("c", &c)), 6);
        timeout(WITHIN, other.run(2, &scene.slots, Aim::Move)).await??;
        let outcome = scene.run(1, 7, Aim::Cancel).await?;
        assert_eq!((outcome.moved.len(), outcome.returned.len()), (0, 0));
        assert_eq!(Scene::claimed(&c).await?, scene.slots);
        for server in [&scene.a, &scene.b] {
            let mut moves = server.connect_moves().await?;
            assert_eq!(moves.open_records(10).await?, []);
            assert_eq!(moves.on_their_way().await?, [], "{point:?}");
            let record = moves.record_of(1).await?.ok_or("it is known")?;
            assert_eq!(record.state, MoveState::Cancelled);
        }
    }
    Ok(())
}

#[tokio::test]
async fn whoever_goes_on_adds_to_what_was_done_and_to_what_writes_waited() -> Result<()> {
    const DEAD_FOR: Duration = Duration::from_millis(300);
    for (point, aim) in [
        (Point::Fenced, Aim::Move),
        (Point::Fenced, Aim::Cancel),
        (Point::GivenAway, Aim::Move),
    ] {
        let scene = Scene::new(60).await?;
        scene.killed_at(point, 1, 5).await?;
        tokio::time::sleep(DEAD_FOR).await;
        let outcome = scene.run(1, 6, aim).await?;
        // By the time of its last sign of life, which may be some milliseconds ahead of the clock.
        let waited = outcome.progress.pause_max();
        assert!(waited > DEAD_FOR * 9 / 10, "{point:?} {aim:?}: {waited:?}");
        let mut moves = scene.a.connect_moves().await?;
        let record = moves.record_of(1).await?.ok_or("it is known")?;
        assert_eq!(record.rows, 60, "{point:?} {aim:?}");
        assert_eq!(u128::from(record.pause_us_max), waited.as_micros());
    }
    Ok(())
}

/// Stops the mover for good at its third batch, between its two owners, and remembers where it was.
#[derive(Default)]
struct Seen {
    points: Mutex<Vec<Point>>,
    stops: bool,
    stopped: Notify,
}

#[async_trait]
impl Points for Seen {
    async fn at(&self, point: Point) {
        let given_away = {
            let mut points = self.points.lock().expect("nobody panicked");
            points.push(point);
            points
                .iter()
                .filter(|point| **point == Point::GivenAway)
                .count()
        };
        if self.stops && given_away == 3 {
            self.stopped.notify_one();
            std::future::pending::<()>().await;
        }
    }
}

#[tokio::test]
async fn what_nobody_owns_comes_before_what_is_through() -> Result<()> {
    // Three batches, the last of which is half-way.
    let scene = Scene::new(250).await?;
    let seen = Arc::new(Seen {
        stops: true,
        ..Seen::default()
    });
    let dies = scene.mover(5, seen.clone());
    let slots = scene.slots.clone();
    let dies = tokio::spawn(async move { dies.run(1, &slots, Aim::Move).await });
    timeout(WITHIN, seen.stopped.notified()).await?;
    dies.abort();

    // Whoever is told to stop while nobody owns a slot leaves that to others.
    let stopped = scene.mover(6, Arc::new(()));
    stopped.stop();
    let stopped = stopped.run(1, &scene.slots, Aim::Move).await;
    assert!(
        matches!(stopped, Err(MoveError::LeftToOthers)),
        "{stopped:?}"
    );

    let seen = Arc::new(Seen::default());
    let mover = scene.mover(7, seen.clone());
    let outcome = timeout(WITHIN, mover.run(1, &scene.slots, Aim::Move)).await??;
    assert_eq!(outcome.moved, scene.slots);
    let points = seen.points.lock().expect("nobody panicked").clone();
    assert_eq!(
        points[..4],
        [
            Point::TakenOver,
            Point::GoneEverywhere,
            Point::Opened,
            Point::Cleaned
        ]
    );
    scene.assert_owned_by(&scene.b, "first").await?;

    let stopped = scene.mover(8, Arc::new(()));
    stopped.stop();
    let stopped = stopped.run(2, &scene.slots, Aim::Move).await;
    assert!(
        matches!(stopped, Err(MoveError::Interrupted)),
        "{stopped:?}"
    );
    Ok(())
}

/// Holds the mover until its semaphore is closed.
struct FreezeAt(Arc<StopAt>, Semaphore);

#[async_trait]
impl Points for FreezeAt {
    async fn at(&self, point: Point) {
        if point == self.0.point && self.1.available_permits() == 0 {
            self.1.add_permits(1);
            self.0.reached.add_permits(1);
            while !self.0.reached.is_closed() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    }
}
