#!/usr/bin/env bash
# Disks of single nodes that are full, slow or failing, in a cluster under load: the others go on, and the node comes back with
# everything. Needs root and FUSE.
#
#   scripts/disk_fault_test.sh [--only full|slow|failing]... [--rate 500] [--seed NUMBER]
set -euo pipefail
# shellcheck source=scripts/lib/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib/common.sh"

use_python
exec python3 -m cluster.disk_faults "$@"
