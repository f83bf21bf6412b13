#!/usr/bin/env bash
# Power cuts of all nodes at once under load, on a filesystem that keeps only what was synced: nothing that had a receipt may
# be lost or doubled, and no node may contradict itself. First the same without syncs, which must fail. Needs root and FUSE.
#
#   scripts/power_loss_test.sh [--cycles 40] [--nodes 4] [--rate 500] [--seed NUMBER]
set -euo pipefail
# shellcheck source=scripts/lib/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib/common.sh"

use_python
exec python3 -m cluster.power_loss "$@"
