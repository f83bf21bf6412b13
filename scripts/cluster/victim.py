"""A node that may end at any moment, and must then say why."""

import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from . import ClusterError, process
from .flips import Flip
from .local import STOP_SECONDS, Node
from .process import ProcessId
from .progress import Progress

# Longest that a node may take for anything: to start or refuse, to be ready, to commit, to have the log of the others.
SECONDS = 30.0
# What nobody may ever say.
CONFESSIONS = ("equivocation", "fork:", "panicked")
# One of these must be in the last words of a node that ends.
REMEDIES = ("`rorqual verify-store`", "must not sign again")


class Wrong(ClusterError):
    """A node did what it must never do."""


class Ended(Exception):
    """The damaged node has ended; how is for the caller to judge."""


def complaint(code: int, said: str, data: Path, flip: Flip) -> str | None:
    """Nothing if a node ended as it may: with a code, what is damaged and what to do about it; else why not."""
    last = (said.strip().splitlines() or [""])[-1]
    if code not in (1, 2) or not last.startswith("rorqual: "):
        return f"the code is {code} and the last words: {last or 'none'}"
    if not any(name in last for name in (str(data), Path(flip.name).name, "amnesia:", "safety record", "column ")):
        return f"it does not say what is damaged: {last}"
    if not any(remedy in last for remedy in REMEDIES):
        return f"it does not say what to do: {last}"
    return None


def confession(said: str) -> str | None:
    """A line that no node may ever say."""
    return next((line for line in said.splitlines() if any(word in line for word in CONFESSIONS)), None)


class Victim:
    """A node with a damaged directory."""

    def __init__(self, program: Path, node: Node) -> None:
        self._program = program
        self.node = node
        self.data = node.directory / "data"
        self._process: ProcessId | None = None
        self._code: int | None = None
        self._read = 0

    def start(self) -> None:
        """Starts it; what it said before is over."""
        self._code = None
        self._read = self.node.log.stat().st_size if self.node.log.exists() else 0
        self._process = process.start([self._program, "run", "--config", self.node.config], self.node.log, bound=True)

    def said(self) -> str:
        """What it said since it was started."""
        with self.node.log.open("rb") as file:
            file.seek(self._read)
            return file.read().decode(errors="replace")

    def code(self) -> int | None:
        """How it ended, if it did."""
        if self._process is not None and (code := self._process.ended()) is not None:
            self._process, self._code = None, code
        return self._code

    def wait(self, what: str, done: Callable[[], bool]) -> None:
        """Waits for it.

        Raises `Ended` if the node ends meanwhile, and `Wrong` if nothing happens for too long.
        """
        progress = Progress(f"waiting until {self.node.name} {what}")
        while True:
            if self.code() is not None:
                raise Ended
            if done():
                progress.done()
                return
            if progress.seconds() > SECONDS:
                raise Wrong(f"{self.node.name} was not seen to end, nor that it {what}, within {SECONDS:.0f} s")
            progress.update()
            time.sleep(0.02)

    def stop(self) -> None:
        """Asks it to end, which it must do."""
        if self._process is None:
            return
        self._process.send(signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS
        while self.code() is None:
            if time.monotonic() > deadline:
                self.kill()
                raise Wrong(f"{self.node.name} did not end within {STOP_SECONDS:.0f} s of SIGTERM")
            time.sleep(0.02)

    def kill(self) -> None:
        """Ends it, whatever it is doing."""
        if self._process is not None:
            self._process.kill()
            self._process = None

    def command(self, name: str) -> tuple[int, str]:
        """Exit code and output of a command on its directory; it must not run."""
        words = [self._program, name, "--config", self.node.config]
        try:
            result = subprocess.run(words, capture_output=True, text=True, errors="replace", timeout=SECONDS)
        except subprocess.TimeoutExpired:
            raise Wrong(f"`rorqual {name}` did not end within {SECONDS:.0f} s") from None
        output = result.stdout + result.stderr
        if result.returncode not in (0, 1, 2) or confession(output):
            raise Wrong(f"`rorqual {name}` ended with code {result.returncode}\n{output}")
        return result.returncode, output


def soon(condition: Callable[[], bool], seconds: float = 0.5) -> bool:
    """Whether it comes true within a moment."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
