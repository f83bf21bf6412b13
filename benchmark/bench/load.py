"""The load generator as a process: its lines, and what became of it."""

import json
import queue
import subprocess
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from cluster import ClusterError
from cluster.process import ProcessId

from .parameters import Parameters

# Beyond the duration: waiting for the last receipts, connecting.
DRAIN_SECONDS = 30
SLACK_SECONDS = 15


def command(binary: Path, parameters: Parameters, addresses: Sequence[str]) -> list[str]:
    """How the load generator is called."""
    words = [str(binary)]
    for address in addresses:
        words += ["--node", address]
    words += ["--rate", str(parameters.rate), "--tx-size", str(parameters.tx_size)]
    words += ["--duration", f"{parameters.duration_s}s", "--warm-up", f"{parameters.warm_up_s}s"]
    words += ["--drain", f"{DRAIN_SECONDS}s", "--tick", f"{round(parameters.tick_ms * 1000)}us"]
    words += ["--submission", str(parameters.submission), "--payload", parameters.payload]
    return words


def run(
    words: Sequence[str],
    seconds: float,
    each_second: Callable[[dict[str, Any]], None],
    while_waiting: Callable[[], None],
) -> tuple[dict[str, Any], float]:
    """Runs it; `while_waiting` is called several times a second and may end it by failing.

    Returns its result line and the processor time it used.
    """
    child = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL)
    process = ProcessId.of(child.pid)
    lines: queue.Queue[str | None] = queue.Queue()
    complaints: list[str] = []

    def read_lines() -> None:
        assert child.stdout is not None
        for line in child.stdout:
            lines.put(line)
        lines.put(None)

    def read_complaints() -> None:
        assert child.stderr is not None
        complaints.extend(line.strip() for line in child.stderr)

    readers = [threading.Thread(target=target, daemon=True) for target in (read_lines, read_complaints)]
    for reader in readers:
        reader.start()
    result: dict[str, Any] | None = None
    cpu_s = 0.0
    waits = (seconds + DRAIN_SECONDS + SLACK_SECONDS) / 0.25
    try:
        while True:
            try:
                line = lines.get(timeout=0.25)
            except queue.Empty:
                waits -= 1
                if waits < 0:
                    raise ClusterError("the load generator did not end in time") from None
                while_waiting()
                continue
            if line is None:
                break
            message = json.loads(line)
            cpu_s = process.cpu_seconds() if process and process.is_alive() else cpu_s
            if "second" in message:
                each_second(message["second"])
            result = message.get("result", result)
        child.wait()
    finally:
        if child.poll() is None:
            child.kill()
            child.wait()
        for reader in readers:
            reader.join(timeout=5)
    if result is None:
        why = "; ".join(complaints[-3:]) or f"it ended with code {child.returncode} and said nothing"
        raise ClusterError(f"the load generator failed: {why}")
    return result, cpu_s
