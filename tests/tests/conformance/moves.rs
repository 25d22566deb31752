//! What a mover asks of a master: each change proves who leads, who moves, and how far it is, or
//! changes nothing.

use freehold_core::{
    Key, Slot, SlotSet, SlotState,
    moving::{self, Step, Work},
};
use freehold_storage::{
    MoveConnection,
    moves::{CopyRow, Entry, Hold, Leader, MoveRecord, MoveRun, MoveState, Portion, Recorded},
};

use crate::{
    audit::Audit,
    lane::{WHOLE, key},
    store::{Result, Store},
};

on_every_engine!(
    a_take_over_ends_what_an_earlier_attempt_could_do,
    steps_change_all_slots_or_none_and_draw_the_stamp_anew,
    nothing_is_done_for_another_leader,
    a_slot_with_rows_is_neither_received_nor_closed,
    moves_are_written_down,
    what_lanes_send_is_counted,
);

/// A master, and a mover's connection to it.
pub(crate) struct Scene {
    pub(crate) moves: Box<dyn MoveConnection>,
    pub(crate) audit: Audit,
    pub(crate) hold: Hold,
    pub(crate) slots: SlotSet,
}

pub(crate) const PEER: &str = "b";

const A_ROW: Portion = Portion {
    rows_max: 1,
    bytes_max: 1 << 20,
};

impl Scene {
    /// Slots that were taken over.
    pub(crate) async fn new(store: &Store, slots: SlotSet) -> Result<Self> {
        store.ready().await?;
        let mut moves = store.moves().await?;
        let leader = moves.slots(&slots).await?.fence.into();
        let hold = Hold {
            leader,
            attempt: u64::MAX - 7,
        };
        let taken = moves.take_over(hold, &a_run(), &slots, PEER).await?;
        assert_eq!(taken, Some(()));
        Ok(Self {
            moves,
            audit: store.audit().await?,
            hold,
            slots,
        })
    }

    /// The step for all slots, as the pure rules have it.
    pub(crate) async fn step(&mut self, step: Step) -> Result<Option<()>> {
        let rows = self.moves.slots(&self.slots).await?.rows;
        let changes = rows.into_iter().map(|(slot, row)| {
            let claimed = match step {
                Step::Receive => 5,
                Step::Open | Step::Close => row.slot_epoch - 1,
                _ => row.slot_epoch,
            };
            let change = moving::change(step, &row, self.hold.attempt, PEER.into(), claimed);
            change.map(|change| (slot, change))
        });
        let changes = changes.collect::<Result<Vec<_>, _>>()?;
        Ok(self.moves.change(self.hold.leader, &changes).await?)
    }

    pub(crate) async fn steps(&mut self, steps: &[Step]) -> Result<()> {
        for step in steps {
            assert_eq!(self.step(*step).await?, Some(()), "{step:?}");
        }
        Ok(())
    }

    /// Takes the slots over as [`a_run`].
    pub(crate) async fn take_over(&mut self, hold: Hold) -> Result<Option<()>> {
        let run = a_run();
        let taken = self.moves.take_over(hold, &run, &self.slots, PEER);
        Ok(taken.await?)
    }

    /// Writes a move down, which has to be possible.
    pub(crate) async fn record(&mut self, entry: Entry, record: &MoveRecord) -> Result<()> {
        let recorded = self.moves.record(self.hold.leader, entry, record).await?;
        assert_eq!(recorded, Recorded::Written, "{entry:?} {record:?}");
        Ok(())
    }

    /// The slots as shards know them that got them: empty and `incoming`.
    pub(crate) async fn receiving(store: &Store, slots: SlotSet) -> Result<Self> {
        let mut scene = Self::new(store, slots).await?;
        scene
            .steps(&[Step::Announce, Step::Fence, Step::GiveAway])
            .await?;
        scene
            .audit
            .run("UPDATE slots SET slot_epoch = 6 WHERE state = 'gone'")
            .await?;
        // As if the source had claimed it with 5: one more is what it was given away with.
        scene.step(Step::Receive).await.map(drop)?;
        Ok(scene)
    }

    async fn states(&mut self) -> Result<Vec<Vec<String>>> {
        self.audit
            .rows(
                "SELECT slot, state, slot_epoch, peer, since_epoch FROM slots \
                 WHERE state <> 'owned' OR since_epoch > 1 ORDER BY slot",
            )
            .await
    }

    async fn fence(&mut self) -> Result<(i64, String)> {
        let rows = self.audit.rows("SELECT epoch, stamp FROM shard").await?;
        Ok((rows[0][0].parse()?, rows[0][1].clone()))
    }

