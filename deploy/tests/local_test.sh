#!/usr/bin/env bash
# Tests of deploy/local.sh with the real programs, as a debug build. Each runs on a data folder of its own whose
# name has a space, and nothing may be left running afterwards. With names as arguments: only those.
set -euo pipefail

ROOT=$(cd -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/../.." && pwd)
# shellcheck source=../lib/common.sh
. "$ROOT/deploy/lib/common.sh"
# shellcheck source=../lib/postgres.sh
. "$ROOT/deploy/lib/postgres.sh"

TESTS=(
  it_gets_ready_leaves_its_files_and_ends_everything_on_term
  it_refuses_to_start_twice_on_one_folder
  a_port_in_use_is_a_clear_message
  a_wrong_setting_is_one_line
  a_disk_below_its_reserve_is_a_warning
  what_dies_is_started_again
  a_crashed_run_is_survived_and_data_stays
  the_demo_ends_with_the_result
  a_demo_that_is_broken_off_says_so_by_its_exit_code
)
# From the start to `ready`, a first initdb included, on a loaded machine.
START_LIMIT=90
END_LIMIT=90
DEMO_LIMIT=300

main() {
  (($# == 0)) || TESTS=("$@")
  WORK=$(mktemp -d)
  chmod 711 -- "$WORK" # the database's user passes through
  trap clean_up EXIT
  trap 'exit 130' INT TERM HUP
  if [[ -z ${CALLREEL_BIN_DIR:-} ]]; then
    attend env -C "$ROOT" SQLX_OFFLINE=true cargo build -p edge -p worker
    CALLREEL_BIN_DIR=$(cd -- "$ROOT" && cargo metadata --no-deps --format-version 1 | jq -r .target_directory)/debug
  fi
  export CALLREEL_BIN_DIR
  local test failed=0
  for test in "${TESTS[@]}"; do
    DATA="$WORK/data of $test"
    OUT=$WORK/$test.out ERR=$WORK/$test.err RUN=""
    if (trap - EXIT && set -e && "$test"); then
      echo "ok      $test"
    else
      failed=$((failed + 1))
      echo "FAILED  $test"
      show_tail "$OUT"
      show_tail "$ERR"
    fi
    end_run
  done
  ((failed == 0))
}

clean_up() {
  local code=$?
  trap '' INT TERM HUP
  set +e
  end_attended
  end_run
  rm -rf -- "$WORK"
  exit "$code"
}

# --- helpers ---------------------------------------------------------------------------------------------------

# start […]: local.sh in the background, from a strange folder; its number goes to a file, because tests run in
# subshells and it must be ended even when one fails.
start() {
  (cd / && exec setsid "$ROOT/deploy/local.sh" --port 0 --data "$DATA" "$@" >"$OUT" 2>"$ERR") &
  RUN=$!
  echo "$RUN" >"$WORK/run.pid"
}

start_and_wait() {
  : >"$OUT"
  start "$@"
  wait_until "$START_LIMIT" is_ready_or_over
  URL=$(sed -n 's/^ready //p' "$OUT")
  check "it printed where it is ready" [ -n "$URL" ]
}
is_ready_or_over() { grep -q '^ready ' "$OUT" || is_gone "$RUN"; }

stop() {
  kill -TERM "$RUN"
  wait_until "$END_LIMIT" is_gone "$RUN"
  check "it ended with 0" wait "$RUN"
}

# Ends whatever a failed test left, with everything below it.
end_run() {
  local pid
  [[ -s $WORK/run.pid ]] || return 0
  pid=$(<"$WORK/run.pid")
  kill -TERM "$pid" 2>/dev/null || true
  wait_until "$END_LIMIT" is_gone "$pid" || kill -KILL "$pid" || true
  processes_of_data | xargs -r kill -KILL 2>/dev/null || true
  rm -f -- "$WORK/run.pid"
}

processes_of_data() {
  { grep -lzxF -- "CALLREEL_DATA=$DATA" /proc/[0-9]*/environ 2>/dev/null || true; } | cut -d/ -f3
  pg_processes "$(realpath -m -- "$DATA/postgres")"
}
nothing_runs() { [[ -z $(processes_of_data) ]]; }

# check SENTENCE COMMAND…
check() {
  local what=$1
  shift
  "$@" || {
    say "not so: $what"
    exit 1
  }
}

pid_of() { cat -- "$DATA/$1.pid"; }
is_another() { [[ -s $DATA/$1.pid && $(pid_of "$1") != "$2" ]] && ! is_gone "$(pid_of "$1")"; }
answers() { curl -fsS -m 2 -o /dev/null -- "$URL/readyz" 2>/dev/null; }
sql() { "$(pg_bin psql)" -XAtq "$(<"$DATA/database-url")" -c "$1" 2>/dev/null; }

# --- the tests -------------------------------------------------------------------------------------------------

it_gets_ready_leaves_its_files_and_ends_everything_on_term() {
  start_and_wait --workers 2
  local file
  for file in edge.pid worker-1.pid worker-2.pid database-url logs/edge.log logs/worker-1.log logs/postgres.log; do
    check "$file is there" [ -s "$DATA/$file" ]
  done
  check "the secret is closed to others" [ "$(stat -c %a "$DATA/secret")" = 600 ]
  check "the database answers at database-url" [ "$(sql 'select 1')" = 1 ]
  check "fsync is on" [ "$(sql 'show fsync')" = on ]
  check "the edge answers" answers
  stop
  check "nothing is left running" nothing_runs
  check "the pid file is gone" [ ! -e "$DATA/edge.pid" ]
}

it_refuses_to_start_twice_on_one_folder() {
  start_and_wait
  local second=0
  "$ROOT/deploy/local.sh" --port 0 --data "$DATA" >"$OUT.2" 2>"$ERR.2" || second=$?
  check "the second start failed" [ "$second" -ne 0 ]
  check "it names the first" grep -q "already running on .*(pid $RUN)" "$ERR.2"
  check "the first goes on" answers
  stop
}

a_port_in_use_is_a_clear_message() {
  start_and_wait
  local second=0 port=${URL##*:}
  "$ROOT/deploy/local.sh" --port "$port" --data "$DATA other" >"$OUT.2" 2>"$ERR.2" || second=$?
  check "the second start failed" [ "$second" -ne 0 ]
  check "it names the port" grep -q "port $port is in use" "$ERR.2"
  stop
}

a_wrong_setting_is_one_line() {
  local setting
  mkdir -p -- "$DATA"
  : >"$DATA/file"
  for setting in METRICS_PORT=x WORKER_CONCURRENCY=0 WORKER_QUEUES=odd RUST_LOG=nolevel RECORDING_MAX_DURATION=0 \
    "CAPTURE_DIR=$DATA/file" "SPOOL_URL=$DATA/file" "RECORDING_OUTPUT_DIR=$DATA/file" PUBLIC_URL=$'\xff'; do
    (export "${setting?}" && exec "$ROOT/deploy/local.sh" --port 0 --data "$DATA" >"$OUT" 2>"$ERR") && exit 1
    check "$setting is named once" [ "$(grep -c "error: ${setting%%=*} wants " "$ERR")" = 1 ]
    check "$setting did not get ready" [ ! -s "$OUT" ]
    check "nothing is left running" nothing_runs
  done
}

a_disk_below_its_reserve_is_a_warning() {
  DISK_RESERVE=999999GiB start_and_wait
  check "it says so" [ "$(grep -c 'warning: the disk of .* is below its reserve' "$ERR")" = 1 ]
  check "its log says so" grep -q 'readyz answered 503.*disk: below its reserve' "$DATA/logs/edge.log"
  check "it serves" curl -fsS -o /dev/null "$URL/healthz"
  stop
}

what_dies_is_started_again() {
  start_and_wait
  local edge worker postgres
  edge=$(pid_of edge) worker=$(pid_of worker-1) postgres=$(head -n 1 "$DATA/postgres/postmaster.pid")
  kill -KILL "$edge" "$worker"
  check "the edge is started again" wait_until "$START_LIMIT" is_another edge "$edge"
  check "the worker is started again" wait_until "$START_LIMIT" is_another worker-1 "$worker"
  check "the edge answers again" wait_until "$START_LIMIT" answers
  kill -KILL "$postgres"
  check "the database answers again" wait_until "$START_LIMIT" sql 'select 1' >/dev/null
  check "it is a new one" [ "$(head -n 1 "$DATA/postgres/postmaster.pid")" != "$postgres" ]
  check "and so does the edge" wait_until "$START_LIMIT" answers
  stop
}

a_crashed_run_is_survived_and_data_stays() {
  start_and_wait
  local edge secret
  edge=$(pid_of edge) secret=$(<"$DATA/secret")
  sql 'create table kept (n int)'
  kill -KILL "$RUN"
  wait "$RUN" || true
  check "the edge outlived its supervisor" kill -0 "$edge"
  start_and_wait
  check "the old edge was ended" is_gone "$edge"
  check "the database kept its tables" [ "$(sql 'select count(*) from kept')" = 0 ]
  check "the secret is the same" [ "$(<"$DATA/secret")" = "$secret" ]
  check "the edge answers" answers
  stop
  check "nothing is left running" nothing_runs
}

the_demo_ends_with_the_result() {
  start --demo
  check "it ends" wait_until "$DEMO_LIMIT" is_gone "$RUN"
  check "it ended with 0" wait "$RUN"
  local last recording
  last=$(tail -n 7 "$OUT")
  check "the lines are as promised" [ "$(cut -d' ' -f1 <<<"$last" | xargs)" = \
    "recording duration thumbnail thumbnail thumbnail thumbnail thumbnail" ]
  recording=$(sed -n 's/^recording //p' <<<"$last")
  check "the recording plays" ffmpeg -nostdin -v error -xerror -i "$recording" -f null -
  local duration
  duration=$(sed -n 's/^duration //p' <<<"$last")
  check "it is about ten seconds" test "$duration" -gt 9500 -a "$duration" -lt 10500
  check "nothing is left running" nothing_runs
}

a_demo_that_is_broken_off_says_so_by_its_exit_code() {
  start_and_wait --demo
  local code=0
  kill -TERM "$RUN"
  check "it ends" wait_until "$END_LIMIT" is_gone "$RUN"
  wait "$RUN" || code=$?
  check "its exit code is that of an interruption" [ "$code" = 130 ]
  check "nothing is left running" nothing_runs
}

main "$@"
