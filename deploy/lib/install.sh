# shellcheck shell=bash
# Installs what is missing on a Debian machine, and only that, and says what. Sourced after common.sh.
# Everything already there is used as it is, whoever installed it.

# need COMMAND PACKAGE: notes the package when the command is absent; install_missing acts on all of them at once.
MISSING=()
need() {
  command -v "$1" >/dev/null || MISSING+=("$2")
}

# PostgreSQL's servers are not on PATH on Debian, so looking for a command would not find them.
need_postgres() {
  local bins=(/usr/lib/postgresql/*/bin/initdb)
  [[ -x ${bins[0]} ]] || command -v initdb >/dev/null || MISSING+=(postgresql)
}

install_missing() {
  ((${#MISSING[@]})) || return 0
  say "installing what is missing: ${MISSING[*]}"
  command -v apt-get >/dev/null || die "there is no apt-get here; install these yourself: ${MISSING[*]}"
  local keep=""
  [[ " ${MISSING[*]} " != *" postgresql "* ]] || keep=$(forbid_main_cluster)
  apt_install "${MISSING[@]}" || die "apt-get could not install: ${MISSING[*]}"
  [[ -z $keep ]] || as_root rm -f -- "$keep"
  MISSING=()
  hash -r
}

# The package lists are fetched only when installing without them fails: a prepared machine needs no network.
# The lock timeout lets two runs on one machine wait for each other.
apt_install() {
  local apt=(env DEBIAN_FRONTEND=noninteractive apt-get -y -q -o DPkg::Lock::Timeout=300)
  as_root "${apt[@]}" install --no-install-recommends "$@" </dev/null >&2 9>&- && return
  say "fetching the package lists first"
  as_root "${apt[@]}" update </dev/null >&2 9>&- &&
    as_root "${apt[@]}" install --no-install-recommends "$@" </dev/null >&2 9>&-
}

# Debian's package starts a server of its own on 5432, which nobody asked for; this tells it not to. Prints the
# file to remove afterwards, so that a later, intended installation behaves as usual.
forbid_main_cluster() {
  local file=/etc/postgresql-common/createcluster.d/callreel.conf
  as_root mkdir -p "${file%/*}"
  echo "create_main_cluster = false" | as_root tee "$file" >/dev/null
  echo "$file"
}

# Cargo may be installed without being on PATH of this shell (rustup tells you to log in again).
need_cargo() {
  command -v cargo >/dev/null || PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"
  command -v cargo >/dev/null || die "there is no Rust toolchain; install it with rustup (https://rustup.rs) and try again"
  # Rust links with the C compiler, and its cryptography is C.
  if ! command -v cc >/dev/null; then MISSING+=(gcc libc6-dev); fi
}
