# Sourced by tests/run: puts what the tests need into "$cache", or fails and says how to get it.
# With "$docker", database servers come from images instead.
# shellcheck shell=bash

apt_updated=false

# apt_get REASON PACKAGE...
apt_get() {
    local reason="$1"
    shift
    command -v apt-get >/dev/null || fail "$reason; install it with your package manager"
    ((EUID == 0)) || fail "$reason; run: sudo apt-get install $*"
    if ! "$apt_updated"; then
        apt-get update -qq
        apt_updated=true
    fi
    DEBIAN_FRONTEND=noninteractive apt-get install -qq --yes --no-install-recommends "$@" >/dev/null
}

install_mariadb() {
    [[ -n "${FREEHOLD_TEST_MARIADBD:-}" ]] && return
    # Debian keeps it where only root's PATH leads. The script that makes a data folder calls the
    # second one, which is in the client's core package; moves are compared with the third.
    PATH="$PATH:/usr/sbin" command -v mariadbd >/dev/null &&
        command -v my_print_defaults >/dev/null && command -v mariadb-dump >/dev/null && return
    # These packages have the programs and start no service.
    apt_get 'mariadbd, my_print_defaults or mariadb-dump is missing' \
        mariadb-server-core mariadb-client-core mariadb-client
}

# The mirror this machine's apt takes Debian from.
debian_mirror() {
    apt-get indextargets --format '$(SITE) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' |
        awk '$3 == "main" && $2 !~ /-/ { print $1; exit }'
}

install_mysql() {
    local root="${FREEHOLD_TEST_MYSQLD_ROOT:-}"
    if [[ -n "$root" ]]; then
        [[ -x "$root/usr/sbin/mysqld" ]] || fail "FREEHOLD_TEST_MYSQLD_ROOT has no usr/sbin/mysqld"
        # MariaDB takes that name too.
        [[ "$(readlink -f -- "$root/usr/sbin/mysqld")" != *mariadbd ]] ||
            fail "FREEHOLD_TEST_MYSQLD_ROOT holds MariaDB, not MySQL"
        return
    fi
    root="$cache/mysql"
    (
        # Others may be at it: the lock is held until this subshell ends.
        flock 9
        [[ -x "$root/usr/sbin/mysqld" ]] && exit
        local how='set FREEHOLD_TEST_MYSQLD_ROOT to a folder with usr/sbin/mysqld (/ if installed)'
        local mirror
        mirror="$(debian_mirror 2>/dev/null || true)"
        [[ -n "$mirror" ]] || fail "MySQL is missing and apt knows no Debian mirror; $how"
        ((EUID == 0)) || fail "MySQL is missing and only root can unpack Debian; $how"
        command -v debootstrap >/dev/null || apt_get 'debootstrap is missing' debootstrap
        # Debian's releases carry MariaDB alone; its unstable branch has MySQL. It is unpacked into
        # a folder, with the C library it needs, and changes nothing on this machine.
        rm -rf -- "$root" "$root.new"
        debootstrap --variant=minbase --include=mysql-server-core,mysql-client-core \
            sid "$root.new" "$mirror" >"$cache/mysql.log" 2>&1 ||
            fail "unpacking MySQL failed, see $cache/mysql.log; $how"
        mv -- "$root.new" "$root"
    ) 9>"$cache/mysql.lock"
}

# cargo_tool COMMAND CRATE
cargo_tool() {
    cargo "$1" --version >/dev/null 2>&1 && return
    # Unoptimised: it is built in half the time, and runs for seconds.
    cargo install --quiet --locked --debug --root "$cache/tools" "$2" ||
        fail "cargo install --locked $2 failed; install it and try again"
}

install_python() {
    local wanted="$here/clients/python/requirements.txt" have="$cache/python/requirements.txt"
    cmp --silent -- "$wanted" "$have" && return
    command -v python3 >/dev/null || apt_get 'python3 is missing' python3 python3-venv
    python3 -c 'import ensurepip, venv' 2>/dev/null ||
        apt_get "python3's venv module is missing" python3-venv
    rm -rf -- "$cache/python"
    python3 -m venv "$cache/python"
    "$cache/python/bin/python" -m pip install --quiet --requirement "$wanted" ||
        fail "pip could not install what $wanted names"
    # Last: it says that the rest is complete.
    cp -- "$wanted" "$have"
}

install_node() {
    local wanted="$here/clients/node/package.json" have="$cache/node/installed.json"
    cmp --silent -- "$wanted" "$have" && return
    command -v npm >/dev/null || apt_get 'npm is missing' nodejs npm
    rm -rf -- "$cache/node"
    mkdir -p -- "$cache/node"
    cp -- "$wanted" "$cache/node/"
    # No package's own scripts: what is needed comes with the packages.
    (cd -- "$cache/node" && npm install --silent --no-package-lock --ignore-scripts) ||
        fail "npm could not install what $wanted names"
    cp -- "$wanted" "$have"
}

# One test imports every package that apt knows of, and says what is missing if that is too few.
install_package_index() {
    command -v apt-cache >/dev/null || return 0
    (($(apt-cache dumpavail | grep --count '^Package:') >= 60000)) && return
    ((EUID == 0)) || fail 'apt knows too few packages; run: sudo apt-get update'
    apt-get update -qq
    apt_updated=true
}

# What the torture breaks disks and clocks with. Where it is missing its report says so.
install_breakers() {
    command -v apt-get >/dev/null && ((EUID == 0)) || return 0
    command -v strace >/dev/null || apt_get 'strace is missing' strace
    compgen -G '/usr/lib/*/faketime/libfaketimeMT.so.1' >/dev/null ||
        apt_get 'libfaketime is missing' libfaketime
}

install_all() {
    command -v cc >/dev/null || apt_get 'a C compiler is missing' gcc libc6-dev
    if ! "$docker"; then
        install_mariadb
        install_mysql
    fi
    cargo_tool nextest cargo-nextest
    cargo_tool deny cargo-deny
    command -v c++ >/dev/null || apt_get 'a C++ compiler, which builds libFuzzer, is missing' g++
    install_python
    install_node
    install_package_index
    install_breakers
}
