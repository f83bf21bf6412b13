#!/usr/bin/env bash
# A cluster of real processes on this machine.
#
#   scripts/local_cluster.sh demo [--nodes 4] [--file README.md]   the whole story: start, submit, compare, stop; PASS or FAIL
#   scripts/local_cluster.sh up [--nodes 4]                        a cluster to play with
#   scripts/local_cluster.sh status | logs I | kill I | restart I | down [--remove]
#
# `up` keeps its cluster in ~/.local/state/rorqual/local-cluster, or where RORQUAL_CLUSTER_DIR says. RORQUAL_BINARY names a
# binary to use instead of building one. Only processes that were started here are ever signalled.
set -euo pipefail
# shellcheck source=scripts/lib/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib/common.sh"

case "${1:-}" in
demo | up)
    build_binaries rorqual
    ;;
"" | -h | --help)
    sed -n '2,9s/^# \{0,1\}//p' "$0"
    [ -n "${1:-}" ] && exit 0 || exit 2
    ;;
esac
PYTHONPATH="$ROOT/scripts" exec python3 -m cluster "$@"
