# Sourced by deploy/up, deploy/release, tests/run and .ci/run: what the machine must have, and where built files go.
# shellcheck shell=bash

rust_min=1.95

say() { printf '\033[1m%s\033[0m\n' "$*" >&2; }
fail() { printf '\033[31m%s\033[0m\n' "$*" >&2; exit 1; }
[ -t 2 ] || { say() { printf '%s\n' "$*" >&2; }; fail() { printf '%s\n' "$*" >&2; exit 1; }; }

# Built files stay outside the checkout, so that a clean checkout builds as fast as a used one.
cache_dir=${XDG_CACHE_HOME:-$HOME/.cache}/jaiminho
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$cache_dir/target}
case ":$PATH:" in *":$HOME/.cargo/bin:"*) ;; *) export PATH="$HOME/.cargo/bin:$PATH" ;; esac

# missing COMMAND=PACKAGE ...: the packages whose command is not on the PATH.
missing() {
  local pair
  for pair in "$@"; do
    command -v "${pair%%=*}" >/dev/null 2>&1 || printf '%s\n' "${pair#*=}"
  done
}

# install PACKAGE ...: through apt-get, when that needs no question answered; else says what to type.
install() {
  [ $# -gt 0 ] || return 0
  local root=()
  command -v apt-get >/dev/null 2>&1 || fail "missing: $* (names of Debian packages). Install them with this system's package manager, then start again."
  if [ "$(id -u)" -ne 0 ]; then
    { command -v sudo >/dev/null 2>&1 && { sudo -n true 2>/dev/null || [ -t 0 ]; }; } ||
      fail "missing: $*. As root, type:  apt-get install -y $*"
    root=(sudo)
  fi
  say "installing $*"
  "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq update </dev/null >&2 || true
  "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -y -o Dpkg::Use-Pty=0 --no-install-recommends install "$@" </dev/null >&2 ||
    fail "could not install: $*. As root, type:  apt-get install -y $*"
}

# The running toolchain's version is at least $rust_min.
rust_ready() {
  local found
  found=$(rustc --version 2>/dev/null) || return 1
  found=${found#rustc }
  [ "$(printf '%s\n' "$rust_min" "${found%% *}" | sort -V | head -n 1)" = "$rust_min" ]
}

rust() {
  if rust_ready; then return; fi
  local by_hand="curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y"
  if command -v rustup >/dev/null 2>&1; then
    say "installing Rust $rust_min through rustup"
    rustup toolchain install "$rust_min" --profile minimal --component clippy,rustfmt >&2 ||
      fail "rustup could not install Rust $rust_min. Type:  rustup toolchain install $rust_min"
    export RUSTUP_TOOLCHAIN=$rust_min
  else
    say "installing rustup and Rust"
    bash -c "set -o pipefail; $by_hand --profile default" </dev/null >&2 || fail "could not install Rust >= $rust_min. Type:  $by_hand"
  fi
  rust_ready || fail "Rust >= $rust_min is needed, and $(rustc --version 2>/dev/null || echo none) is first on the PATH. Type:  rustup default $rust_min"
}

# All that a build needs.
prerequisites() {
  local packages
  mapfile -t packages < <(missing clang=clang mold=mold cmake=cmake make=make g++=g++ pkg-config=pkg-config perl=perl curl=curl curl=ca-certificates git=git)
  if ! { command -v pkg-config >/dev/null 2>&1 && pkg-config --exists openssl; }; then packages+=(libssl-dev); fi
  install "${packages[@]}"
  rust
}

# What packs a release.
release_prerequisites() {
  local packages
  mapfile -t packages < <(missing jq=jq objcopy=binutils)
  install "${packages[@]}"
}

# What the integration tests need besides: a Java runtime and Maven for Apache Kafka, setpriv to end with the test, ip for cut links.
test_prerequisites() {
  local packages
  mapfile -t packages < <(missing java=default-jre-headless mvn=maven setpriv=util-linux ip=iproute2)
  [ ${#packages[@]} -gt 0 ] || return 0
  (install "${packages[@]}")
}

# A browser for the tests of the console.
browser_prerequisites() {
  local packages
  mapfile -t packages < <(missing chromium=chromium)
  [ ${#packages[@]} -gt 0 ] || return 0
  (install "${packages[@]}")
}

# unpacked PACKAGE COMMAND ...: a package of Debian's is unpacked, and its commands are on the PATH. Installed, it would start a service.
unpacked() {
  local package=$1 into=$cache_dir/$1 found=true name
  for name in "${@:2}"; do command -v "$name" >/dev/null 2>&1 || found=false; done
  if $found; then return; fi
  if [ ! -x "$into/usr/bin/${!#}" ]; then
    { command -v apt-get && command -v dpkg-deb; } >/dev/null 2>&1 || return 1
    say "unpacking $package"
    (mkdir -p "$into" && cd "$into" && { apt-get -qq download "$package" || { apt-get -qq update && apt-get -qq download "$package"; }; } && dpkg-deb -x "$package"_*.deb . && rm "$package"_*.deb) >&2 || return 1
  fi
  export PATH="$PATH:$into/usr/bin"
}

# For the tests of alert rules and dashboard.
prometheus_prerequisites() { unpacked prometheus prometheus promtool; }

# What the stages in Python need besides: Debian has `python3` and `python3 -m venv` in packages of their own.
python_prerequisites() {
  python3 -c 'import sys, ensurepip; sys.exit(sys.version_info < (3, 10))' 2>/dev/null || (install python3 python3-venv)
}

# What builds Jaeger and Helm: any go on the PATH will do, since one that is too old fetches the one that a module asks for.
go_prerequisites() {
  PATH="$PATH:/usr/local/go/bin"
  local packages
  mapfile -t packages < <(missing go=golang-go)
  [ ${#packages[@]} -gt 0 ] || return 0
  (install "${packages[@]}")
}
