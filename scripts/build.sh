#!/usr/bin/env bash
# Builds binaries of this tree and installs what is missing to do so. The clusters and benchmarks call it before they start.
#
#   scripts/build.sh NAME...      for example: rorqual rorqual-load
set -euo pipefail
# shellcheck source=scripts/lib/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib/common.sh"

[ "$#" -gt 0 ] || die "usage: scripts/build.sh NAME..." 2
"$ROOT/scripts/bootstrap.sh" build
use_target_dir
bins=() examples=()
for name in "$@"; do
    if [ -f "$ROOT/store/examples/$name.rs" ]; then
        examples+=(--example "$name")
    else
        bins+=(--bin "$name")
    fi
done
[ -x "$CARGO_TARGET_DIR/release/$1" ] ||
    echo "Building for the first time: RocksDB is C++ and takes 15 to 30 minutes on two cores, once"
cd "$ROOT"
[ "${#bins[@]}" = 0 ] || with_progress "build" cargo build --release --locked "${bins[@]}"
# Examples see what tests see, which is more than binaries do: built together, the binaries would not be those that are shipped.
[ "${#examples[@]}" = 0 ] || with_progress "build of ${examples[*]:1}" cargo build --release --locked "${examples[@]}"
