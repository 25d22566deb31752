use super::*;

fn ttl_of(seconds: i64, nanos: i32) -> Result<Option<u64>, Failure> {
    ttl_ms(Some(prost_types::Duration { seconds, nanos }))
}

#[test]
fn a_ttl_is_1_ms_to_100_years_rounded_up() {
    assert_eq!(ttl_ms(None), Ok(None));
    assert_eq!(ttl_of(0, 1), Ok(Some(1)));
    assert_eq!(ttl_of(0, 1_000_001), Ok(Some(2)));
    let longest = i64::try_from(TTL_MAX.as_secs()).unwrap();
    assert_eq!(ttl_of(longest, 0), Ok(Some(3_155_760_000_000)));
    let contradictory = [(2, -1), (-1, 2), (1, 1_000_000_000), (1, i32::MAX)];
    let outside = [
        (0, 0),
        (-1, 0),
        (0, -1),
        (longest, 1),
        (i64::MAX, 0),
        (i64::MIN, 0),
    ];
    for (seconds, nanos) in outside.into_iter().chain(contradictory) {
        let failure = ttl_of(seconds, nanos).unwrap_err();
        assert!(
            matches!(failure, Failure::Invalid { field: "ttl", .. }),
            "{failure}"
        );
    }
}

#[test]
fn a_timeout_that_nobody_could_wait_for_is_over() {
    let of = |seconds, nanos| timeout(Some(prost_types::Duration { seconds, nanos }));
    assert_eq!(timeout(None), Duration::MAX);
    assert_eq!(of(1, 500_000_000), Duration::from_millis(1_500));
    for (seconds, nanos) in [
        (0, 0),
        (-1, 0),
        (i64::MIN, 0),
        (i64::MIN, i32::MIN),
        (1, -1),
    ] {
        assert_eq!(of(seconds, nanos), Duration::ZERO, "{seconds} s {nanos} ns");
    }
}

#[test]
fn values_up_to_the_limit_are_taken() {
    let put = |bytes| {
        let value = Bytes::from(vec![0; bytes]);
        Validator::new(10).put(
            v1::PutRequest {
                key: "k".into(),
                value,
                ttl: None,
            },
            1,
        )
    };
    assert!(put(0).is_ok() && put(9).is_ok() && put(10).is_ok());
    assert!(put(11).unwrap_err().to_string().contains("11 bytes"));
}

#[test]
fn a_range_of_slots_has_its_ends_in_order_and_below_65_536() {
    let of = |first, last| slots(Some(v1::SlotRange { first, last }));
    assert_eq!(slots(None), Ok(Slot::FIRST..=Slot::LAST));
    assert_eq!(of(0, 65_535), Ok(Slot::FIRST..=Slot::LAST));
    assert_eq!(of(7, 7), Ok(Slot(7)..=Slot(7)));
    for (first, last, wrong) in [
        (8, 7, "slots.last"),
        (0, 65_536, "slots.last"),
        (65_536, 65_536, "slots.first"),
        (u32::MAX, 0, "slots.first"),
    ] {
        let failure = of(first, last).unwrap_err();
        let Failure::Invalid { field, .. } = &failure else {
            panic!("{failure}");
        };
        assert_eq!(*field, wrong, "{failure}");
        assert!(failure.to_string().contains("65535"), "{failure}");
    }
}

#[test]
fn options_that_contradict_the_level_are_refused() {
    let options = |consistency: v1::Consistency, session_token: &'static str| {
        let session_token = Bytes::from(session_token);
        level(Some(&v1::ReadOptions {
            consistency: consistency.into(),
            max_staleness: None,
            session_token,
        }))
    };
    assert_eq!(options(v1::Consistency::Eventual, ""), Ok(Level::Eventual));
    assert!(matches!(
        options(v1::Consistency::Strong, "t"),
        Err(Failure::Invalid { .. })
    ));
    for wrong in [
        options(v1::Consistency::Session, "t"),
        options(v1::Consistency::Session, ""),
    ] {
        let Err(Failure::Invalid { field, .. }) = wrong else {
            panic!("{wrong:?}");
        };
        assert_eq!(field, "read.session_token");
    }
}

#[test]
fn a_bound_is_a_duration_from_zero_on() {
    let bounded = |seconds, nanos| {
        level(Some(&v1::ReadOptions {
            consistency: v1::Consistency::BoundedStaleness.into(),
            max_staleness: Some(prost_types::Duration { seconds, nanos }),
            session_token: Bytes::new(),
        }))
    };
    let of = |bound| Ok(Level::Bounded(bound));
    assert_eq!(bounded(0, 500_000_000), of(Duration::from_millis(500)));
    assert_eq!(bounded(0, 0), of(Duration::ZERO));
    assert_eq!(
        bounded(i64::MAX, 0),
        of(Duration::from_secs(i64::MAX.unsigned_abs()))
    );
    for (seconds, nanos) in [(-1, 0), (0, -1), (0, 1_000_000_000)] {
        let wrong = bounded(seconds, nanos);
        assert!(
            matches!(
                &wrong,
                Err(Failure::Invalid {
                    field: "read.max_staleness",
                    ..
                })
            ),
            "{wrong:?}"
        );
    }
}
