"""Repeats what a user does first, on a machine that has something else to do."""

import argparse
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from . import ROOT, ClusterError, binary, trial
from .progress import Progress

SCRIPT = "scripts/busy_test.sh"
# Longest that one of these may take. They take seconds; one that takes longer hangs.
LIMIT_SECONDS = 120.0


def _demo(place: Path) -> None:
    _run([ROOT / "scripts/local_cluster.sh", "demo"], place)


def _submit(place: Path) -> None:
    """A new cluster, and a transaction as soon as it says that it is there."""
    script = ROOT / "scripts/local_cluster.sh"
    try:
        told = _run([script, "up"], place)
        address = next((word for line in told.splitlines() for word in _clients(line)), None)
        if address is None:
            raise ClusterError(f"`up` names no address for clients:\n{told}")
        _run([binary.find(), "submit", "--node", address, "--text", "first"], place)
    finally:
        _run([script, "down", "--remove"], place)


def _clients(line: str) -> list[str]:
    """The client address in a line of `up`: `... submit --node ADDRESS ...`."""
    words = line.split()
    return [words[at + 1] for at, word in enumerate(words[:-1]) if word == "--node"]


def _benchmark(place: Path) -> None:
    fab = ROOT / "benchmark/.venv/bin/fab"
    options = ["--rate", "1k", "--duration", "3", "--warm-up", "1"]
    _run([fab, "-c", "fabfile", "local", *options], place, ROOT / "benchmark")


TASKS: dict[str, Callable[[Path], None]] = {"demo": _demo, "submit": _submit, "benchmark": _benchmark}


def _run(command: Sequence[str | Path], place: Path, directory: Path = ROOT) -> str:
    """What a command said, which must end well and in time."""
    environment = os.environ | {
        "RORQUAL_CLUSTER_DIR": str(place / "cluster"),
        "RORQUAL_BINARY": str(binary.find()),
        "RORQUAL_LOAD_BINARY": str(binary.find("rorqual-load")),
    }
    named = " ".join(str(word) for word in command)
    try:
        ended = subprocess.run(
            [str(word) for word in command],
            cwd=directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=LIMIT_SECONDS,
        )
    except subprocess.TimeoutExpired as error:
        raise ClusterError(f"`{named}` did not end within {LIMIT_SECONDS:.0f} s") from error
    except OSError as error:
        raise ClusterError(f"`{named}` did not start: {error.strerror}; scripts/bootstrap.sh installs it") from error
    if ended.returncode != 0:
        raise ClusterError(f"`{named}` ended with code {ended.returncode}\n{ended.stdout}")
    return ended.stdout


@contextmanager
def _busy() -> Iterator[None]:
    """Keeps every processor busy."""
    spin = [sys.executable, "-c", "while True: pass"]
    children = [subprocess.Popen(spin, stdin=subprocess.DEVNULL) for _ in range(os.cpu_count() or 1)]
    try:
        yield
    finally:
        for child in children:
            child.kill()
            child.wait()


def _rounds(place: Path, rounds: int, tasks: Sequence[str]) -> str:
    failures: list[str] = []
    counts: list[str] = []
    with _busy():
        for name in tasks:
            progress = Progress(name)
            held = 0
            for number in range(rounds):
                try:
                    TASKS[name](place)
                    held += 1
                except ClusterError as error:
                    failures.append(f"{name}, round {number}: {error}")
                progress.update(f"{held} of {number + 1} ended well")
            progress.done()
            counts.append(f"{name} {held} of {rounds}")
            print(f"{name}: {held} of {rounds} ended well, {progress.seconds() / rounds:.1f} s each", flush=True)
    if failures:
        raise ClusterError(f"on busy processors {', '.join(counts)} ended well\n" + "\n".join(failures))
    return f"on busy processors {', '.join(counts)} ended well"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=SCRIPT, description="First steps on busy processors.")
    parser.add_argument("--rounds", type=int, default=50, metavar="N", help="of each; default: 50")
    parser.add_argument("--only", default=",".join(TASKS), help=f"some of {','.join(TASKS)}; default: all")
    return parser


def main(arguments: Sequence[str]) -> int:
    """Runs it; the exit code."""
    args = _parser().parse_args(arguments)
    tasks = args.only.split(",")
    unknown = [name for name in tasks if name not in TASKS]
    if unknown or args.rounds < 1:
        print(f"{SCRIPT}: --only takes {', '.join(TASKS)}; --rounds at least 1", file=sys.stderr)
        return 2
    return trial.run("busy-test-", ["rorqual", "rorqual-load"], lambda place: _rounds(place, args.rounds, tasks))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
