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


# Binaries to use instead of building them.
CHOSEN = {
    "rorqual": "RORQUAL_BINARY",
    "rorqual-load": "RORQUAL_LOAD_BINARY",
    "lossy_filesystem": "RORQUAL_LOSSY_FILESYSTEM",
}
# Where cargo puts those that are no ordinary binaries.
PLACES = {"lossy_filesystem": "examples/lossy_filesystem"}


def build(*names: str) -> None:
    """Builds those that the environment does not name, so that what runs is what the tree says."""
    wanted = [name for name in names if not os.environ.get(CHOSEN[name])]
    if not wanted:
        return
    child = subprocess.Popen([str(ROOT / "scripts" / "build.sh"), *wanted], stdin=subprocess.DEVNULL)
    try:
        code = child.wait()
    finally:
        if child.poll() is None:
            # It ends its compilers itself.
            child.terminate()
            child.wait()
    if code != 0:
        raise ClusterError("the build failed, see above")


def find(name: str = "rorqual") -> Path:
    """A binary that was built, or the one that the environment names."""
    chosen = os.environ.get(CHOSEN[name])
    path = Path(chosen) if chosen else target_directory() / "release" / PLACES.get(name, name)
    if not os.access(path, os.X_OK):
        remedy = f"{CHOSEN[name]} names it" if chosen else f"run `scripts/build.sh {name}`"
        raise ClusterError(f"{path} is not an executable file: {remedy}")
    return path.absolute()


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
