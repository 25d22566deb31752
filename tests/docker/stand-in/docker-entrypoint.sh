#!/usr/bin/env bash
# Starts MySQL as the official image does: the same variables, folders and account, as far as
# Freehold's compose file and tests use them.
set -euo pipefail

if (($# == 0)); then set -- mysqld; fi
if [[ "$1" == -* ]]; then set -- mysqld "$@"; fi
if [[ "$1" != mysqld ]]; then exec "$@"; fi
shift

data=/var/lib/mysql
server() {
    setpriv --reuid=mysql --regid=mysql --clear-groups mysqld --user=mysql --datadir="$data" "$@"
}

install -d -o mysql -g mysql "$data" /run/mysqld
if [[ ! -d "$data/mysql" ]]; then
    : "${MYSQL_ROOT_PASSWORD:?set MYSQL_ROOT_PASSWORD}"
    server --initialize-insecure "$@"
    server "$@" --skip-networking --mysqlx=OFF --socket=/run/mysqld/setup.sock &
    setup="$!"
    sql() { mysql --no-defaults --socket=/run/mysqld/setup.sock --user=root "$@"; }
    until sql <<<'SELECT 1' >/dev/null 2>&1; do
        kill -0 "$setup"
        sleep 0.1
    done
    host="${MYSQL_ROOT_HOST:-%}"
    sql <<SQL
SET SESSION sql_log_bin = OFF;
CREATE USER 'root'@'$host' IDENTIFIED BY '$MYSQL_ROOT_PASSWORD';
GRANT ALL ON *.* TO 'root'@'$host' WITH GRANT OPTION;
SQL
    for script in /docker-entrypoint-initdb.d/*.sql; do
        if [[ -f "$script" ]]; then sql <"$script"; fi
    done
    sql <<<"ALTER USER 'root'@'localhost' IDENTIFIED BY '$MYSQL_ROOT_PASSWORD'; SHUTDOWN"
    wait "$setup"
fi

# In this process's place: signals from the engine reach the server itself.
exec setpriv --reuid=mysql --regid=mysql --clear-groups \
    mysqld --user=mysql --datadir="$data" "$@"
