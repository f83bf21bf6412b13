"""Bits of one file of a data directory: which files are of which kind, and which of their bytes are in use."""

import errno
import os
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from . import ClusterError

# A log of fewer bytes says nothing yet but where it comes from.
LOG_BYTES = 100
# The safety record is two slots of this size; what is not zero in them is at their beginning.
SLOT_BYTES = 4_096
SLOT_CONTENT = 120

# Records have no such row of zeros inside.
AROUND = 16

Ranges = list[tuple[int, int]]


@dataclass(frozen=True)
class Flip:
    """Bits of a file, by its name in the data directory."""

    kind: str
    name: str
    places: tuple[tuple[int, int], ...]

    def apply(self, data: Path) -> None:
        """Changes the bits; doing it again changes them back."""
        with (data / self.name).open("r+b") as file:
            for offset, bit in self.places:
                file.seek(offset)
                (byte,) = file.read(1)
                file.seek(offset)
                file.write(bytes([byte ^ 1 << bit]))

    def __str__(self) -> str:
        places = " and ".join(f"bit {bit} of byte {offset:,}" for offset, bit in self.places)
        return f"{places} of {self.name}"


def files(data: Path, kind: str) -> list[Path]:
    """The files of a kind that have content, in the order of their names."""
    found = sorted(path for path in data.rglob("*") if path.is_file() and KINDS[kind](path))
    return [path for path in found if path.stat().st_size > (LOG_BYTES if kind == "log" else 0)]


def _is_live_manifest(path: Path) -> bool:
    if not path.name.startswith("MANIFEST-"):
        return False
    return path.with_name("CURRENT").read_text().strip() == path.name


KINDS: dict[str, Callable[[Path], bool]] = {
    "table": lambda path: path.suffix == ".sst",
    "log": lambda path: path.suffix == ".log",
    "manifest": _is_live_manifest,
    "segment": lambda path: path.suffix == ".segment",
    "safety": lambda path: path.name == "SAFETY",
    # Small files that say what the others are. RocksDB's LOG is for people only.
    "other": lambda path: path.name in ("CURRENT", "IDENTITY") or path.name.startswith("OPTIONS-"),
}


def used(path: Path) -> Ranges:
    """The parts of a file that are written, as begin and end; a segment is reserved in full before it is used."""
    ranges: Ranges = []
    with path.open("rb") as file:
        end, size = 0, os.fstat(file.fileno()).st_size
        while end < size:
            try:
                begin = os.lseek(file.fileno(), end, os.SEEK_DATA)
            except OSError as error:
                if error.errno == errno.ENXIO:
                    break
                raise
            end = os.lseek(file.fileno(), begin, os.SEEK_HOLE)
            ranges.append((begin, end))
    return ranges


def choose(data: Path, kind: str, chance: random.Random) -> Flip | None:
    """A file of the kind, each as likely as any other, and in it a byte in use; nothing if there is no such file."""
    found = [path for path in files(data, kind) if used(path)]
    if not found:
        return None
    path = chance.choice(found)
    if kind == "safety":
        offsets = _slots(chance)
    else:
        ranges = used(path)
        offsets = [_within(ranges, chance)]
        while kind == "segment" and _is_padding(path, offsets[0]):
            offsets = [_within(ranges, chance)]
    return Flip(kind, str(path.relative_to(data)), tuple((offset, chance.randrange(8)) for offset in offsets))


def _within(ranges: Ranges, chance: random.Random) -> int:
    begin, end = chance.choices(ranges, weights=[end - begin for begin, end in ranges])[0]
    return chance.randrange(begin, end)


def _is_padding(path: Path, offset: int) -> bool:
    """Whether there are only zeros around: groups of records are filled up to whole blocks."""
    with path.open("rb") as file:
        file.seek(max(0, offset - AROUND))
        return not any(file.read(2 * AROUND))


def _slots(chance: random.Random) -> list[int]:
    """A byte of one slot of the safety record, anywhere in it or in its content, or one of each."""
    slots = chance.choice(([0], [1], [0, 1]))
    return [slot * SLOT_BYTES + chance.randrange(chance.choice((SLOT_BYTES, SLOT_CONTENT))) for slot in slots]


def check_kinds(data: Path) -> None:
    """Fails if a kind has no file in a directory from which every kind shall be damaged."""
    for kind in KINDS:
        if not files(data, kind):
            raise ClusterError(f"{data} has no file of the kind `{kind}` with content: the test tells nothing about it")
