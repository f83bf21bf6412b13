#!/usr/bin/env bash
# The same cluster as scripts/local_cluster.sh up, each node a transient unit of systemd: of the system's manager for root, of
# the user's own for everybody else.
#
#   scripts/systemd_cluster.sh up [--nodes 4] [--memory-max 1G] | status | logs [I] [--follow] | down [--remove]
#
# Units are called rorqual-cluster-node-0.service and so on, all in rorqual-cluster.slice. Data is kept in
# ~/.local/state/rorqual/systemd-cluster, or where RORQUAL_SYSTEMD_CLUSTER_DIR says.
set -euo pipefail
# shellcheck source=scripts/lib/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib/common.sh"

case "${1:-}" in
up)
    # Looked at first: nobody should wait for a build that ends in this sentence.
    manager=user
    [ "$(id -u)" != 0 ] || manager=system
    if ! systemctl "--$manager" show --property=Version >/dev/null 2>&1; then
        die "no systemd $manager manager is running here: use scripts/local_cluster.sh up instead"
    fi
    build_binaries rorqual
    ;;
"" | -h | --help)
    sed -n '2,8s/^# \{0,1\}//p' "$0"
    [ -n "${1:-}" ] && exit 0 || exit 2
    ;;
esac
PYTHONPATH="$ROOT/scripts" exec python3 -m cluster.units "$@"
