# shellcheck shell=bash
# What every script here needs: talking, waiting with a bound, ports, and long commands that a signal can end.
# Sourced, never run. It knows nothing of Callreel's programs.

# Without it, a failure inside $(…) is not one outside.
shopt -s inherit_errexit

# People read stderr; stdout is kept for what tools read (`ready …`, `recording …`).
say() { printf '%s\n' "callreel: $*" >&2; }

die() {
  printf '%s\n' "callreel: error: $*" >&2
  exit 1
}

# as_root COMMAND…: directly, or through sudo when that is there.
as_root() {
  if ((EUID == 0)); then
    "$@"
  elif command -v sudo >/dev/null; then
    sudo "$@"
  else
    die "this needs root and there is no sudo; run it as root:  $*"
  fi
}

# wait_until SECONDS COMMAND…: tries the command until it succeeds; 1 when the time is over.
wait_until() {
  local deadline=$((SECONDS + $1))
  shift
  until "$@"; do
    ((SECONDS < deadline)) || return 1
    sleep 0.1
  done
}

is_gone() { ! kill -0 "$1" 2>/dev/null; }

# The process group of the command that `attend` runs at this moment, so that a trap can end it.
ATTENDED=""

# attend COMMAND…: runs a long command in the foreground's place, but so that our traps run at once: bash holds
# traps back while it waits for a foreground command, and a compiler takes minutes. Its own session, so that the
# whole tree can be ended. Descriptor 9 is the lock of the data folder: a build daemon must not inherit it.
attend() {
  local code=0
  setsid "$@" </dev/null 9>&- &
  ATTENDED=$!
  wait "$ATTENDED" || code=$?
  ATTENDED=""
  return "$code"
}

# How long the attended command may take to clean up after a TERM.
END_ATTENDED_SECONDS=60
end_attended() {
  [[ -n $ATTENDED ]] || return 0
  kill -TERM -- "-$ATTENDED" 2>/dev/null || true
  wait_until "$END_ATTENDED_SECONDS" is_gone "$ATTENDED" || kill -KILL -- "-$ATTENDED" 2>/dev/null || true
}

# port_in_use PORT: does anything listen on it, on any address? Read from the kernel: a connection attempt would
# miss a listener on another address, and `ss` is not on every machine.
port_in_use() {
  local hex tables=()
  printf -v hex '%04X' "$1"
  [[ ! -r /proc/net/tcp ]] || tables+=(/proc/net/tcp)
  [[ ! -r /proc/net/tcp6 ]] || tables+=(/proc/net/tcp6)
  ((${#tables[@]})) || return 1
  # Column 2 is the local address, column 4 the state; 0A is LISTEN.
  awk -v port=":$hex" '$4 == "0A" && substr($2, length($2) - 4) == port { found = 1 } END { exit !found }' "${tables[@]}"
}

# A free port below the range that outgoing connections take theirs from (32768 on Linux), so that none of those
# can take it while its owner is being restarted.
free_port() {
  local port tries
  for ((tries = 0; tries < 200; tries++)); do
    port=$((20000 + RANDOM % 12000))
    if ! port_in_use "$port"; then
      echo "$port"
      return
    fi
  done
  die "found no free port between 20000 and 32000"
}

random_secret() { head -c 32 /dev/urandom | sha256sum | cut -c1-64; }

# rotate FILE: keeps the logs of the last run beside the new one, and no more.
rotate() {
  [[ ! -s $1 ]] || mv -f -- "$1" "$1.1"
  : >>"$1"
}

show_tail() {
  [[ -s $1 ]] || return 0
  printf '%s\n' "--- last lines of $1" >&2
  tail -n 20 -- "$1" >&2
}
