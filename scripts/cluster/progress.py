"""Says what is going on: one line rewritten on a terminal, a line every few seconds elsewhere."""

import sys
import time


class Progress:
    """What a person sees while something takes longer than two seconds."""

    def __init__(self, label: str, *, every: float = 5.0, quiet: float = 2.0) -> None:
        self._label = label
        self._every = every
        self._started = time.monotonic()
        self._terminal = sys.stdout.isatty()
        self._next = self._started + quiet
        self._shown = False

    def seconds(self) -> float:
        """Since the beginning."""
        return time.monotonic() - self._started

    def update(self, detail: str = "") -> None:
        """Shows the detail, if it is time to."""
        now = time.monotonic()
        if now < self._next:
            return
        line = f"{self._label} … {self.seconds():.0f} s  {detail}".rstrip()
        if self._terminal:
            print(f"\r\033[K{line[:118]}", end="", flush=True)
            self._next, self._shown = now + 0.2, True
        else:
            print(line, flush=True)
            self._next = now + self._every

    def done(self) -> None:
        """Clears the line."""
        if self._shown:
            print("\r\033[K", end="", flush=True)
            self._shown = False
