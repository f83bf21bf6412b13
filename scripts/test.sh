#!/usr/bin/env bash
# Everything a change must pass, and what CI runs. Nothing is tried twice: a test that fails has failed.
#
#   scripts/test.sh          the gate (scripts/check.sh), all tests, a cluster of real processes
#   scripts/test.sh --long   the same, the tests marked as long, clusters whose nodes are killed, damaged or lose power
set -euo pipefail
# shellcheck source=scripts/lib/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib/common.sh"
cd "$ROOT"

long=""
case "${1:-}" in
"") ;;
--long) long=yes ;;
*) die "usage: scripts/test.sh [--long]" 2 ;;
esac

scripts/bootstrap.sh build check benchmark
use_target_dir

scripts/check.sh || FAILED+=("check")

# Tests of power loss mount a filesystem of their own. Where that should work they must not pass by skipping themselves.
if [ "$(id -u)" = 0 ] && [ -w /dev/fuse ]; then
    export RORQUAL_TEST_FUSE=required
else
    skip "power loss" "mounting a FUSE filesystem needs root and /dev/fuse"
fi

run_tests() {
    # nextest gives every test a process of its own; where it is not installed, cargo's own runner does.
    if command -v cargo-nextest >/dev/null; then
        cargo nextest run --release --locked --workspace --no-tests pass ${long:+--run-ignored all}
    else
        cargo test --release --locked --workspace --lib --bins --tests -- ${long:+--include-ignored}
    fi
}

run_python_tests() {
    python3 -m unittest discover --start-directory scripts/tests --top-level-directory scripts &&
        benchmark/.venv/bin/python -m unittest discover --start-directory benchmark/tests --top-level-directory benchmark
}

# The simulated clusters over many more seeds than every change can wait for.
run_wide_sweeps() {
    if command -v cargo-nextest >/dev/null; then
        RORQUAL_SEEDS=10 cargo nextest run --release --locked --workspace -E 'binary(cluster)'
    else
        RORQUAL_SEEDS=10 cargo test --release --locked -p rorqual-protocol --test cluster
    fi
}

failed_before=${#FAILED[@]}
step "build" cargo build --release --locked --workspace --bins
built=$((${#FAILED[@]} == failed_before))
step "python tests" run_python_tests
step "tests${long:+, long ones too}" run_tests
[ -z "$long" ] || step "simulated clusters, ten times the seeds" run_wide_sweeps
step "doctests" cargo test --release --locked --quiet --workspace --doc
# Its figures mean nothing when it is short and the machine busy; this shows that it runs.
step "store benchmark, short" cargo bench --locked --quiet --workspace --bench designs -- --short
if [ "$built" = 1 ]; then
    step "cluster of four processes" scripts/local_cluster.sh demo
    [ -z "$long" ] || step "kill -9 of nodes under load" scripts/kill_test.sh
    [ -z "$long" ] || step "flipped bits in nodes' files" scripts/damage_test.sh
    if [ -n "$long" ] && [ -n "${RORQUAL_TEST_FUSE:-}" ]; then
        step "power cuts of nodes under load" scripts/power_loss_test.sh
        step "full, slow and failing disks of nodes" scripts/disk_fault_test.sh
    fi
else
    skip "cluster of four processes" "nothing was built"
fi
verdict "everything that was tested holds"
