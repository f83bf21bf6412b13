#!/usr/bin/env bash
# kill -9 of one node under load, then of all nodes at once: nothing that had a receipt may be lost or doubled.
#
#   scripts/kill_test.sh [--nodes 4] [--rate 10000] [--down 60] [--cycles 3]
set -euo pipefail
# shellcheck source=scripts/lib/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib/common.sh"

use_python
exec python3 -m cluster.kill_test "$@"
