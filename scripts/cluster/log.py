"""The ordered log of a node as `rorqual log` prints it: position, tab, text."""

import hashlib
import itertools
import subprocess
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from . import ClusterError


@dataclass(frozen=True)
class Entry:
    """One committed transaction."""

    position: int
    text: str


def parse(output: str) -> list[Entry]:
    """Reads the lines of `rorqual log`."""
    entries = []
    # Not splitlines: a transaction may hold characters that Python takes for ends of lines.
    for line in filter(None, output.split("\n")):
        position, tab, text = line.partition("\t")
        if not tab or not position.isdigit():
            raise ClusterError(f"`rorqual log` printed a line that is not POSITION<TAB>TEXT: {line[:80]!r}")
        entries.append(Entry(int(position), text))
    return entries


def digest(output: str) -> str:
    """Short digest of a printed log, equal only for logs that are equal byte for byte."""
    return hashlib.sha256(output.encode(errors="surrogateescape")).hexdigest()[:16]


def gap(entries: Sequence[Entry]) -> str | None:
    """The first place where positions do not count up by one."""
    for before, after in itertools.pairwise(entries):
        if after.position != before.position + 1:
            return f"position {before.position} is followed by {after.position}"
    return None


def miscounted(submitted: Sequence[bytes], entries: Sequence[Entry]) -> str | None:
    """Nothing if the log holds each submitted line exactly as often as it was submitted, and nothing else.

    A line that cannot be printed stands in the log in hexadecimal form.
    """
    found = Counter(entry.text for entry in entries)
    for line, times in Counter(submitted).items():
        text = line.decode(errors="replace")
        seen = found.pop(text, 0) or found.pop(line.hex(), 0)
        if seen != times:
            return f"the line {text[:60]!r} was submitted {_times(times)} and is in the log {_times(seen)}"
    if found:
        return f"the log holds {next(iter(found))[:60]!r}, which nobody submitted"
    return None


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def window(binary: Path, address: str, start: int, count: int, timeout: float = 30.0) -> list[str]:
    """Up to `count` lines of the log of a node from a position on; reads no further."""
    command = [str(binary), "log", "--node", address, "--from", str(start)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, errors="replace"
    ) as child:
        try:
            return list(_first(child, count))
        finally:
            child.kill()
            child.wait(timeout)


def _first(child: "subprocess.Popen[str]", count: int) -> Iterator[str]:
    assert child.stdout is not None
    for _, line in zip(range(count), child.stdout, strict=False):
        yield line