    pub(crate) fn copies(keys: &[Key], value: &[u8]) -> Vec<CopyRow> {
        let copy = |key: &Key| CopyRow {
            key: key.clone(),
            value: Some(value.to_vec().into()),
            value_bytes: value.len(),
            version: 9,
            expires_at: i64::MAX,
        };
        keys.iter().map(copy).collect()
    }
}

pub(crate) fn slots_of(keys: &[Key]) -> SlotSet {
    keys.iter().map(Key::slot).collect()
}

/// Keys of many slots, ascending.
pub(crate) fn keys_of_many_slots(count: usize) -> Vec<Key> {
    let mut keys: Vec<Key> = (0..count).map(|n| key(format!("key:{n}"))).collect();
    keys.sort_unstable();
    keys
}

async fn a_take_over_ends_what_an_earlier_attempt_could_do(store: &Store) -> Result<()> {
    let keys = keys_of_many_slots(3);
    let mut scene = Scene::receiving(store, slots_of(&keys)).await?;
    let rows = Scene::copies(&keys, b"copied");
    assert_eq!(scene.moves.store(scene.hold, &rows).await?, Some(()));
    let earlier = scene.hold;
    let later = Hold {
        attempt: 1,
        ..earlier
    };
    let taken = scene
        .moves
        .take_over(later, &a_run(), &slots_of(&keys[1..2]), PEER)
        .await?;
    assert_eq!(taken, Some(()));
    let before = scene.audit.all_rows().await?;
    let states = scene.states().await?;

    // Of three slots one is not its own any more, and it takes all of them together.
    let other = Scene::copies(&keys, b"other");
    assert_eq!(scene.moves.store(earlier, &other).await?, None);
    assert_eq!(scene.moves.remove(earlier, &keys).await?, None);
    let slots = scene.slots.clone();
    assert_eq!(
        scene
            .moves
            .clear(earlier, Work::Empty, &slots, A_ROW)
            .await?,
        None
    );
    assert!(scene.step(Step::Open).await.is_err(), "as the rows show");
    assert_eq!(scene.audit.all_rows().await?, before);
    assert_eq!(scene.states().await?, states);

    assert_eq!(scene.moves.store(later, &other[1..2]).await?, Some(()));
    assert_eq!(scene.moves.store(earlier, &other[..1]).await?, Some(()));
    Ok(())
}

async fn steps_change_all_slots_or_none_and_draw_the_stamp_anew(store: &Store) -> Result<()> {
    let slots: SlotSet = "3,100-4300,65535".parse()?;
    let mut scene = Scene::new(store, slots.clone()).await?;
    let mut before = scene.fence().await?;
    let steps = [
        (Step::Announce, "outgoing", 1),
        (Step::Fence, "fenced", 1),
        (Step::Reopen, "outgoing", 1),
        (Step::Return, "owned", 1),
        (Step::Announce, "outgoing", 1),
        (Step::Fence, "fenced", 1),
        (Step::GiveAway, "gone", 2),
        (Step::Receive, "incoming", 6),
        (Step::Open, "owned", 6),
    ];
    for (step, state, slot_epoch) in steps {
        scene.steps(&[step]).await?;
        let after = scene.fence().await?;
        assert_eq!(after.0, before.0 + 1, "{step:?}");
        assert_ne!(after.1, before.1, "{step:?}");
        let expected: Vec<Vec<String>> = slots
            .iter()
            .map(|slot| {
                let [slot_epoch, since] = [slot_epoch, after.0].map(|number| number.to_string());
                vec![
                    slot.to_string(),
                    state.to_owned(),
                    slot_epoch,
                    PEER.to_owned(),
                    since,
                ]
            })
            .collect();
        assert!(scene.states().await? == expected, "{step:?}");
        before = after;
    }

    // What was seen is not what is there any more: for one slot of thousands.
    let rows = scene.moves.slots(&slots).await?.rows;
    let changes = rows.iter().map(|(slot, row)| {
        let change = moving::change(
            Step::Announce,
            row,
            scene.hold.attempt,
            PEER.into(),
            row.slot_epoch,
        );
        change.map(|change| (*slot, change))
    });
    let changes = changes.collect::<Result<Vec<_>, _>>()?;
    let set = "UPDATE slots SET slot_epoch = 7 WHERE slot = 4000";
    scene.audit.run(set).await?;
    let states = scene.states().await?;
    assert_eq!(scene.moves.change(scene.hold.leader, &changes).await?, None);
    assert!(scene.states().await? == states);
    assert_eq!(scene.fence().await?, before, "neither epoch nor stamp");
    Ok(())
}

