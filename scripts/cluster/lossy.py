"""Data directories on store/examples/lossy_filesystem.rs, which keeps only what was synced; one mount a node."""

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from . import ClusterError, binary
from .local import Node
from .process import last_lines

PROGRAM = "lossy_filesystem"
# What tests with it need.
PROGRAMS = ("rorqual", "rorqual-load", PROGRAM)


def unavailable() -> str | None:
    """Why nothing can be mounted here; nothing if it can."""
    if os.geteuid() != 0:
        return "mounting a FUSE filesystem needs root"
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        return "there is no /dev/fuse"
    return None


class LossyDisks:
    """One filesystem for the data of each node, all served by one process that ends with this one."""

    def __init__(self, nodes: Sequence[Node], log: Path) -> None:
        """Moves the data of the nodes, which do not run, to mounted filesystems; there it counts as synced."""
        self._log = log
        self._directories = [node.directory / "data" for node in nodes]
        made = [directory.with_name("data.made") for directory in self._directories]
        for directory, aside in zip(self._directories, made, strict=True):
            directory.rename(aside)
            directory.mkdir()
        with log.open("ab") as errors:
            self._child = subprocess.Popen(
                [binary.find(PROGRAM), *self._directories],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                # An interrupt from the keyboard is for the test, which then ends this.
                start_new_session=True,
            )
        self._answer("mount")
        for directory, aside in zip(self._directories, made, strict=True):
            shutil.copytree(aside, directory, dirs_exist_ok=True)
        self.command("settle")

    def command(self, text: str) -> str:
        """What it answers to a command; see the program."""
        assert self._child.stdin is not None
        try:
            self._child.stdin.write(f"{text}\n")
            self._child.stdin.flush()
        except OSError:
            pass  # it ended: the missing answer tells
        return self._answer(text)

    def _answer(self, text: str) -> str:
        assert self._child.stdout is not None
        word, _, rest = self._child.stdout.readline().strip().partition(" ")
        if word != "ok":
            raise ClusterError(f"the lossy filesystem said `{word} {rest}` to `{text}`\n{last_lines(self._log)}")
        return rest

    def cut(self) -> None:
        """The power of all nodes goes at one moment."""
        self.command("cut")

    def power_on(self, seed: int) -> dict[str, int]:
        """The power is back; what was lost, and what was not synced and survived, over all nodes."""
        return totals(self.command(f"power-on {seed}"))

    def status(self, which: int | None = None) -> dict[str, int]:
        """What was done so far, by one node or over all."""
        return totals(self.command("status" if which is None else f"status {which}"))

    def close(self) -> None:
        """Unmounts; the data is gone."""
        assert self._child.stdin is not None
        try:
            self._child.stdin.close()
            self._child.wait(20)
        except (OSError, subprocess.TimeoutExpired):
            self._child.kill()
            self._child.wait()
        for directory in self._directories:
            if os.path.ismount(directory):
                subprocess.run(["umount", "--lazy", directory], check=False)


def totals(answer: str) -> dict[str, int]:
    """Sums the counts of all disks in an answer of `key=number` words."""
    counts: dict[str, int] = {}
    for word in answer.split():
        key, _, value = word.partition("=")
        if value.isdigit() and key != "disk":
            counts[key] = counts.get(key, 0) + int(value)
    return counts
