# shellcheck shell=bash
# A private PostgreSQL in a folder: made once, started and ended by whoever sources this. After common.sh.
#
# It listens on 127.0.0.1 alone, with a random password (SCRAM), and has no Unix socket: a socket's path may be
# 107 bytes long at most, and a data folder's may be longer. fsync stays on, as it is by default.
#
# PostgreSQL refuses to run as root; as root we run it as the user `postgres`, which the package makes. That user
# must be able to reach the folder; below /root or a private folder of /tmp it is not, and then the cluster lives
# in /var/lib/callreel with a link in its place. (Opening somebody's home folder by an ACL would be worse.)

PG_FALLBACK=/var/lib/callreel
# Recovery after a crash replays up to a checkpoint's worth of log before the server answers.
PG_START_SECONDS=120
PG_STOP_SECONDS=30

# pg_bin COMMAND [VERSION]: of that major version, or of the newest that is installed.
pg_bin() {
  local bin found=""
  for bin in /usr/lib/postgresql/${2:-*}/bin/"$1"; do
    [[ -x $bin ]] && found=$(printf '%s\n%s\n' "$found" "$bin" | sort -V | tail -n 1)
  done
  [[ -n $found ]] || found=$(command -v "$1") || die "PostgreSQL ${2:-} is not installed (no $1)"
  echo "$found"
}

# As whom the server runs: a prefix for commands.
PG_AS=()
pg_choose_user() {
  ((EUID == 0)) || return 0
  id postgres >/dev/null 2>&1 || useradd --system --user-group --no-create-home postgres
  PG_AS=(setpriv --reuid=postgres --regid=postgres --init-groups --)
}

# pg_make LINK PASSWORD_FILE: makes the cluster unless it is there, and prints the folder in which it really is.
pg_make() {
  local wanted=$1 password_file=$2
  if [[ ! -e $wanted/PG_VERSION ]]; then
    # Made aside and renamed, so that a run that was killed half-way leaves nothing that looks finished.
    local home=$wanted
    say "making a private PostgreSQL in $wanted"
    pg_can_reach "${wanted%/*}" || home=$(pg_fallback_home "$wanted")
    pg_initdb "$home.new" "$password_file"
    mv -T -- "$home.new" "$home"
    [[ $home == "$wanted" ]] || ln -sfnT -- "$home" "$wanted"
  fi
  realpath -- "$wanted"
}

pg_can_reach() { ((EUID != 0)) || "${PG_AS[@]}" test -x "$1/."; }

pg_fallback_home() {
  mkdir -p "$PG_FALLBACK"
  chmod 755 "$PG_FALLBACK"
  local home
  home=$(mktemp -d "$PG_FALLBACK/postgres-XXXXXX")
  rmdir "$home"
  say "user postgres cannot reach ${1%/*}; the database lives in $home, linked from $1"
  echo "$home"
}

pg_initdb() {
  local home=$1 secret
  rm -rf -- "$home"
  mkdir -m 700 -- "$home"
  # initdb opens the file by name, as its own user, and wants the folder empty.
  secret=$(mktemp)
  cat -- "$2" >"$secret"
  if ((EUID == 0)); then chown postgres: -- "$home" "$secret"; fi
  local log
  log=$("${PG_AS[@]}" "$(pg_bin initdb)" -D "$home" -U callreel -A scram-sha-256 --pwfile="$secret" \
    -E UTF8 --locale=C.UTF-8 --data-checksums 2>&1 </dev/null 9>&-) || die "initdb failed in $home: $log"
  rm -f -- "$secret"
}

# pg_command HOME PORT [OPTION…]: puts into PG_COMMAND how to run the server in the foreground.
pg_command() {
  local home=$1 port=$2
  shift 2
  # shellcheck disable=SC2034  # read by whoever sources this
  PG_COMMAND=("${PG_AS[@]}" "$(pg_bin postgres "$(<"$home/PG_VERSION")")" -D "$home" -p "$port"
    -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c log_line_prefix='%m [%p] ' "$@")
}

