#!/usr/bin/env bash
# The first things a user does, again and again, while every processor is kept busy by something else: the demo, `up` followed at
# once by `submit`, and a short `fab local`. Each must end well every time.
#
#   scripts/busy_test.sh [--rounds 50] [--only demo,submit,benchmark]
set -euo pipefail
# shellcheck source=scripts/lib/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib/common.sh"

use_python
exec python3 -m cluster.busy_test "$@"
