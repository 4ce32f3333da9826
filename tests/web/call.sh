#!/usr/bin/env bash
# The call with real browsers, against a product started for it in FOLDER.
#   tests/web/call.sh FOLDER [TEST…]      CALLREEL_BIN_DIR: where edge and worker are built
set -euo pipefail

HERE=$(cd -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")" && pwd)
FOLDER=$1
# The database is another user, who passes through it.
[[ -d $FOLDER ]] || mkdir -m 711 -- "$FOLDER"
shift

main() {
  : >"$FOLDER/out"
  # A port for media that the system gives: other edges may run on this machine.
  # A STUN server that nobody runs: it is told, and not needed.
  WEBRTC_ICE_SERVERS=${WEBRTC_ICE_SERVERS:-'[{"urls": "stun:127.0.0.1:9"}]'} \
    WEBRTC_UDP_PORT=${WEBRTC_UDP_PORT:-0} "$HERE/../../deploy/local.sh" --port 0 --data "$FOLDER/data" >"$FOLDER/out" 2>&1 &
  PRODUCT=$!
  trap 'kill "$PRODUCT" 2>/dev/null && wait "$PRODUCT" 2>/dev/null || true' EXIT
  local url tests=("$@")
  url=$(ready "$PRODUCT")
  cd -- "$HERE"
  (($#)) || tests=(call/*.test.mjs)
  CALLREEL_URL=$url CALLREEL_DATA=$FOLDER/data node --test --test-reporter=spec --test-concurrency=1 "${tests[@]}"
}

# ready PID: the address that the product prints when calls can be made. `tail` ends with the product, and so does the wait.
ready() {
  local word address
  while read -r word address; do
    [[ $word != ready ]] || { printf '%s\n' "$address" && return; }
  done < <(tail -n +1 -f --pid="$1" "$FOLDER/out")
  cat "$FOLDER/out" >&2
  printf 'the product did not start\n' >&2
  exit 1
}

main "$@"
