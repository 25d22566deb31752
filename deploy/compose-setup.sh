#!/usr/bin/env bash
# Sets the servers of compose.yaml up with the SQL files beside it. Run again, it changes nothing.
#   compose-setup.sh accounts|grants MASTER:REPLICA...
set -euo pipefail

what="$1"
shift

# on HOST: runs the SQL it reads. MYSQL_PWD holds the password.
on() {
    mysql --host="$1" --user=root
}

# filled FILE: the SQL with its ${PLACEHOLDERS} replaced from the environment.
filled() {
    local sql name
    sql="$(<"/sql/$1")"
    for name in MASTER_HOST MASTER_PORT REPLICATION_USER REPLICATION_PASSWORD \
        FREEHOLD_PASSWORD FREEHOLD_SWEEPER_PASSWORD FREEHOLD_MOVER_PASSWORD FREEHOLD_SCHEMA_PASSWORD; do
        sql="${sql//"\${$name}"/"${!name:-}"}"
    done
    printf '%s\n' "$sql"
}

# leads HOST: whether it takes writes to tables that are there: a replica that was promoted.
leads() {
    [[ -n "$(on "$1" <<<"SELECT 1 FROM information_schema.schemata \
        WHERE schema_name = 'freehold' AND @@read_only = 0")" ]]
}

for pair in "$@"; do
    master="${pair%:*}" replica="${pair#*:}"
    if leads "$replica"; then
        printf '%s: %s was promoted, nothing is changed\n' "$pair" "$replica"
        continue
    fi
    case "$what" in
        accounts)
            if [[ -z "$(on "$master" <<<"SHOW DATABASES LIKE 'freehold'")" ]]; then
                # The image wrote its own set-up into the new servers' binlogs; each has its own,
                # so none of it may be copied.
                on "$replica" <<<'STOP REPLICA; RESET REPLICA ALL; RESET BINARY LOGS AND GTIDS'
                on "$master" <<<'RESET BINARY LOGS AND GTIDS'
            elif [[ -z "$(on "$replica" <<<'SHOW REPLICA STATUS')" ]]; then
                printf '%s holds data, %s none: restore a backup there first\n' "$master" "$replica" >&2
                exit 1
            fi
            filled replication-master.sql | on "$master"
            MASTER_HOST="$master" MASTER_PORT=3306 filled replication-replica.sql | on "$replica"
            # Last: while the database is not there, all of this can begin anew.
            filled accounts.sql | on "$master"
            ;;
        grants) on "$master" </sql/grants.sql ;;
    esac
    printf '%s: %s done\n' "$pair" "$what"
done
