#!/usr/bin/env bash
# The call over networks that are not the usual one, against a product in a network namespace of its own, with its data in FOLDER:
# without UDP, over IPv6 alone, from an address that changes; then through a TURN server (coturn), while the namespace is open, and
# while it lets no media in, neither UDP nor TCP, as the network of many a hosting platform.
#   tests/web/relay.sh FOLDER [TEST…]      CALLREEL_BIN_DIR: where edge and worker are built
# Needs root for the namespace, or sudo.
set -euo pipefail

HERE=$(cd -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")" && pwd)
# shellcheck source=../../deploy/lib/common.sh
. "$HERE/../../deploy/lib/common.sh"
FOLDER=$1
# The database is another user, who passes through it.
[[ -d $FOLDER ]] || mkdir -m 711 -- "$FOLDER"
SPACE=callreel-$$
# Addresses of the range that RFC 2544 keeps for tests of networks, and local ones of IPv6 (RFC 4193). Of two cables the last byte tells
# the ends apart; one of them leads to the product, which has an address of its own.
NUMBER=$((RANDOM % 256))
OUTSIDE=198.18.$NUMBER.1 VIA=198.18.$NUMBER.2
OUTSIDE_MOVED=198.19.$NUMBER.1 VIA_MOVED=198.19.$NUMBER.2
INSIDE=198.18.$NUMBER.129
NET6=fd00:ca11:$(printf '%x' "$NUMBER")
OUTSIDE6=$NET6::1 VIA6=$NET6::2 INSIDE6=$NET6:1::1
# Each media thread has an address of its own at the server.
THREADS=2
PRODUCT="" TURN_PORT=$(free_port) PORT=8080
SECRET=$(printf '%04x%04x%04x%04x%04x%04x%04x%04x' $RANDOM $RANDOM $RANDOM $RANDOM $RANDOM $RANDOM $RANDOM $RANDOM)

main() {
  trap clean_up EXIT
  trap 'exit 130' INT TERM HUP
  write_coturn
  write_net
  make_space
  start_product
  # The server is started by the tests, as one of them ends it in between.
  export CALLREEL_URL=http://$INSIDE:$PORT CALLREEL_DATA=$FOLDER/data CALLREEL_JWT_SECRET=$SECRET
  export CALLREEL_COTURN=$FOLDER/coturn CALLREEL_NET=$FOLDER/net CALLREEL_TURN_IP=$OUTSIDE CALLREEL_THREADS=$THREADS
  export CALLREEL_IP6=$INSIDE6 CALLREEL_OUTSIDE_MOVED=$OUTSIDE_MOVED
  cd -- "$HERE"
  local tests=("${@:2}")
  ((${#tests[@]})) || tests=(call/relay/*.test.mjs)
  node --test --test-reporter=spec --test-concurrency=1 "${tests[@]}"
}

# Two cables, each with an end in the namespace and one here.
make_space() {
  as_root ip netns add "$SPACE"
  lay o i "$OUTSIDE/24" "$VIA/24"
  lay p q "$OUTSIDE_MOVED/24" "$VIA_MOVED/24"
  inside ip link set lo up
  inside ip addr add "$INSIDE/32" dev lo
  inside ip addr add "$INSIDE6/128" dev lo
  inside ip addr add "$VIA6/64" dev "cr$$i" nodad
  "$FOLDER/net" back
}

# lay HERE THERE ADDRESS ADDRESS
lay() {
  as_root ip link add "cr$$$1" type veth peer name "cr$$$2" netns "$SPACE"
  as_root ip addr add "$3" dev "cr$$$1"
  inside ip addr add "$4" dev "cr$$$2"
  inside ip link set "cr$$$2" up
}

inside() { as_root ip netns exec "$SPACE" "$@"; }

# A program of the tests, which changes the network. It lets through everything (open), no UDP (tcp), no media over IPv4 (ipv6), or no
# media at all (closed): then comes in the API, and answers; and goes out what is asked of the TURN server. Other datagrams would make ways
# in, as answers to them do not differ from what clients send by themselves. Who is here is behind the other cable from `moved` on.
write_net() {
  cat >"$FOLDER/net" <<END
#!/usr/bin/env bash
set -euo pipefail
. "$HERE/../../deploy/lib/common.sh"
inside() { as_root ip netns exec $SPACE "\$@"; }
rules() { inside nft -f -; }
# A Firefox that does not tell its addresses has only the one of this machine's way to the world.
answer_the_world() {
  inside ip route replace default via $OUTSIDE
  inside ip -6 route replace default via $OUTSIDE6
}
# Routes are gone with their cable, and addresses of IPv6.
plug() {
  as_root ip link set "cr$$\$1" up
  as_root ip route replace $INSIDE via "\$2"
  as_root ip link set "cr$$\$3" down
}
rules <<<"add table inet callreel; delete table inet callreel"
for family in -4 -6; do inside ip "\$family" route flush default; done
case \$1 in
  open) ;;
  tcp)
    answer_the_world
    rules <<<"table inet callreel { chain in { type filter hook input priority 0; iif lo accept; meta l4proto udp drop; }; }"
    ;;
  ipv6)
    answer_the_world
    rules <<<"table inet callreel { chain in { type filter hook input priority 0; iif lo accept; tcp dport $PORT accept; meta nfproto ipv4 drop; }; }"
    ;;
  moved) plug p $VIA_MOVED o ;;
  back)
    plug o $VIA p
    as_root ip addr replace "$OUTSIDE6/64" dev "cr$$o" nodad
    as_root ip route replace "$INSIDE6" via "$VIA6" dev "cr$$o"
    ;;
  closed) rules <<RULES ;;
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
esac
END
  chmod +x "$FOLDER/net"
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
    JWT_SECRET="$SECRET" WEBRTC_PUBLIC_IP="$INSIDE,$INSIDE6" WEBRTC_UDP_PORT=10000 WEBRTC_THREADS="$THREADS" WEBRTC_TURN_SERVER_URL="turn:$OUTSIDE:$TURN_PORT" WEBRTC_TURN_SECRET="$SECRET" \
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
  as_root ip link delete "cr$$p" 2>/dev/null
  as_root ip netns delete "$SPACE" 2>/dev/null
  exit "$code"
}

main "$@"
