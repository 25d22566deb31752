//! What others see of a move under way: that somebody runs it, and which slots are on their way.

use freehold_core::{SlotSet, SlotState, limits::MOVES_KEPT_MAX, moving::Step};
use freehold_storage::moves::{Entry, Hold, Leader, MoveBeat, MoveRecord, MoveState, Recorded};

use crate::{
    moves::{PEER, Scene, a_record},
    store::{Result, Store},
};

on_every_engine!(
    a_mover_shows_that_it_runs_its_move_and_nobody_elses,
    a_mover_that_was_replaced_takes_nothing_over,
    slots_that_are_on_their_way_are_shown,
    an_end_is_taken_over_from_the_other_shard,
    moves_that_ended_long_ago_are_forgotten,
);

async fn a_mover_shows_that_it_runs_its_move_and_nobody_elses(store: &Store) -> Result<()> {
    let mut scene = Scene::new(store, SlotSet::from(1..=1)).await?;
    let leader = scene.hold.leader;
    let record = a_record();
    let beat = MoveBeat {
        id: record.id,
        mover: record.mover.clone(),
        slots_done: 7,
        rows: 8,
        bytes: 9,
        pause_us_max: 10,
    };
    assert_eq!(scene.moves.beat(leader, &beat).await?, None, "no such move");
    scene.record(Entry::Begin, &record).await?;
    let mut before = scene.moves.open_records(10).await?.remove(0).changed_at;
    // As fast as beats may follow each other, none looks like the one before.
    for _ in 0..3 {
        assert_eq!(scene.moves.beat(leader, &beat).await?, Some(()));
        let seen = scene.moves.open_records(10).await?.remove(0);
        assert!(seen.changed_at > before, "{seen:?}");
        assert_eq!((seen.slots_done, seen.rows, seen.bytes), (7, 8, 9));
        assert_eq!((seen.state, seen.pause_us_max), (MoveState::Running, 10));
        before = seen.changed_at;
    }
    let short = MoveBeat {
        pause_us_max: 3,
        ..beat.clone()
    };
    scene.moves.beat(leader, &short).await?;
    let seen = scene.moves.open_records(10).await?.remove(0);
    assert_eq!(seen.pause_us_max, 10, "the longest one");

    let other = MoveBeat {
        mover: "host 2".to_owned(),
        ..beat.clone()
    };
    assert_eq!(scene.moves.beat(leader, &other).await?, None);
    let elsewhere = Leader {
        term: leader.term + 1,
        ..leader
    };
    assert_eq!(scene.moves.beat(elsewhere, &beat).await?, None);
    // A move that somebody stopped is open, and nobody runs it.
    let stopped = MoveRecord {
        state: MoveState::Stopped,
        ..record.clone()
    };
    scene.record(Entry::GoOn, &stopped).await?;
    assert_eq!(scene.moves.beat(leader, &beat).await?, None);
    assert_eq!(scene.moves.open_records(10).await?.len(), 1);
    let ended = MoveRecord {
        state: MoveState::Cancelled,
        ..record.clone()
    };
    scene.record(Entry::Begin, &record).await?;
    scene.record(Entry::GoOn, &ended).await?;
    assert_eq!(scene.moves.open_records(10).await?, []);
    Ok(())
}

async fn a_mover_that_was_replaced_takes_nothing_over(store: &Store) -> Result<()> {
    let mut scene = Scene::new(store, SlotSet::from(1..=2)).await?;
    let (leader, old) = (scene.hold.leader, a_record());
    let mut attempt = 0;
    let mut hold = || {
        attempt += 1;
        Hold { leader, attempt }
    };
    // Twice, as if the first answer had been lost.
    scene.record(Entry::Begin, &old).await?;
    scene.record(Entry::Begin, &old).await?;
    assert_eq!(scene.take_over(hold()).await?, Some(()));

    let cancel = MoveRecord {
        cancels: true,
        mover: "host 2".to_owned(),
        ..old.clone()
    };
    scene.record(Entry::Begin, &cancel).await?;
    let mut refused = async |scene: &mut Scene, why: &str| -> Result<()> {
        let shown = scene.moves.records(10).await?;
        assert_eq!(scene.take_over(hold()).await?, None, "{why}");
        // Neither as if nothing had happened nor as whoever picks up what nobody runs.
        for entry in [Entry::Begin, Entry::GoOn] {
            let recorded = scene.moves.record(leader, entry, &old).await?;
            assert_eq!(recorded, Recorded::NotTheirs, "{why}, {entry:?}");
        }
        assert_eq!(scene.moves.records(10).await?, shown);
        Ok(())
    };
    refused(&mut scene, "it is being cancelled").await?;
    let ended = MoveRecord {
        state: MoveState::Cancelled,
        ..cancel.clone()
    };
    scene.record(Entry::GoOn, &ended).await?;
    scene.record(Entry::GoOn, &ended).await?;
    refused(&mut scene, "it was cancelled").await?;
    let recorded = scene.moves.record(leader, Entry::Begin, &cancel).await?;
    assert_eq!(recorded, Recorded::NotTheirs, "it has ended");
    Ok(())
}

