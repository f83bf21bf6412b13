"""One process of ours: started, recognised later, stopped; never mistaken for another with the same number."""

import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from . import ClusterError

_PR_SET_PDEATHSIG = 1
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class ProcessId:
    """A process id and the time at which the process started, in clock ticks since boot."""

    pid: int
    started: int

    def __str__(self) -> str:
        return f"{self.pid} {self.started}"

    @classmethod
    def parse(cls, text: str) -> "ProcessId | None":
        """Reads what `str` writes; nothing for anything else."""
        words = text.split()
        if len(words) != 2 or not all(word.isdigit() for word in words):
            return None
        return cls(int(words[0]), int(words[1]))

    @classmethod
    def of(cls, pid: int) -> "ProcessId | None":
        """The process that has this number now."""
        fields = _stat(pid)
        return cls(pid, int(fields[19])) if fields else None

    def is_alive(self) -> bool:
        """Whether this very process runs; one that has ended and was not waited for does not."""
        fields = _stat(self.pid)
        return fields is not None and fields[0] not in "ZX" and int(fields[19]) == self.started

    def send(self, number: signal.Signals) -> None:
        """Sends a signal, if the process still runs."""
        if self.is_alive():
            try:
                os.kill(self.pid, number)
            except ProcessLookupError:
                pass

    def wait(self, seconds: float) -> bool:
        """Waits for its end; whether it came."""
        deadline = time.monotonic() + seconds
        while self.is_alive():
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.02)
        self._reap()
        return True

    def stop(self, seconds: float) -> bool:
        """Asks it to end, and kills it if it does not; whether asking was enough."""
        self.send(signal.SIGTERM)
        if self.wait(seconds):
            return True
        self.kill()
        return False

    def kill(self) -> None:
        """Ends it without asking."""
        self.send(signal.SIGKILL)
        self.wait(10)

    def ended(self) -> int | None:
        """The exit code of a child of ours, or minus the signal that ended it; once, and nothing while it runs."""
        try:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
        except ChildProcessError:
            return None
        return os.waitstatus_to_exitcode(status) if pid else None

    def cpu_seconds(self) -> float:
        """Processor time it used so far, in user and kernel mode."""
        fields = _stat(self.pid)
        return (int(fields[11]) + int(fields[12])) / _TICKS if fields else 0.0

    def memory_bytes(self) -> tuple[int, int]:
        """Resident memory now, and at its peak."""
        try:
            lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        except OSError:
            return 0, 0
        values = {line.split(":")[0]: line.split()[1] for line in lines if line.startswith(("VmRSS:", "VmHWM:"))}
        return int(values.get("VmRSS", 0)) * 1024, int(values.get("VmHWM", 0)) * 1024

    def _reap(self) -> None:
        """Lets go of the process if it was a child of ours."""
        try:
            os.waitpid(self.pid, os.WNOHANG)
        except (ChildProcessError, OSError):
            pass


def _stat(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat after the name, which may itself hold blanks and brackets."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    return text[text.rindex(")") + 2 :].split()


def _end_with_parent() -> Callable[[], None]:
    """To be run in the child: the kernel kills it when the thread that started it ends, however that comes."""
    libc = ctypes.CDLL(None, use_errno=True)
    parent = os.getpid()

    def prepare() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)

    return prepare


def start(command: Sequence[str | Path], log: Path, *, bound: bool) -> ProcessId:
    """Starts a process in a session of its own, its output appended to `log`.

    With `bound` it does not outlive the thread that calls this.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        try:
            child = subprocess.Popen(
                [str(word) for word in command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_end_with_parent() if bound else None,
            )
        except OSError as error:
            raise ClusterError(f"cannot start {command[0]}: {error.strerror}") from error
    process = ProcessId.of(child.pid)
    # It is a child of ours and not yet waited for, so its number cannot belong to anybody else.
    assert process is not None
    # Ends are seen in /proc; the handle would complain that it was never waited for.
    child.returncode = 0
    return process


def last_lines(log: Path, count: int = 15) -> str:
    """The last lines of a file, indented."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 64 * 1024))
            lines = file.read().decode(errors="replace").splitlines()[-count:]
    except OSError as error:
        return f"    ({log}: {error.strerror})"
    return "\n".join(f"    {line}" for line in lines) or "    (it logged nothing)"
