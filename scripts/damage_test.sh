#!/usr/bin/env bash
# Bits flipped in tables, logs, manifest, segments and safety record of one node of a cluster: the node repairs it, names it, or
# refuses to sign; it never diverges, signs twice, panics or hangs.
#
#   scripts/damage_test.sh [--placements 200] [--only table|log|manifest|segment|safety|other]... [--seed NUMBER] [--first NUMBER]
#                          [--directory DIR] [--verbose]
set -euo pipefail
# shellcheck source=scripts/lib/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib/common.sh"

use_python
exec python3 -m cluster.damage "$@"
