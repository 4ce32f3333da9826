# shellcheck shell=bash
# Installs what is missing on a Debian machine, and only that, and says what. Sourced after common.sh; ROOT is
# the repository.
# Everything already there is used as it is, whoever installed it.

# Packages to install, each with what it is for; install_missing acts on all of them at once.
declare -A MISSING=()
# Of these, Debian starts a server as soon as they are installed, which nobody asked for.
WITH_SERVICE=(coturn janus)

# need COMMAND PACKAGE WHY: notes the package when the command is absent.
need() {
  # A user's PATH has no sbin on Debian, where some of root's commands are.
  PATH=$PATH:/usr/sbin:/sbin command -v "$1" >/dev/null || MISSING[$2]=${MISSING[$2]:-$3}
}

# PostgreSQL's servers are not on PATH on Debian, so looking for a command would not find them.
need_postgres() {
  local bins=(/usr/lib/postgresql/*/bin/initdb)
  [[ -x ${bins[0]} ]] || command -v initdb >/dev/null || MISSING[postgresql]="the database"
}

install_missing() {
  ((${#MISSING[@]})) || return 0
  local package packages=("${!MISSING[@]}") keep=""
  say "installing with apt-get what is missing:"
  for package in "${packages[@]}"; do say "  $package: ${MISSING[$package]}"; done
  command -v apt-get >/dev/null || die "there is no apt-get here; install these yourself: ${packages[*]}"
  [[ -z ${MISSING[postgresql]:-} ]] || keep=$(forbid_main_cluster)
  apt_install "${packages[@]}" || die "apt-get could not install: ${packages[*]}"
  [[ -z $keep ]] || as_root rm -f -- "$keep"
  for package in "${WITH_SERVICE[@]}"; do
    [[ -z ${MISSING[$package]:-} || ! -d /run/systemd/system ]] || as_root systemctl disable --now --quiet "$package"
  done
  MISSING=()
  hash -r
}

# The package lists are fetched only when installing without them fails: a prepared machine needs no network.
# The lock timeout lets two runs on one machine wait for each other.
apt_install() {
  local apt=(env DEBIAN_FRONTEND=noninteractive apt-get -y -q -o DPkg::Lock::Timeout=300)
  as_root "${apt[@]}" install --no-install-recommends "$@" </dev/null >&2 9>&- && return
  say "that did not work; once more with new package lists"
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
  # Here, because rust-toolchain.toml chooses the version; rustup fetches it unless it has been told not to.
  attend env -C "$ROOT" cargo --version >/dev/null || die "cargo does not run; it has to be the version of rust-toolchain.toml"
  command -v cc >/dev/null || MISSING[gcc]="Rust links with the C compiler, and the TLS library is written in C"
  [[ -e /usr/include/stdlib.h ]] || MISSING[libc6-dev]="what C programs are compiled against"
  [[ -n ${SSL_CERT_FILE:-} || -e $CERTIFICATES ]] || MISSING[ca-certificates]="cargo fetches crates over HTTPS"
}
# Where cargo looks for them on Debian.
CERTIFICATES=/etc/ssl/certs/ca-certificates.crt

# cargo_install CRATE VERSION WHY [OPTION…]: builds that tool from source, into cargo's own folder.
cargo_install() {
  local crate=$1 version=$2 why=$3
  shift 3
  say "installing with cargo what is missing (built from source, some minutes):"
  say "  $crate: $why"
  attend cargo install --locked "$crate@^$version" "$@" >&2 || die "cargo could not install $crate"
  hash -r
}

# need_node: some Node, to be followed by npm_install_node when it may be too old.
need_node() {
  need node nodejs "drives the browsers of the tests"
  need npm npm "fetches what drives the browsers of the tests"
}

# What drives the browsers refuses to start on less (Debian 12 has 18).
NODE_LEAST=20
# What is fetched instead: the newest that is supported for long.
NODE_MAJOR=24

# npm_install_node FOLDER: when the machine's Node is too old, one from npm's registry into FOLDER, for this run's PATH.
npm_install_node() {
  local folder=$1 found
  PATH=$folder/node_modules/node/bin:$PATH
  found=$(node -p 'process.versions.node.split(".")[0]')
  ((found < NODE_LEAST)) || return 0
  say "installing with npm into $folder:"
  say "  node $NODE_MAJOR: what drives the browsers wants $NODE_LEAST or newer, here is $found"
  attend npm install --prefix "$folder" --no-save --no-audit --no-fund "node@$NODE_MAJOR" >&2 ||
    die "npm could not install node $NODE_MAJOR"
  hash -r
}

# need_python WHY: a Python that makes environments of its own, to be followed by pip_install.
need_python() {
  need python3 python3 "$1"
  python3 -c 'import ensurepip' 2>/dev/null || MISSING[python3-venv]="keeps what Python's programs need apart from the system's"
}

# need_gstreamer: GStreamer with WebRTC, for the system's Python. Its parts are no commands, so their files are looked for.
need_gstreamer() {
  local part package why="GStreamer publishes as a client that is no browser"
  local -A parts=([libgstopus]=gstreamer1.0-plugins-base [libgstvpx]=gstreamer1.0-plugins-good
    [libgstwebrtc]=gstreamer1.0-plugins-bad [libgstnice]=gstreamer1.0-nice)
  for part in "${!parts[@]}"; do
    compgen -G "/usr/lib/*/gstreamer-1.0/$part.so" >/dev/null || MISSING[${parts[$part]}]=$why
  done
  for package in python3-gi gir1.2-gst-plugins-bad-1.0; do
    [[ -e /usr/share/doc/$package ]] || MISSING[$package]=$why
  done
}

# pip_install FOLDER WHY NAME==VERSION…: those, when they are not there, from PyPI into a Python environment of its own in FOLDER.
pip_install() {
  local folder=$1 why=$2
  shift 2
  ! pip_has "$folder/bin/python" "$@" || return 0
  say "installing with pip into $folder:"
  say "  $*: $why"
  attend python3 -m venv "$folder" >&2 || die "Python could not make an environment in $folder"
  attend "$folder/bin/python" -m pip install --quiet --disable-pip-version-check "$@" >&2 || die "pip could not install: $*"
}

# pip_has PYTHON NAME==VERSION…: whether all of them are there.
pip_has() {
  local python=$1
  shift
  [[ -x $python ]] && "$python" - "$@" <<'END' 2>/dev/null
import importlib.metadata, sys
wanted = (package.split("==") for package in sys.argv[1:])
sys.exit(any(importlib.metadata.version(name) != version for name, version in wanted))
END
}
