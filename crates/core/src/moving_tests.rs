use proptest::prelude::*;

use super::*;

const A: u8 = 1;
const B: u8 = 2;
const C: u8 = 3;

fn row(state: SlotState, slot_epoch: u64, peer: Option<u8>) -> SlotRow<u8> {
    SlotRow {
        state,
        slot_epoch,
        peer,
        attempt: 7,
    }
}

fn phase(source: SlotRow<u8>, target: SlotRow<u8>, aim: Aim) -> Result<Phase, Unmovable> {
    decide(&source, &target, (&A, &B), aim)
}

/// The rows after each step of a whole move, source and target.
fn rows_of_a_move() -> Vec<(SlotRow<u8>, SlotRow<u8>)> {
    let mut source = row(SlotState::Owned, 4, Some(C));
    let mut target = take_over(None, 7, A).next;
    let mut rows = vec![(source, target)];
    for step in [
        Step::Receive,
        Step::Announce,
        Step::Fence,
        Step::GiveAway,
        Step::Open,
    ] {
        match step {
            Step::Receive | Step::Open => target = change(step, &target, 7, A, 4).unwrap().next,
            _ => source = change(step, &source, 7, B, 4).unwrap().next,
        }
        rows.push((source, target));
    }
    rows
}

#[test]
fn a_move_goes_on_from_each_of_its_steps() {
    let phases: Vec<_> = rows_of_a_move()
        .into_iter()
        .map(|(source, target)| phase(source, target, Aim::Move).unwrap())
        .collect();
    let expected = [
        Phase::Start,
        Phase::Copy,
        Phase::Copy,
        Phase::Verify,
        Phase::Open,
        Phase::Clean,
    ];
    assert_eq!(phases, expected);
    let (source, target) = rows_of_a_move().pop().unwrap();
    assert_eq!(source, row(SlotState::Gone, 5, Some(B)));
    assert_eq!(target, row(SlotState::Owned, 5, Some(A)));
}

#[test]
fn a_cancel_goes_back_until_the_slot_was_given_away_and_forward_from_there() {
    let phases: Vec<_> = rows_of_a_move()
        .into_iter()
        .map(|(source, target)| phase(source, target, Aim::Cancel).unwrap())
        .collect();
    let back = Phase::Return;
    assert_eq!(phases, [back, back, back, back, Phase::Open, Phase::Clean]);
}

#[test]
fn a_cancelled_move_leaves_the_rows_as_if_nothing_had_been_owned_elsewhere() {
    let (source, target) = rows_of_a_move()[3];
    let source = change(Step::Return, &source, 7, B, 4).unwrap().next;
    let closed = change(Step::Close, &target, 7, A, 4).unwrap();
    assert!(closed.finds_no_rows);
    assert_eq!(source, row(SlotState::Owned, 4, Some(B)));
    assert_eq!(closed.next, row(SlotState::Gone, 4, Some(A)));
    assert_eq!(phase(source, closed.next, Aim::Move), Ok(Phase::Start));
}

#[test]
fn whoever_was_taken_over_changes_nothing_and_does_no_work() {
    for (source, target) in rows_of_a_move() {
        for mine in [source, target] {
            let theirs = take_over(Some(&mine), 8, B).next;
            assert_eq!((theirs.state, theirs.attempt), (mine.state, 8));
            for step in Step::ALL {
                let illegal = change(step, &theirs, 7, B, 4);
                assert_eq!(illegal, Err(Illegal::TakenOver));
            }
            for work in [Work::Copy, Work::Forget, Work::Empty, Work::ClearLog] {
                assert!(!work.is_allowed(&theirs, 7));
            }
        }
    }
}

#[test]
fn rows_of_a_claim_are_never_written_or_deleted_by_a_mover() {
    for state in SlotState::ALL.into_iter().filter(|state| state.is_claim()) {
        for work in [Work::Copy, Work::Empty] {
            assert!(!work.is_allowed(&row(state, 1, None), 7), "{work:?}");
        }
    }
}

#[test]
fn a_target_that_lost_its_row_in_a_failover_receives_again() {
    let fenced = row(SlotState::Fenced, 4, Some(B));
    for target in [
        row(SlotState::Gone, 0, Some(A)),
        row(SlotState::Gone, 4, Some(A)),
    ] {
        assert_eq!(phase(fenced, target, Aim::Move), Ok(Phase::Start));
    }
    // An `incoming` from before the source's own claim stands for nothing.
    let stale = row(SlotState::Incoming, 4, Some(C));
    assert_eq!(
        phase(row(SlotState::Owned, 4, None), stale, Aim::Move),
        Ok(Phase::Start)
    );
}

#[test]
fn what_is_not_this_moves_own_is_left_alone() {
    let owned = row(SlotState::Owned, 4, None);
    let refused = |source, target| phase(source, target, Aim::Move).unwrap_err();
    let gone = row(SlotState::Gone, 0, Some(A));
    let incoming = |slot_epoch, peer| row(SlotState::Incoming, slot_epoch, Some(peer));
    assert_eq!(refused(incoming(5, B), gone), Unmovable::NotOwned);
    assert_eq!(
        refused(row(SlotState::Gone, 4, Some(C)), gone),
        Unmovable::NotOwned
    );
    assert_eq!(
        refused(row(SlotState::Outgoing, 4, Some(C)), gone),
        Unmovable::OtherMove
    );
    assert_eq!(refused(owned, incoming(5, C)), Unmovable::OtherMove);
    assert_eq!(refused(owned, incoming(6, A)), Unmovable::Disagreement);
    assert_eq!(
        refused(owned, row(SlotState::Gone, 5, Some(A))),
        Unmovable::Disagreement
    );
    assert_eq!(
        refused(owned, row(SlotState::Owned, 4, None)),
        Unmovable::Disagreement
    );
    assert_eq!(
        refused(owned, row(SlotState::Owned, 5, Some(A))),
        Unmovable::Disagreement
    );
}