pg_answers() { "$(pg_bin pg_isready)" -q -h 127.0.0.1 -p "$1"; }

# pg_await PORT PID: until it answers; 1 when it ended or the time is over.
pg_await() {
  local deadline=$((SECONDS + PG_START_SECONDS))
  until pg_answers "$1"; do
    if is_gone "$2" || ((SECONDS >= deadline)); then return 1; fi
    sleep 0.1
  done
}

# pg_url PASSWORD_FILE PORT DATABASE
pg_url() { echo "postgres://callreel:$(<"$1")@127.0.0.1:$2/$3"; }

# pg_run_temporary FOLDER [OPTION…]: a server for the length of a test run, in FOLDER, on a free port. Sets PG_PID and
# PG_URL (of database callreel). Two runs at once may pick one port; the later one then picks another.
pg_run_temporary() {
  local folder=$1 port try
  shift
  random_secret >"$folder/password"
  pg_choose_user
  chmod 711 -- "$folder"
  PG_HOME=$(pg_make "$folder/postgres" "$folder/password")
  for try in 1 2 3; do
    port=$(free_port)
    pg_command "$PG_HOME" "$port" "$@"
    env -C / setsid "${PG_COMMAND[@]}" >"$folder/postgres.log" 2>&1 </dev/null &
    PG_PID=$!
    ! pg_await "$port" "$PG_PID" || break
    ((try < 3)) || die "PostgreSQL did not start: $(tail -n 5 -- "$folder/postgres.log")"
  done
  pg_create_database "$folder/password" "$port" callreel
  # shellcheck disable=SC2034  # read by whoever sources this
  PG_URL=$(pg_url "$folder/password" "$port" callreel)
}

# pg_create_database PASSWORD_FILE PORT DATABASE: unless it is there.
pg_create_database() {
  local psql=("$(pg_bin psql)" -X -q -A -t -v ON_ERROR_STOP=1 "$(pg_url "$1" "$2" postgres)")
  [[ $("${psql[@]}" -c "select 1 from pg_database where datname = '$3'") == 1 ]] ||
    "${psql[@]}" -c "create database $3"
}

# Fast shutdown (SIGINT) breaks connections off and loses nothing; SIGQUIT recovers at the next start.
pg_stop() {
  local pid=$1
  kill -INT "$pid" 2>/dev/null || return 0
  wait_until "$PG_STOP_SECONDS" is_gone "$pid" || kill -QUIT "$pid" 2>/dev/null || true
  wait_until "$PG_STOP_SECONDS" is_gone "$pid" || kill -KILL "$pid" 2>/dev/null || true
}

# pg_processes HOME: the server of that cluster, by the folder in its command line: a pid file may be stale, and its
# number may belong to somebody else by now. (/proc/PID/cwd would also show the backends, but in a container even
# root may not read it of another user's process.)
pg_processes() {
  local proc
  for proc in /proc/[0-9]*; do
    if [[ $(cat -- "$proc/comm" 2>/dev/null || true) == postgres ]] && grep -qzxF -- "$1" "$proc/cmdline" 2>/dev/null; then
      echo "${proc#/proc/}"
    fi
  done
}

pg_none_left() { [[ -z $(pg_processes "$1") ]]; }

# pg_end_orphans HOME: ends what an earlier, killed run left behind.
pg_end_orphans() {
  local home=$1 pid
  pg_none_left "$home" && return
  say "ending the PostgreSQL that an earlier run left behind"
  pid=$(head -n 1 -- "$home/postmaster.pid" 2>/dev/null) || pid=""
  [[ -z $pid ]] || ! pg_processes "$home" | grep -qx -- "$pid" || pg_stop "$pid"
  # Backends whose postmaster was killed end by themselves, once they notice.
  wait_until "$PG_STOP_SECONDS" pg_none_left "$home" && return
  pg_processes "$home" | xargs -r kill -KILL
  wait_until "$PG_STOP_SECONDS" pg_none_left "$home" || die "PostgreSQL processes in $home do not end"
}
