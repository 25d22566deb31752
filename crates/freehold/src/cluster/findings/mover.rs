//! Whether routers may go on with moves whose mover died: the rights of the mover's account.
//!
//! Nobody misses them until a mover is killed in the moment in which writes wait.

use freehold_storage::schema::SchemaState;

use super::{
    Judge, Severity, Topic, Words,
    grants::{EXECUTE, Grants, Needs},
};
use crate::cluster::survey::{Role, Seen};

/// What moving slots from a master or to it takes.
const MASTER: &Needs = &[
    ("store", &["SELECT", "INSERT", "DELETE"]),
    ("shard", &["SELECT", "UPDATE (epoch, stamp)"]),
    ("slots", &["SELECT", "INSERT", "UPDATE"]),
    ("moved_keys", &["SELECT", "DELETE"]),
    ("moves", &["SELECT", "INSERT", "UPDATE", "DELETE"]),
    ("heartbeat", &["SELECT"]),
    ("change_slots", &[EXECUTE]),
];

const ACCOUNT: &str = "the mover's account";

const WHY: &str = "Routers do not go on with a move whose mover died: its slots stay as they are, \
                   also those whose writes wait, until somebody calls freehold moves.";

pub(super) fn judge(judge: &mut Judge<'_>, seen: &Seen) {
    let Some(grants) = &judge.server.moved else {
        return;
    };
    if judge.server.role != Role::Master {
        return;
    }
    let grants = match grants {
        Ok(grants) => Grants::read(judge, ACCOUNT, grants),
        Err(error) => {
            let words = Words {
                found: &error.to_string(),
                wanted: "a login",
                why: WHY,
            };
            let mend = "set mover.user and its password in the config; deploy/*/accounts.sql makes \
                        the account";
            let mend = vec![mend.to_owned()];
            return judge.add(Severity::Warning, Topic::Account, ACCOUNT, words, mend);
        }
    };
    // Rights on single tables can be given when the tables are there.
    let (Some(grants), Some(database), SchemaState::Ready { .. }) =
        (grants, &judge.server.database, &seen.state)
    else {
        return;
    };
    if let Some((found, mut mend)) = grants.lacks(database, MASTER) {
        let other = "or give [mover] user an account with the rights of deploy/*/accounts.sql and \
                     grants.sql, or set mover.enabled = false";
        mend.push(other.to_owned());
        let words = Words {
            found: &found,
            wanted: "what moving slots takes",
            why: WHY,
        };
        judge.add(Severity::Warning, Topic::Account, ACCOUNT, words, mend);
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::tests::{judge_all, only, server},
        *,
    };
    use crate::cluster::survey::Surveyed;

    fn with(grants: &[&str]) -> [Surveyed; 1] {
        let grants = grants.iter().map(|grant| (*grant).to_owned()).collect();
        [Surveyed {
            moved: Some(Ok(grants)),
            ..server("a", Role::Master, "MySQL", &[])
        }]
    }

    #[test]
    fn an_account_that_cannot_go_on_with_moves_is_found() {
        let all = "GRANT SELECT, INSERT, UPDATE, DELETE, EXECUTE ON `db`.* TO `m`@`%`";
        assert_eq!(judge_all(&with(&[all])), []);
        // What a router has.
        let router = [
            "GRANT SELECT, INSERT, UPDATE, DELETE ON `db`.`store` TO `u`@`%`",
            "GRANT SELECT, UPDATE (`attempt`, `since_epoch`) ON `db`.`slots` TO `u`@`%`",
            "GRANT SELECT, UPDATE (`term`, `epoch`, `server_id`, `stamp`) ON `db`.`shard` TO `u`@`%`",
            "GRANT SELECT, INSERT, UPDATE ON `db`.`moved_keys` TO `u`@`%`",
            "GRANT SELECT, UPDATE ON `db`.`heartbeat` TO `u`@`%`",
        ];
        let finding = only(&with(&router), ACCOUNT);
        assert_eq!(finding.severity, Severity::Warning);
        for wanted in [
            "GRANT INSERT, UPDATE ON `db`.`slots` TO `u`@`%`;",
            "GRANT DELETE ON `db`.`moved_keys` TO `u`@`%`;",
            "GRANT SELECT, INSERT, UPDATE, DELETE ON `db`.`moves` TO `u`@`%`;",
            "GRANT EXECUTE ON PROCEDURE `db`.`change_slots` TO `u`@`%`;",
        ] {
            assert!(finding.mend.iter().any(|mend| mend == wanted), "{finding}");
        }
    }
}
