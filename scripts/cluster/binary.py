"""The `rorqual` binary as other programs use it: commands, exit codes, JSON."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from . import ROOT, ClusterError


def target_directory() -> Path:
    """Where cargo builds; the same rule as `use_target_dir` in scripts/lib/common.sh."""
    if chosen := os.environ.get("CARGO_TARGET_DIR"):
        return Path(chosen)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rorqual" / "target"
    return cache if cache.is_dir() else ROOT / "target"


def find(name: str = "rorqual") -> Path:
    """A binary that was built, or the one named by RORQUAL_BINARY (for `rorqual`) or RORQUAL_LOAD_BINARY."""
    variable = {"rorqual": "RORQUAL_BINARY", "rorqual-load": "RORQUAL_LOAD_BINARY"}.get(name, "")
    path = Path(os.environ.get(variable) or target_directory() / "release" / name)
    if not os.access(path, os.X_OK):
        raise ClusterError(f"{path} is not there: run `cargo build --release --workspace`")
    return path


def run(binary: Path, *arguments: str | Path, timeout: float = 60.0) -> str:
    """Standard output of a command that must succeed."""
    command = [str(binary), *(str(argument) for argument in arguments)]
    named = f"`{binary.name} {' '.join(command[1:])}`"
    try:
        result = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=timeout)
    except subprocess.TimeoutExpired as error:
        raise ClusterError(f"{named} did not end within {timeout:.0f} s") from error
    except OSError as error:
        raise ClusterError(f"{named} did not start: {error.strerror}") from error
    if result.returncode != 0:
        said = (result.stderr.strip() or result.stdout.strip()).splitlines()
        raise ClusterError(f"{named} ended with code {result.returncode}: {' '.join(said[-3:])}")
    return result.stdout


def run_json(binary: Path, *arguments: str | Path, timeout: float = 60.0) -> Any:
    """The JSON that a command prints."""
    output = run(binary, *arguments, "--json", timeout=timeout)
    try:
        return json.loads(output)
    except json.JSONDecodeError as error:
        raise ClusterError(f"`{binary.name} {arguments[0]} --json` printed no JSON: {output[:200]!r}") from error
