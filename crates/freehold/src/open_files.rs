//! File descriptors: every connection takes one, and a system gives a process few unless it asks.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Besides connections: listeners, files, the map loaders' and sweepers' own connections, and the
/// callers' connections over the limit, which are told so.
const OTHERS: u64 = 512;

/// Asks for as many file descriptors as connections may need, and says so where the system gives
/// fewer.
pub(crate) fn make_room(connections_max: u64, of_lanes: u64) {
    let needed = connections_max + of_lanes + OTHERS;
    let limit = getrlimit(Resource::Nofile);
    let given = match raised(&limit, needed) {
        Some(wanted) => match setrlimit(Resource::Nofile, wanted) {
            Ok(()) => wanted.current,
            Err(_) => limit.current,
        },
        None => limit.current,
    };
    if let Some(given) = given.filter(|given| *given < needed) {
        tracing::warn!(
            "this process may open {given} files, and server.connections_max = {connections_max} \
             with {of_lanes} to databases needs {needed}: raise the limit (ulimit -n, LimitNOFILE), or lower \
             connections_max"
        );
    }
}

/// The limit to ask for, if the present one is too low: as much as is needed, or may be had.
fn raised(limit: &Rlimit, needed: u64) -> Option<Rlimit> {
    let current = limit.current.filter(|current| *current < needed)?;
    let wanted = limit.maximum.map_or(needed, |maximum| maximum.min(needed));
    (wanted > current).then_some(Rlimit {
        current: Some(wanted),
        maximum: limit.maximum,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_needed_is_asked_for_as_far_as_it_may_be_had() {
        let ask = |current, maximum| raised(&Rlimit { current, maximum }, 5_000);
        let asked = |current, maximum| ask(current, maximum).and_then(|limit| limit.current);
        assert_eq!(asked(Some(1_024), Some(1 << 20)), Some(5_000));
        assert_eq!(asked(Some(1_024), None), Some(5_000));
        assert_eq!(asked(Some(1_024), Some(4_096)), Some(4_096));
        assert_eq!(asked(Some(1_024), Some(1_024)), None);
        assert_eq!(asked(Some(5_000), Some(9_000)), None);
        assert_eq!(asked(None, None), None);
    }
}
