#!/usr/bin/env bash
# The same cluster as scripts/local_cluster.sh up, each node a transient unit of systemd: of the system's manager for root, of
# the user's own for everybody else.
#
#   scripts/systemd_cluster.sh up [--nodes 4] [--memory-high 1G]   a unit for each node
#   scripts/systemd_cluster.sh status                              every unit: state, restarts, memory, round, commits, addresses
#   scripts/systemd_cluster.sh logs [I] [--follow]                 the journal of all units, or of node I
#   scripts/systemd_cluster.sh down [--remove]                     stop all units; --remove deletes their data too
#
# Units are called rorqual-cluster-node-0.service and so on, all in rorqual-cluster.slice. Data is kept in
# ~/.local/state/rorqual/systemd-cluster, or where RORQUAL_SYSTEMD_CLUSTER_DIR says. RORQUAL_BINARY names a binary to use instead
# of building one. Exit code 0: done and fine; 1: it failed, a unit does not run, or there is no systemd here; 2: wrong usage.
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
exec python3 -m cluster.units "$@"
