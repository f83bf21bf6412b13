# Shared by all scripts here; sourced, never run.
# shellcheck shell=bash

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
CACHE="${XDG_CACHE_HOME:-$HOME/.cache}/rorqual"
# Tools that come from PyPI live here, apart from the system's Python.
# shellcheck disable=SC2034 # used by the scripts that source this
TOOLS="$CACHE/tools"

# A machine where rustup was installed, but not for this shell.
if ! command -v cargo >/dev/null && [ -x "$HOME/.cargo/bin/cargo" ]; then
    PATH="$HOME/.cargo/bin:$PATH"
fi

# die MESSAGE [CODE]: one sentence on standard error, and the end.
die() {
    printf '%s: %s\n' "$(basename "$0")" "$1" >&2
    exit "${2:-1}"
}

# usage: the comment at the top of the script that calls it.
usage() {
    sed -n '2,/^set -/{/^#/s/^# \{0,1\}//p}' "$0"
}

# Where cargo builds: the caller's choice, else the cache that CI keeps, else ./target. RocksDB's C++ takes long to compile,
# so everything that builds here must agree on one place.
use_target_dir() {
    if [ -z "${CARGO_TARGET_DIR:-}" ]; then
        if [ -d "$CACHE/target" ]; then
            CARGO_TARGET_DIR="$CACHE/target"
        else
            CARGO_TARGET_DIR="$ROOT/target"
        fi
    fi
    export CARGO_TARGET_DIR
}

# use_python: the cluster scripts are Python; a machine that lacks it gets it, and everything else that a build needs.
use_python() {
    command -v python3 >/dev/null || "$ROOT/scripts/bootstrap.sh" build
    export PYTHONPATH="$ROOT/scripts"
}

# with_progress LABEL COMMAND...: runs it with its output in a file, shows that it is alive, and shows the output only if it fails.
# On a terminal one line is rewritten; elsewhere a line follows after 2 seconds and then every 30. A function given as COMMAND
# must join its commands with &&: bash ignores `set -e` in it.
with_progress() {
    local label="$1" log pid code=0 start now shown=0 next=2
    shift
    log="$(mktemp)"
    start=$SECONDS
    # A process group of its own, so that whoever ends the script ends everything the step started.
    set -m
    "$@" >"$log" 2>&1 </dev/null &
    pid=$!
    set +m
    STEP_PID=$pid STEP_LOG=$log STEP_LABEL=$label STEP_START=$start
    trap end_step INT TERM HUP
    if [ -t 1 ]; then printf '%s …' "$label"; fi
    while kill -0 "$pid" 2>/dev/null; do
        sleep 0.2
        now=$((SECONDS - start))
        if [ -t 1 ]; then
            if [ "$now" -gt "$shown" ]; then
                shown=$now
                printf '\r\033[K%s … %s s  %s' "$label" "$now" "$(last_words "$log")"
            fi
        elif [ "$now" -ge "$next" ]; then
            next=$((now + 30))
            printf '%s … %s s  %s\n' "$label" "$now" "$(last_words "$log")"
        fi
    done
    wait "$pid" || code=$?
    trap - INT TERM HUP
    if [ -t 1 ]; then printf '\r\033[K'; fi
    if [ "$code" = 0 ]; then
        printf '%s: ok (%s s)\n' "$label" "$((SECONDS - start))"
    else
        printf '%s: FAILED (exit code %s after %s s)\n' "$label" "$code" "$((SECONDS - start))"
        sed 's/^/    /' "$log"
    fi
    rm -f "$log"
    return "$code"
}

# end_step: somebody ends the script. What the step said so far is the best explanation of why that took so long.
end_step() {
    trap - INT TERM HUP
    kill -TERM -- "-$STEP_PID" 2>/dev/null
    if [ -t 1 ]; then printf '\r\033[K'; fi
    printf '%s: ended from outside after %s s; it said last:\n' "$STEP_LABEL" "$((SECONDS - STEP_START))"
    tail -n 15 "$STEP_LOG" | sed 's/^/    /'
    rm -f "$STEP_LOG"
    exit 130
}

# The last line of a file that says something, without control characters, cut to fit.
last_words() {
    tail -n 5 "$1" | tr '\r' '\n' | sed -e 's/\x1b\[[0-9;]*[A-Za-z]//g' -e '/^[[:space:]]*$/d' | tail -n 1 | cut -c 1-80
}

FAILED=()
SKIPPED=()

# step LABEL COMMAND...: one step of a gate. A failure is remembered and the next step still runs, so that one run tells all.
step() {
    with_progress "$@" || FAILED+=("$1")
}

# skip LABEL WHY
skip() {
    printf '%s: skipped (%s)\n' "$1" "$2"
    SKIPPED+=("$1")
}

# verdict SENTENCE: the last line of a gate, with the time it took, and its exit code.
verdict() {
    local name took
    took="$((SECONDS / 60)) min $((SECONDS % 60)) s"
    if [ "${#FAILED[@]}" -gt 0 ]; then
        printf -v name '%s, ' "${FAILED[@]}"
        printf 'FAIL: %s (%s)\n' "${name%, }" "$took"
        return 1
    fi
    if [ "${#SKIPPED[@]}" -gt 0 ]; then
        printf -v name '%s, ' "${SKIPPED[@]}"
        printf 'PASS, but skipped: %s (%s)\n' "${name%, }" "$took"
    else
        printf 'PASS: %s (%s)\n' "$1" "$took"
    fi
}
