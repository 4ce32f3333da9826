#!/usr/bin/env bash
# The call through a TURN server (coturn), against a product in a network namespace of its own, with its data in FOLDER. First the
# namespace is open; then it lets no media in, neither UDP nor TCP, as the network of many a hosting platform.
#   tests/web/relay.sh FOLDER      CALLREEL_BIN_DIR: where edge and worker are built
# Needs root for the namespace, or sudo.
set -euo pipefail

HERE=$(cd -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")" && pwd)
# shellcheck source=../../deploy/lib/common.sh
. "$HERE/../../deploy/lib/common.sh"
FOLDER=$1
SPACE=callreel-$$
# Addresses of the range that RFC 2544 keeps for tests of networks; the last byte tells the two ends apart.
NET=198.18.$((RANDOM % 256))
OUTSIDE=$NET.1 INSIDE=$NET.2
# Each media thread has an address of its own at the server.
THREADS=2
PRODUCT="" TURN_PORT=$(free_port) PORT=8080
SECRET=$(printf '%04x%04x%04x%04x%04x%04x%04x%04x' $RANDOM $RANDOM $RANDOM $RANDOM $RANDOM $RANDOM $RANDOM $RANDOM)

main() {
  trap clean_up EXIT
  trap 'exit 130' INT TERM HUP
  make_space
  write_coturn
  write_close
  start_product
  # The server is started by the tests, as one of them ends it in between.
  export CALLREEL_URL=http://$INSIDE:$PORT CALLREEL_DATA=$FOLDER/data CALLREEL_JWT_SECRET=$SECRET
  export CALLREEL_COTURN=$FOLDER/coturn CALLREEL_CLOSE=$FOLDER/close CALLREEL_TURN_IP=$OUTSIDE CALLREEL_THREADS=$THREADS
  cd -- "$HERE"
  node --test --test-reporter=spec call/relay/relay.test.mjs
}

# Two ends of a cable: one in the namespace, one here.
make_space() {
  as_root ip netns add "$SPACE"
  as_root ip link add "cr$$o" type veth peer name "cr$$i" netns "$SPACE"
  as_root ip addr add "$OUTSIDE/24" dev "cr$$o"
  as_root ip link set "cr$$o" up
  inside ip addr add "$INSIDE/24" dev "cr$$i"
  inside ip link set "cr$$i" up
  inside ip link set lo up
}

inside() { as_root ip netns exec "$SPACE" "$@"; }

# A program of the tests, which closes the namespace. Comes in: the API, and answers. Goes out: what is asked of the TURN server; other
# datagrams would make ways in, as answers to them do not differ from what clients send by themselves.
write_close() {
  cat >"$FOLDER/close" <<END
#!/usr/bin/env bash
. "$HERE/../../deploy/lib/common.sh"
as_root ip netns exec $SPACE nft -f - <<RULES
table inet callreel {
  chain in {
    type filter hook input priority 0; policy drop;
    iif lo accept
    ct state established,related accept
    tcp dport $PORT accept
    meta l4proto { icmp, ipv6-icmp } accept
  }
  chain out {
    type filter hook output priority 0; policy accept;
    oif lo accept
    ip daddr $OUTSIDE udp dport $TURN_PORT accept
    meta l4proto udp drop
  }
}
RULES
END
  chmod +x "$FOLDER/close"
}

# A program of the tests: the server, in the foreground, with its log on stdout.
write_coturn() {
  cat >"$FOLDER/coturn" <<END
#!/bin/sh
exec turnserver -n --log-file=stdout --listening-ip=$OUTSIDE --listening-port=$TURN_PORT --relay-ip=$OUTSIDE \\
  --no-cli --no-tls --no-dtls --no-tcp --use-auth-secret --static-auth-secret=$SECRET --realm=callreel.test \\
  --pidfile=$FOLDER/coturn.pid --userdb=$FOLDER/coturn.db
END
  chmod +x "$FOLDER/coturn"
}

# As whoever runs this, who reads the files; local.sh and the database want to reach each other by the loopback of the namespace.
start_product() {
  local word root=()
  # A signal to it reaches the product. It must not ask for a password, which nobody can give here.
  ((EUID == 0)) || root=(sudo -n)
  : >"$FOLDER/out"
  # Not through a function: its shell would stand between a signal and the product.
  "${root[@]}" ip netns exec "$SPACE" setpriv --reuid "$UID" --regid "$(id -g)" --init-groups \
    env "PATH=$PATH" "HOME=$HOME" CALLREEL_BIN_DIR="${CALLREEL_BIN_DIR:-}" PUBLIC_URL="http://$INSIDE:$PORT" \
    JWT_SECRET="$SECRET" WEBRTC_UDP_PORT=10000 WEBRTC_THREADS="$THREADS" WEBRTC_TURN_SERVER_URL="turn:$OUTSIDE:$TURN_PORT" WEBRTC_TURN_SECRET="$SECRET" \
    "$HERE/../../deploy/local.sh" --port "$PORT" --data "$FOLDER/data" >"$FOLDER/out" 2>&1 &
  PRODUCT=$!
  while read -r word _; do
    [[ $word != ready ]] || return 0
  done < <(tail -n +1 -f --pid="$PRODUCT" "$FOLDER/out")
  cat "$FOLDER/out" >&2
  die "the product did not start"
}

clean_up() {
  local code=$?
  trap '' INT TERM HUP
  set +e
  if [[ -n $PRODUCT ]]; then
    as_root kill "$PRODUCT" 2>/dev/null
    wait "$PRODUCT" 2>/dev/null
  fi
  as_root ip link delete "cr$$o" 2>/dev/null
  as_root ip netns delete "$SPACE" 2>/dev/null
  exit "$code"
}

main