#[test]
fn a_fenced_source_yields_to_a_target_that_owns() {
    let fenced = row(SlotState::Fenced, 4, Some(B));
    let owned = row(SlotState::Owned, 5, Some(A));
    assert_eq!(phase(fenced, owned, Aim::Cancel), Ok(Phase::Yield));
}

#[test]
fn a_cancel_leaves_to_others_what_is_theirs() {
    let cancel = |source, target| phase(source, target, Aim::Cancel);
    let nothing = row(SlotState::Gone, 0, Some(A));
    let owned_later = row(SlotState::Owned, 7, Some(C));
    for source in [
        row(SlotState::Gone, 5, Some(C)),
        row(SlotState::Outgoing, 4, Some(C)),
        row(SlotState::Fenced, 4, Some(C)),
        row(SlotState::Incoming, 5, Some(B)),
        row(SlotState::Incoming, 5, Some(C)),
    ] {
        for target in [nothing, owned_later] {
            assert_eq!(cancel(source, target), Ok(Phase::Leave), "{source:?}");
        }
    }
    // What the target received before the source gave the slot to somebody else.
    let received = row(SlotState::Incoming, 5, Some(A));
    let given = row(SlotState::Gone, 5, Some(C));
    assert_eq!(cancel(given, received), Ok(Phase::Leave));
    // It may be the one that has the rows.
    for source in [
        row(SlotState::Gone, 4, Some(C)),
        row(SlotState::Incoming, 6, Some(B)),
    ] {
        assert!(cancel(source, received).is_err(), "{source:?}");
    }
    let owned = row(SlotState::Owned, 4, None);
    assert_eq!(cancel(owned, nothing), Ok(Phase::Return));
}

fn any_row() -> impl Strategy<Value = SlotRow<u8>> {
    let peers = prop::option::of(A..=C);
    (0_usize..5, 0_u64..4, peers, 6_u64..9).prop_map(|(state, slot_epoch, peer, attempt)| SlotRow {
        state: SlotState::ALL[state],
        slot_epoch,
        peer,
        attempt,
    })
}

proptest! {
    /// Whatever rows there are and whatever is done to them: a change proves the very row, an
    /// epoch never goes down but where a cancel closes, and only what changes nothing for routers
    /// leaves the stamp.
    #[test]
    fn changes_prove_what_they_change(
        before in any_row(), step in 0_usize..Step::ALL.len(), slot_epoch in 0_u64..4,
    ) {
        let step = Step::ALL[step];
        let Ok(change) = change(step, &before, 7, B, slot_epoch) else {
            return Ok(());
        };
        prop_assert_eq!(change.proves, Some(before));
        prop_assert_eq!(before.attempt, 7);
        prop_assert!(change.draws_stamp);
        let back = change.next.slot_epoch < before.slot_epoch;
        prop_assert!(!back || matches!(step, Step::Close | Step::Receive));
        // Nothing but step 9 and a cancel makes an owner that was none before.
        let becomes_writable = change.next.state.is_writable() && !before.state.is_writable();
        prop_assert!(!becomes_writable || matches!(step, Step::Open | Step::Return | Step::Reopen));
        prop_assert!(!taken(&before).draws_stamp);
    }

    /// A phase names steps that are legal on the rows it was found from.
    #[test]
    fn what_is_decided_can_be_done(source in any_row(), target in any_row(), cancel in any::<bool>()) {
        let (source, target) = (SlotRow { attempt: 7, ..source }, SlotRow { attempt: 7, ..target });
        let aim = if cancel { Aim::Cancel } else { Aim::Move };
        let Ok(phase) = phase(source, target, aim) else {
            return Ok(());
        };
        let e = source.slot_epoch;
        let at_source = |step| change(step, &source, 7, B, e).is_ok();
        let at_target = |step, e| change(step, &target, 7, A, e).is_ok();
        let possible = match phase {
            Phase::Start => at_target(Step::Receive, e) && source.state.is_claim(),
            Phase::Copy => at_source(Step::Announce) || source.state == SlotState::Outgoing,
            Phase::Verify => at_source(Step::GiveAway) && at_source(Step::Reopen),
            Phase::Open => e > 0 && at_target(Step::Open, e - 1),
            Phase::Yield => at_source(Step::GiveAway),
            Phase::Clean => Work::Empty.is_allowed(&source, 7),
            Phase::Return => {
                let closes = at_target(Step::Close, e) || target.slot_epoch <= e;
                (at_source(Step::Return) || source.state == SlotState::Owned) && closes
            }
            Phase::Leave => {
                let received = target.state == SlotState::Incoming && target.peer == Some(A);
                let e = target.slot_epoch;
                cancel && (!received || e == 0 || at_target(Step::Close, e - 1))
            }
        };
        prop_assert!(possible, "{:?}", phase);
        let returns = cancel && source.state.is_claim() && !target.state.is_claim();
        prop_assert_eq!(phase == Phase::Return, returns && phase != Phase::Leave);
    }
}

fn taken(row: &SlotRow<u8>) -> Change<u8> {
    take_over(Some(row), 8, B)
}
