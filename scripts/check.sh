#!/usr/bin/env bash
# The gate that reads only: format, lints, layering, wiring, licences, documents. Changes nothing in the tree; scripts/fix.sh does that.
set -euo pipefail
# shellcheck source=scripts/lib/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib/common.sh"
cd "$ROOT"

[ "$#" = 0 ] || die "takes no arguments" 2
scripts/bootstrap.sh build check
use_target_dir

shell_scripts() { git ls-files -z --cached --others --exclude-standard -- '*.sh' .ci/run; }

run_shellcheck() { shell_scripts | xargs -0 shellcheck --external-sources --source-path=SCRIPTDIR --source-path="$ROOT"; }

run_ruff() {
    "$TOOLS/bin/ruff" check --config scripts/ruff.toml scripts benchmark store/docs &&
        "$TOOLS/bin/ruff" format --check --config scripts/ruff.toml scripts benchmark store/docs
}

# RUSTFLAGS would change the build of every dependency, RocksDB included: warnings are denied on the command line of each tool.
run_rustdoc() { RUSTDOCFLAGS="-D warnings" cargo doc --release --locked --quiet --workspace --no-deps; }

run_cargo_deny() {
    # Advisories need a database from the network and are left out; licences, bans and sources need none.
    cargo fetch --locked --quiet &&
        CARGO="$ROOT/scripts/lib/cargo_for_deny.py" "$TOOLS/bin/cargo-deny" --offline --locked --workspace check --hide-inclusion-graph bans licenses sources
}

step "format" cargo fmt --all --check
step "shellcheck" run_shellcheck
step "python" run_ruff
step "documents" python3 scripts/lib/documents.py
step "layering" python3 scripts/lib/layering.py
step "wiring" python3 scripts/lib/wiring.py
step "dependencies (advisories not checked: offline)" run_cargo_deny
step "clippy" cargo clippy --release --locked --quiet --workspace --all-targets -- -D warnings
step "rustdoc" run_rustdoc
verdict "the tree is clean"
