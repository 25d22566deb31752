//! Lanes on a real shard, step by step.

use freehold_core::{ShardIdentity, map::Extent, slot::even_share};
use freehold_storage::{ConnectOptions, Dsn, Server};
use prometheus_client::registry::Registry;
use tempfile::TempDir;
use tokio::sync::oneshot::{self, error::TryRecvError};

use super::*;
use crate::{
    budget::Budgets,
    metrics::Metrics,
    request::{Ending, Level, Operation, Reply},
    roster::shard_of,
    settings::RouterSettings,
};

/// An embedded shard that owns every slot, and the map that says so.
struct Scene {
    server: Server,
    shards: Arc<Shards>,
    metrics: Metrics,
    _folder: TempDir,
}

impl Scene {
    async fn new() -> Self {
        Self::with_replicas(0).await
    }

    /// With servers besides, which nobody ever reaches.
    async fn with_replicas(replicas: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let options = ConnectOptions {
            connect_timeout: Duration::from_secs(5),
            seed: 1,
        };
        let server = Server::new(&Dsn::sqlite(folder.path().join("a.sqlite")), options);
        let mut schema = server.connect_schema().await.unwrap();
        let identity = ShardIdentity {
            name: "a".to_owned(),
            cluster_id: 7,
            schema_version: 0,
        };
        schema.create(&identity).await.unwrap();
        schema.take_slots(even_share(0, 1)).await.unwrap();
        let metrics = Metrics::register(&mut Registry::default());
        let spec = crate::ShardSpec {
            name: "a".to_owned(),
            servers: vec![server.clone(); 1 + replicas],
        };
        let settings = RouterSettings::default();
        let (shard, _) = shard_of(&spec, &settings, &Arc::default(), &metrics);
        let shards = Arc::new(Shards::new(
            vec![shard],
            metrics.unrouted(),
            (&settings).into(),
        ));
        let claims = server.connect().await.unwrap().claims(0).await.unwrap();
        shards.change_map(|map| map.with_snapshot(ShardId(0), claims, Extent::Whole));
        Self {
            server,
            shards,
            metrics,
            _folder: folder,
        }
    }

    /// A lane that writes, with two connections that are not open yet.
    fn lane(&self, after_panic: bool) -> Lane {
        let settings = RouterSettings::default();
        let parts = LaneParts {
            shards: self.shards.clone(),
            shard: ShardId(0),
            place: 0,
            writers: vec![Some(WriterName::new(1)), Some(WriterName::new(2))],
            queue: self.queue().clone(),
            opening: Opening::WhileLeading,
            statement_timeout: settings.statement_timeout,
            connect_timeout: Duration::from_secs(5),
            answer_bytes: Budgets::new(&settings).answer_bytes,
            metrics: self.metrics.lane("a"),
            seed: 1,
        };
        Lane::new(parts, after_panic)
    }

    fn queue(&self) -> &Arc<Queue> {
        &self.shards.leader(ShardId(0)).writes
    }

    fn delete(&self, key: &'static str) -> oneshot::Receiver<Ending> {
        let (sender, receiver) = oneshot::channel();
        let operation = Operation::Delete(Key::new(key).unwrap());
        let now = Instant::now();
        let deadline = now + Duration::from_secs(60);
        let request = Request::new(operation, Level::Strong, now, deadline, Reply::One(sender));
        let generation = self.shards.map.load().generation();
        self.queue().push(request, generation).unwrap();
        receiver
    }

    async fn open(&self, lane: &mut Lane, link: usize) {
        lane.opened(link, Ok(self.server.connect().await.unwrap()));
    }
}

/// One turn, up to where it would wait.
fn turn(lane: &mut Lane) -> usize {
    lane.take_queue();
    lane.send_ripe();
    lane.flights.len()
}

#[tokio::test]
async fn a_lane_writes_as_soon_as_one_of_its_connections_is_open() {
    let scene = Scene::new().await;
    let mut lane = scene.lane(false);
    let _caller = scene.delete("k");
    assert_eq!(turn(&mut lane), 0);
    scene.open(&mut lane, 0).await;
    assert_eq!(turn(&mut lane), 1);
}

#[tokio::test]
async fn after_a_panic_it_writes_once_every_connection_has_taken_over_from_its_former_one() {
    let scene = Scene::new().await;
    let mut lane = scene.lane(true);
    let mut caller = scene.delete("k");
    scene.open(&mut lane, 0).await;
    assert_eq!(turn(&mut lane), 0);
    assert!(caller.try_recv().is_err(), "it waits");
    // While that cannot be, nobody waits for it.
    lane.opened(1, Err(Standing::Down("away".into())));
    assert!(matches!(
        caller.await.unwrap(),
        Err(Failure::Unavailable { .. })
    ));
    let refused = scene.delete("k");
    assert_eq!(turn(&mut lane), 0);
    assert!(matches!(
        refused.await.unwrap(),
        Err(Failure::Unavailable { .. })
    ));
    scene.open(&mut lane, 1).await;
    let _caller = scene.delete("k");
    assert_eq!(turn(&mut lane), 1);
}

#[tokio::test]
async fn what_came_back_and_may_go_out_again_keeps_its_keys_and_barriers() {
    let scene = Scene::with_replicas(1).await;
    let mut lane = scene.lane(false);
    for link in [0, 1] {
        scene.open(&mut lane, link).await;
    }
    let _first = scene.delete("k");
    assert_eq!(turn(&mut lane), 1);
    let mut passed = scene.queue().barrier(scene.shards.map.load().generation());
    // Nobody has seen yet whether its server leads.
    let answered = lane.jobs.next().await.unwrap();
    lane.handle(answered);
    assert_eq!(lane.doubted.len(), 1);
    let (_later, _other) = (scene.delete("k"), scene.delete("other"));
    assert_eq!(turn(&mut lane), 1, "the other key alone");
    assert_eq!(lane.flights[0].requests.len(), 1);
    assert_eq!(lane.backlog.len(), 1);
    assert_eq!(passed.try_recv(), Err(TryRecvError::Empty));
    let other = lane.jobs.next().await.unwrap();
    lane.handle(other);
    let numbers: Vec<u64> = lane.doubted.iter().map(|landed| landed.number).collect();
    for number in numbers {
        lane.handle(Event::Confirmed(number, true));
    }
    assert_eq!(turn(&mut lane), 1, "the later write");
    assert_eq!(passed.try_recv(), Err(TryRecvError::Closed));
}
