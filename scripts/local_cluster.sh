#!/usr/bin/env bash
# A cluster of real processes on this machine.
#
#   scripts/local_cluster.sh demo [--nodes 4] [--file README.md]   the whole story: start, submit, compare, stop; PASS or FAIL
#   scripts/local_cluster.sh up [--nodes 4]                        a cluster to play with
#   scripts/local_cluster.sh status                                every node: state, round, commits, addresses
#   scripts/local_cluster.sh logs I [--follow]                     what node I logged
#   scripts/local_cluster.sh kill I                                kill -9 of node I
#   scripts/local_cluster.sh restart I                             stop node I if it runs, and start it
#   scripts/local_cluster.sh down [--remove]                       stop all nodes; --remove deletes their data too
#
# `up` keeps its cluster in ~/.local/state/rorqual/local-cluster, or where RORQUAL_CLUSTER_DIR says. RORQUAL_BINARY names a
# binary to use instead of building one. Only processes that were started here are ever signalled. Exit code 0: done and fine;
# 1: it failed, or a node does not run; 2: wrong usage.
set -euo pipefail
# shellcheck source=scripts/lib/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib/common.sh"

case "${1:-}" in
-h | --help)
    usage
    exit 0
    ;;
"")
    usage >&2
    exit 2
    ;;
esac
use_python
exec python3 -m cluster "$@"
