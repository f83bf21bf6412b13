#!/usr/bin/env bash
# Everything `fab local` needs: compilers, benchmark/.venv with the pinned Python packages, and the binaries.
set -euo pipefail
# shellcheck source=scripts/lib/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/../scripts/lib/common.sh"

"$ROOT/scripts/bootstrap.sh" benchmark
"$ROOT/scripts/build.sh" rorqual rorqual-load
echo "Ready: cd benchmark && .venv/bin/fab local"