async fn nothing_is_done_for_another_leader(store: &Store) -> Result<()> {
    let keys = keys_of_many_slots(2);
    let mut scene = Scene::receiving(store, slots_of(&keys)).await?;
    let rows = Scene::copies(&keys, b"value");
    let states = scene.states().await?;
    let fence = scene.fence().await?;
    let right = scene.hold.leader;
    for leader in [
        Leader {
            term: right.term + 1,
            ..right
        },
        Leader {
            server_id: right.server_id ^ 1,
            ..right
        },
    ] {
        let hold = Hold {
            leader,
            ..scene.hold
        };
        let slots = scene.slots.clone();
        assert_eq!(scene.take_over(hold).await?, None);
        assert_eq!(scene.moves.store(hold, &rows).await?, None);
        assert_eq!(
            scene.moves.clear(hold, Work::Empty, &slots, A_ROW).await?,
            None
        );
        for entry in [Entry::Begin, Entry::GoOn] {
            let recorded = scene.moves.record(leader, entry, &a_record()).await?;
            assert_eq!(recorded, Recorded::NotLeading);
        }
        scene.hold.leader = leader;
        assert_eq!(scene.step(Step::Open).await?, None);
    }
    assert_eq!(scene.states().await?, states);
    assert_eq!(scene.fence().await?, fence);
    assert!(scene.audit.all_rows().await?.is_empty());
    assert!(scene.moves.records(10).await?.is_empty());
    Ok(())
}

async fn a_slot_with_rows_is_neither_received_nor_closed(store: &Store) -> Result<()> {
    let keys = keys_of_many_slots(2);
    let mut scene = Scene::receiving(store, slots_of(&keys)).await?;
    let rows = Scene::copies(&keys[1..], b"left");
    assert_eq!(scene.moves.store(scene.hold, &rows).await?, Some(()));
    assert_eq!(scene.step(Step::Close).await?, None);
    assert_eq!(scene.moves.remove(scene.hold, &keys[1..]).await?, Some(()));
    scene.steps(&[Step::Close]).await?;
    let states = scene.states().await?;
    assert!(states.iter().all(|row| row[1] == "gone"), "{states:?}");

    let dead = "INSERT INTO store (slot, `key`, value, version, expires_at) \
                SELECT slot, x'61', x'', 1, -1 FROM slots WHERE state = 'gone' LIMIT 1";
    scene.audit.run(dead).await?;
    let set = "UPDATE slots SET slot_epoch = 6 WHERE state = 'gone'";
    scene.audit.run(set).await?;
    assert_eq!(scene.step(Step::Receive).await?, None, "dead rows are rows");
    Ok(())
}

pub(crate) fn a_record() -> MoveRecord {
    MoveRecord {
        mover: "host 1".to_owned(),
        ..MoveRecord::begin(u64::MAX - 1, "a", "ж'\\", &SlotSet::from(0..=4095))
    }
}

/// Whoever runs that move.
pub(crate) fn a_run() -> MoveRun {
    let MoveRecord { id, mover, .. } = a_record();
    MoveRun { id, mover }
}

async fn moves_are_written_down(store: &Store) -> Result<()> {
    let slots = SlotSet::from_iter([Slot(1)]);
    let mut scene = Scene::new(store, slots).await?;
    let begun = a_record();
    scene.record(Entry::Begin, &begun).await?;
    let first = scene.moves.records(10).await?.remove(0);
    assert!(first.started_at > 0);
    let without_times = |record: &MoveRecord| MoveRecord {
        started_at: 0,
        changed_at: 0,
        ..record.clone()
    };
    assert_eq!(without_times(&first), begun);
    let ended = MoveRecord {
        state: MoveState::Done,
        slots_done: 4_096,
        rows: 1 << 40,
        bytes: u64::MAX >> 1,
        pause_us_max: 12_345,
        error: "none".to_owned(),
        ..begun
    };
    scene.record(Entry::GoOn, &ended).await?;
    let seen = scene.moves.records(10).await?;
    assert_eq!(seen.len(), 1);
    assert_eq!(without_times(&seen[0]), ended);
    assert_eq!(seen[0].started_at, first.started_at);
    assert_eq!(
        SlotState::parse("done"),
        None,
        "states of moves are their own"
    );
    Ok(())
}

/// Requests, and nothing else, where the server counts them.
async fn what_lanes_send_is_counted(store: &Store) -> Result<()> {
    let mut scene = Scene::new(store, SlotSet::from_iter([Slot(7)])).await?;
    let mut lane = store.lane().await?;
    let Some(before) = scene.moves.executed().await? else {
        assert!(store.engine().is_none(), "a server counts");
        return Ok(());
    };
    for _ in 0..10 {
        scene.moves.now_ms().await?;
    }
    assert_eq!(scene.moves.executed().await?, Some(before), "no request");
    for _ in 0..10 {
        lane.read(&[key("a")], WHOLE).await?;
    }
    let after = scene.moves.executed().await?;
    assert!(after.is_some_and(|after| after >= before + 10), "{after:?}");
    Ok(())
}
