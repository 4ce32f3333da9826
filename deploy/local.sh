#!/usr/bin/env bash
# Runs all of Callreel on this machine: builds it, a private PostgreSQL, the edge and the workers, under one
# supervisor, which is this script. See usage() below. The parts are in deploy/lib.
set -euo pipefail

ROOT=$(cd -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/.." && pwd)
# shellcheck source=lib/common.sh
. "$ROOT/deploy/lib/common.sh"
# shellcheck source=lib/install.sh
. "$ROOT/deploy/lib/install.sh"
# shellcheck source=lib/postgres.sh
. "$ROOT/deploy/lib/postgres.sh"
# shellcheck source=lib/supervise.sh
. "$ROOT/deploy/lib/supervise.sh"

usage() {
  cat <<'END'
usage: deploy/local.sh [--port 8080] [--data data] [--workers 1] [--demo]

Installs what is missing (PostgreSQL, FFmpeg), builds Callreel, and runs it on this machine until Ctrl-C.

  --port N      where the edge listens; 0 takes any free port           (default: PORT, else 8080)
  --data DIR    everything that is kept: database, recordings, logs      (default: data)
  --workers N   how many workers                                         (default: 1)
  --demo        records ten seconds through the running stack, prints the result, and ends
  --help        this

Prints `ready http://127.0.0.1:PORT` when edge and workers are up. Leaves in DIR: edge.pid, worker-N.pid, database-url, logs/.
The variables of deploy/env.example pass through to edge and workers. Two more, for this script:
  DATABASE_URL       use that PostgreSQL instead of a private one
  CALLREEL_BIN_DIR   run the `edge` and `worker` of that folder instead of building
END
}

# The exit code of edge and worker when a setting is missing or wrong.
WRONG_SETTINGS=78
# The edge answers within a second or so; a database that recovers, or a very slow disk, may need the rest.
READY_SECONDS=90
# Dying so often before it was ever ready is not a crash but a mistake, in a setting for instance.
DEATHS_BEFORE_READY=3
# What the programs take at most to end by themselves when SHUTDOWN_GRACE is not set, and what is added to it so
# that their own deadline comes first.
DEFAULT_GRACE=30
GRACE_MARGIN=5

main() {
  read_arguments "$@"
  install_tools
  take_folder
  clear_earlier_run
  check_port
  check_metrics_port
  build
  settings
  [[ -n ${EXTERNAL_DATABASE:-} ]] || start_postgres
  migrate
  start_services
  supervise
}

read_arguments() {
  PORT=${PORT:-8080} DATA=data WORKERS=1 DEMO=no
  while (($#)); do
    case $1 in
      --port | --data | --workers)
        (($# > 1)) || die "$1 wants a value (see --help)"
        case $1 in
          --port) PORT=$2 ;;
          --data) DATA=$2 ;;
          --workers) WORKERS=$2 ;;
        esac
        shift 2
        ;;
      --demo) DEMO=yes && shift ;;
      -h | --help) usage && exit 0 ;;
      *) die "unknown argument: $1 (see --help)" ;;
    esac
  done
  if [[ ! $PORT =~ ^[0-9]{1,5}$ ]] || ((10#$PORT > 65535)); then die "--port wants a number up to 65535, not: $PORT"; fi
  if [[ ! $WORKERS =~ ^[0-9]{1,3}$ ]] || ((10#$WORKERS < 1)); then die "--workers wants a number from 1, not: $WORKERS"; fi
  PORT=$((10#$PORT)) WORKERS=$((10#$WORKERS))
  [[ -n $DATA ]] || die "--data wants a folder"
  DATA=$(realpath -m -- "$DATA")
}

install_tools() {
  need curl curl "asks the edge whether it is ready"
  need ffmpeg ffmpeg "the workers make files and thumbnails with it"
  need ffprobe ffmpeg "the workers look at finished files with it"
  [[ -n ${DATABASE_URL:-} ]] || need_postgres
  [[ $DEMO == no ]] || need jq jq "the demonstration reads the API's answers"
  [[ -n ${CALLREEL_BIN_DIR:-} ]] || need_cargo
  install_missing
}

# --- the data folder -------------------------------------------------------------------------------------------

# Two on one folder would write one database's files and one capture twice. The lock is the kernel's: it goes with
# this process, however that ends.
take_folder() {
  # The database's user has to pass through (not to look around); what is inside is closed to others.
  [[ -d $DATA ]] || (umask 022 && mkdir -p -- "$DATA" && chmod 711 -- "$DATA")
  [[ -w $DATA ]] || die "cannot write to $DATA"
  exec 9<>"$DATA/lock"
  if ! flock -n 9; then
    wait_until 2 test -s "$DATA/lock" || true # its owner may be just about to write its number
    die "already running on $DATA (pid $(tr -dc 0-9 <"$DATA/lock"))"
  fi
  : >"$DATA/lock"
  echo "$$" >&9
  trap end_all EXIT
  trap interrupted INT TERM HUP
  umask 077
  LOGS=$DATA/logs
  mkdir -p -- "$LOGS"
}

# To be told to end is how this ends, but a demonstration that is broken off has shown nothing.
interrupted() {
  [[ $DEMO == no ]] || exit 130
  exit 0
}

clear_earlier_run() {
  end_strays "$(grace)"
  [[ ! -e $DATA/postgres/PG_VERSION ]] || pg_end_orphans "$(realpath -- "$DATA/postgres")"
  rm -f -- "$DATA"/edge.pid "$DATA"/worker-*.pid "$DATA"/worker-*.metrics-port
}

check_port() {
  ((PORT)) || PORT=$(free_port)
  if port_in_use "$PORT"; then
    ! command -v ss >/dev/null || ss -Hltnp "sport = :$PORT" >&2 || true
    die "port $PORT is in use by another program; end it, or give another port with --port"
  fi
}

# Each worker has a port of its own, counted from this one; what is no port must not reach the arithmetic.
check_metrics_port() {
  FIRST_METRICS_PORT=${METRICS_PORT:-}
  [[ -n $FIRST_METRICS_PORT ]] || return 0
  if [[ ! $FIRST_METRICS_PORT =~ ^[0-9]{1,5}$ ]] || ((10#$FIRST_METRICS_PORT + WORKERS - 1 > 65535)); then
    die "METRICS_PORT wants a port number, with room for $WORKERS workers"
  fi
  FIRST_METRICS_PORT=$((10#$FIRST_METRICS_PORT))
  # Any free one, as with --port 0.
  ((FIRST_METRICS_PORT)) || FIRST_METRICS_PORT=""
}

# --- build and settings ----------------------------------------------------------------------------------------

build() {
  BIN=${CALLREEL_BIN_DIR:-}
  if [[ -z $BIN ]]; then
    say "building edge and worker (release); the first time takes some minutes"
    # Queries are checked against .sqlx, not against whatever DATABASE_URL names.
    attend env -C "$ROOT" SQLX_OFFLINE=true cargo build --release -p edge -p worker >&2 || die "the build failed"
    BIN=$(target_folder)/release
  fi
  BIN=$(realpath -- "$BIN")
  local program
  for program in edge worker; do
    [[ -x $BIN/$program ]] || die "there is no program $program in $BIN"
  done
}

# Cargo's own answer, because a configuration file anywhere above may have moved it.
target_folder() {
  cd -- "$ROOT"
  cargo metadata --no-deps --format-version 1 9>&- | sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p'
}

# Whatever the caller has set stays; the rest is what one machine needs. Paths are made absolute because the
# programs do not run in the caller's folder.
settings() {
  export CAPTURE_DIR SPOOL_URL RECORDING_OUTPUT_DIR SCRATCH_DIR
  CAPTURE_DIR=$(realpath -m -- "${CAPTURE_DIR:-$DATA/capture}")
  RECORDING_OUTPUT_DIR=$(realpath -m -- "${RECORDING_OUTPUT_DIR:-$DATA/recordings}")
  SCRATCH_DIR=$(realpath -m -- "${SCRATCH_DIR:-$DATA/scratch}")
  SPOOL_URL=${SPOOL_URL:-$DATA/spool}
  [[ $SPOOL_URL == *://* ]] || SPOOL_URL=$(realpath -m -- "$SPOOL_URL")
  mkdir -p -- "$SCRATCH_DIR" # the programs make the others, and say which variable names one that they cannot use
  export RECORDING_STORAGE_PROVIDER=${RECORDING_STORAGE_PROVIDER:-local} LOG_FORMAT=${LOG_FORMAT:-text}
  export PUBLIC_URL=${PUBLIC_URL:-http://127.0.0.1:$PORT}
  # Any free ports: on one machine nobody opens a firewall for them, and several of these run side by side.
  export WEBRTC_UDP_PORT=${WEBRTC_UDP_PORT:-0}
  EXTERNAL_DATABASE=${DATABASE_URL:-}
  sign_in_settings
}

# The development login needs a secret to sign with, and exists on this machine only.
sign_in_settings() {
  local dev=0
  if [[ -z ${JWT_SECRET:-}${JWT_PUBLIC_KEY:-}${JWT_JWKS_URL:-} ]]; then
    keep_secret "$DATA/secret"
    JWT_SECRET=$(<"$DATA/secret")
    export JWT_SECRET
  fi
  if [[ -n ${JWT_SECRET:-} && $PUBLIC_URL =~ ^https?://(127\.[0-9.]+|localhost|\[::1\])(:|/|$) ]]; then dev=1; fi
  export DEV_LOGIN=${DEV_LOGIN:-$dev}
}

# keep_secret FILE: makes it once, whole or not at all.
keep_secret() {
  [[ ! -s $1 ]] || return 0
  random_secret >"$1.new"
  mv -f -- "$1.new" "$1"
}

# In whole seconds, from 30, 30s or 2m.
grace() {
  local value=${SHUTDOWN_GRACE:-$DEFAULT_GRACE}
  case $value in
    *[!0-9]m | *[!0-9]s) value=$DEFAULT_GRACE ;;
    *m) value=$((${value%m} * 60)) ;;
    *) value=${value%s} ;;
  esac
  [[ $value =~ ^[0-9]+$ ]] || value=$DEFAULT_GRACE
  echo $((10#$value + GRACE_MARGIN))
}

# --- what runs -------------------------------------------------------------------------------------------------

start_postgres() {
  keep_secret "$DATA/postgres.password"
  pg_choose_user
  PG_HOME=$(pg_make "$DATA/postgres" "$DATA/postgres.password")
  rotate "$LOGS/postgres.log"
  PG_PORT=$(cat -- "$DATA/postgres.port" 2>/dev/null) || PG_PORT=""
  # The port of the last run when it is still free, so that a tool's notes stay true.
  if [[ ! $PG_PORT =~ ^[0-9]+$ ]] || port_in_use "$PG_PORT"; then PG_PORT=$(free_port); fi
  echo "$PG_PORT" >"$DATA/postgres.port"
  start_service postgres
  if ! pg_await "$PG_PORT" "${PID_OF[postgres]}"; then
    show_tail "$LOGS/postgres.log"
    die "the private PostgreSQL did not start"
  fi
  pg_create_database "$DATA/postgres.password" "$PG_PORT" callreel || die "could not make the database"
  DATABASE_URL=$(pg_url "$DATA/postgres.password" "$PG_PORT" callreel)
}

migrate() {
  export DATABASE_URL
  (printf '%s\n' "$DATABASE_URL" >"$DATA/database-url")
  say "migrating the database"
  rotate "$LOGS/migrate.log"
  local code=0
  attend env -C / "CALLREEL_DATA=$DATA" "$BIN/worker" migrate >>"$LOGS/migrate.log" 2>&1 || code=$?
  ((code)) || return 0
  ((code != WRONG_SETTINGS)) || die_of_settings migrate
  show_tail "$LOGS/migrate.log"
  die "the migration failed"
}

start_services() {
  local n
  SERVICES=(edge)
  for ((n = 1; n <= WORKERS; n++)); do SERVICES+=("worker-$n"); done
  for n in "${SERVICES[@]}"; do
    rotate "$LOGS/$n.log"
    start_service "$n"
  done
  IS_READY=no
  help_with ready wait_until "$READY_SECONDS" all_up
}

# Calls can be made, and what is recorded becomes a file. Below the disk's reserve only the first is not so; but then
# people must be able to download and to delete, and an operator to see why.
all_up() {
  local n
  [[ $(why_not_ready) == "" || $(why_not_ready) == "$DISK_FULL" ]] || return 1
  for ((n = 1; n <= WORKERS; n++)); do worker_is_up "$n" || return 1; done
}

# A worker serves its metrics from when it takes jobs until it ends. Its process is looked at as well, because somebody
# else's program may answer on its port.
worker_is_up() {
  ! is_gone "$(<"$DATA/worker-$1.pid")" && answers "http://127.0.0.1:$(<"$DATA/worker-$1.metrics-port")/healthz"
}

# What keeps the edge from work, in its own words; nothing when it is ready.
DISK_FULL="disk: below its reserve"
why_not_ready() {
  local told
  told=$(curl -sS -m 5 -w '\n%{http_code}' -- "http://127.0.0.1:$PORT/readyz" 2>/dev/null) || { echo "no answer" && return; }
  [[ ${told##*$'\n'} != 200 ]] || return 0
  sed -n 's/.*"detail":"\([^"]*\)".*/\1/p' <<<"$told"
}

answers() { curl -fsS -m 2 -o /dev/null -- "$1" 2>/dev/null; }

# Tells the supervisor not to start a service again: its settings are wrong, and it has said which.
is_final() { (($2 == WRONG_SETTINGS)) && [[ $1 != postgres ]]; }
on_final() { die_of_settings "$1"; }

# die_of_settings NAME: with the line that the program ended with.
die_of_settings() { die "$(tail -n 1 -- "$LOGS/$1.log")"; }

# start_service NAME: what the supervisor calls, for the first time and after each death.
start_service() {
  local name=$1 n=${1#worker-}
  if [[ ${IS_READY:-} == no ]] && ((${DEATHS[$name]:-0} >= DEATHS_BEFORE_READY)); then
    show_tail "$LOGS/$name.log"
    die "$name does not start"
  fi
  case $name in
    postgres)
      pg_command "$PG_HOME" "$PG_PORT"
      spawn postgres "${PG_COMMAND[@]}"
      ;;
    edge) spawn edge env PORT="$PORT" "$BIN/edge" ;;
    worker-*)
      mkdir -p -- "$SCRATCH_DIR/$name"
      spawn "$name" env -u PORT METRICS_PORT="$(metrics_port "$n")" SCRATCH_DIR="$SCRATCH_DIR/$name" "$BIN/worker" run
      ;;
  esac
}

# Each worker has its own; the same one again after a restart, so that a scraper finds it.
metrics_port() {
  local file=$DATA/worker-$1.metrics-port
  if [[ -n $FIRST_METRICS_PORT ]]; then
    echo $((FIRST_METRICS_PORT + $1 - 1)) >"$file"
  elif [[ ! -s $file ]]; then
    free_port >"$file"
  fi
  cat -- "$file"
}

on_helper() {
  local name=$1 code=$2
  case $name in
    ready) if ((code == 0)); then tell_ready; else give_up; fi ;;
    demo) exit "$code" ;;
  esac
}

tell_ready() {
  IS_READY=yes
  [[ $(why_not_ready) != "$DISK_FULL" ]] || say "warning: the disk of $CAPTURE_DIR is below its reserve (DISK_RESERVE): nothing new is recorded until there is room"
  local url=http://127.0.0.1:$PORT
  echo "ready $url"
  if [[ $DEV_LOGIN == 1 ]]; then
    say "sign in at $url with any user name (development login), or get a token with"
    say "  curl -s $url/dev/token -H 'content-type: application/json' -d '{\"userId\":\"ada\"}'"
  else
    say "the development login is off; sign in with a token signed by your own key"
  fi
  say "data and logs in $DATA; Ctrl-C ends"
  [[ $DEMO == no ]] || help_with demo demo
}

# Its result is printed when all has ended, so that these are the last lines. In its own session like the others,
# so that it can be ended with its FFmpeg.
demo() {
  exec env "CALLREEL_DATA=$DATA" setsid "$ROOT/deploy/demo.sh" "http://127.0.0.1:$PORT" "$RECORDING_OUTPUT_DIR" >"$DATA/demo.out"
}

give_up() {
  local name
  say "the edge says: $(why_not_ready)"
  for name in "${SERVICES[@]}"; do show_tail "$LOGS/$name.log"; done
  die "not ready within $READY_SECONDS s"
}

# --- the end ---------------------------------------------------------------------------------------------------

# Edge and workers first and together, the database after everything that uses it.
end_all() {
  local code=$?
  trap '' INT TERM HUP
  set +e
  end_attended
  end_helpers
  if ((${#SERVICES[@]})); then
    say "ending edge and workers"
    end_services "$(grace)" "${SERVICES[@]}" || code=1
  fi
  end_strays "$GRACE_MARGIN"
  [[ -z ${PID_OF[postgres]:-} ]] || pg_stop "${PID_OF[postgres]}"
  : >"$DATA/lock"
  if [[ $DEMO == yes && -s $DATA/demo.out ]]; then cat -- "$DATA/demo.out"; fi
  rm -f -- "$DATA/demo.out"
  exit "$code"
}
SERVICES=()

main "$@"
