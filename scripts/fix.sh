#!/usr/bin/env bash
# Repairs what can be repaired by machine: format and clippy's own suggestions. What remains, scripts/check.sh tells.
set -euo pipefail
# shellcheck source=scripts/lib/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib/common.sh"
cd "$ROOT"

[ "$#" = 0 ] || die "takes no arguments" 2
scripts/bootstrap.sh build check
use_target_dir
with_progress "clippy --fix" cargo clippy --release --quiet --workspace --all-targets --fix --allow-dirty --allow-staged
with_progress "format" cargo fmt --all
with_progress "ruff check --fix" "$TOOLS/bin/ruff" check --fix --config scripts/ruff.toml scripts benchmark
with_progress "ruff format" "$TOOLS/bin/ruff" format --config scripts/ruff.toml scripts benchmark