async fn an_end_is_taken_over_from_the_other_shard(store: &Store) -> Result<()> {
    let mut scene = Scene::new(store, SlotSet::from(1..=2)).await?;
    let record = a_record();
    scene.record(Entry::Begin, &record).await?;
    assert_eq!(scene.moves.record_of(record.id - 1).await?, None);
    let ended = MoveRecord {
        state: MoveState::Done,
        mover: "host 2".to_owned(),
        rows: 7,
        ..record.clone()
    };
    scene.record(Entry::End, &ended).await?;
    scene.record(Entry::End, &ended).await?;
    let seen = scene.moves.record_of(record.id).await?;
    let seen = seen.ok_or("it is known")?;
    assert_eq!((seen.state, seen.rows), (MoveState::Done, 7));
    // Nothing follows an end, not another one either.
    let cancelled = MoveRecord {
        state: MoveState::Cancelled,
        ..record
    };
    let leader = scene.hold.leader;
    let recorded = scene.moves.record(leader, Entry::End, &cancelled).await?;
    assert_eq!(recorded, Recorded::NotTheirs);
    Ok(())
}

async fn moves_that_ended_long_ago_are_forgotten(store: &Store) -> Result<()> {
    let mut scene = Scene::new(store, SlotSet::from(1..=2)).await?;
    let kept = MOVES_KEPT_MAX as u64;
    // Ids are as old as they are small; every hundredth is open.
    let state = |id: u64| match id % 100 {
        7 => "stopped",
        42 => "cancelled",
        _ => "done",
    };
    let rows: Vec<String> = (1..=kept + 30)
        .map(|id| {
            let state = state(id);
            format!("({id}, 'a', 'b', '1-2', '{state}', 0, 'x', 2, 0, 0, 0, '', {id}, {id})")
        })
        .collect();
    let insert = format!(
        "INSERT INTO moves (id, source, target, slots, state, cancels, mover, slots_done, \
         rows_copied, bytes_copied, pause_us_max, error, started_at, changed_at) VALUES {}",
        rows.join(",")
    );
    scene.audit.run(&insert).await?;
    let open = scene.moves.open_records(100).await?;
    let record = a_record();
    scene.record(Entry::Begin, &record).await?;
    let ended = MoveRecord {
        state: MoveState::Done,
        ..record.clone()
    };
    scene.record(Entry::GoOn, &ended).await?;
    let seen = scene.moves.records(2 * MOVES_KEPT_MAX).await?;
    let (open_still, ended): (Vec<_>, Vec<_>) =
        seen.iter().partition(|record| record.state.is_open());
    assert_eq!(open_still.len(), open.len(), "none that is open");
    assert_eq!(ended.len(), MOVES_KEPT_MAX);
    assert_eq!(ended[0].id, record.id, "the newest stay");
    let oldest = ended.last().ok_or("some")?.id;
    // As many ended as there are, and one more.
    let gone = 30 + 1 - open.len();
    let mut by_age = (1..).filter(|id| state(*id) != "stopped");
    assert_eq!(Some(oldest), by_age.nth(gone));
    Ok(())
}

async fn slots_that_are_on_their_way_are_shown(store: &Store) -> Result<()> {
    let mut scene = Scene::new(store, SlotSet::from(3..=4)).await?;
    assert_eq!(scene.moves.on_their_way().await?, []);
    for (step, state) in [
        (Step::Announce, Some(SlotState::Outgoing)),
        (Step::Fence, Some(SlotState::Fenced)),
        (Step::GiveAway, None),
    ] {
        scene.steps(&[step]).await?;
        let shown = scene.moves.on_their_way().await?;
        let shown: Vec<_> = shown
            .iter()
            .map(|(slot, row)| (slot.0, row.state, row.peer.as_deref()))
            .collect();
        let expected: Vec<_> = state
            .into_iter()
            .flat_map(|state| [3, 4].map(|slot| (slot, state, Some(PEER))))
            .collect();
        assert_eq!(shown, expected, "{step:?}");
    }
    Ok(())
}
