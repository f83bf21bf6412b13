"""A run on this machine: real node processes, one load generator, one results file."""

import datetime
import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from cluster import ClusterError, agreement, binary
from cluster.local import Cluster, Node, locked
from cluster.process import last_lines
from cluster.progress import Progress

from . import load, measure, report
from .parameters import Parameters, UsageError

# Between ready and an idle run.
SETTLE_SECONDS = 5.0


def directory() -> Path:
    """Where nodes keep their data during a run: on a disk, unlike /tmp on many machines."""
    if chosen := os.environ.get("RORQUAL_BENCHMARK_DIR"):
        return Path(chosen).absolute()
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "rorqual" / "benchmark"


def clear(place: Path) -> None:
    """Removes what the run before left behind."""
    if Cluster.exists(place):
        left = Cluster.load(place, bound=True).running()
        if left:
            raise ClusterError(f"{left[0].name} of an earlier run still runs: stop it with `fab kill`")
    elif place.exists() and any(place.iterdir()):
        raise ClusterError(f"{place} holds something else: set RORQUAL_BENCHMARK_DIR to a directory of its own")
    shutil.rmtree(place, ignore_errors=True)


def run(parameters: Parameters, *, keep: bool = False) -> report.Result:
    """One run. Data is removed at the end, logs stay until the next run."""
    parameters.check()
    place = directory()
    with locked(place):
        clear(place)
        program = binary.find("rorqual-load")
        options = ["--durability", parameters.durability, "--profile", parameters.profile]
        cluster = Cluster.create(place, parameters.nodes, *options, bound=True)
        cluster.settings = dict(parameters.settings)
        try:
            return _run(cluster, parameters, program)
        finally:
            try:
                cluster.stop()
            finally:
                cluster.kill()
                if not keep:
                    for node in cluster.nodes:
                        shutil.rmtree(node.directory / "data", ignore_errors=True)


def _run(cluster: Cluster, parameters: Parameters, program: Path) -> report.Result:
    live = cluster.nodes[: parameters.nodes - parameters.faults]
    print(f"Starting {len(live)} of {parameters.nodes} nodes ({parameters.durability}) in {cluster.directory}")
    cluster.start(live)
    cluster.wait_ready(live)
    if parameters.rate == 0:
        _settle(cluster, live)
    started_at = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    before = [measure.read(node) for node in live]
    watch = Window(live[0], parameters)
    offered = _idle if parameters.rate == 0 else _offer
    answer, load_cpu = offered(cluster, live, parameters, program, watch)
    cluster.check_alive(live)
    after = [measure.read(node) for node in live]
    exact = answer["unknown"] == 0
    problem = agreement.problem(cluster.binary, live, before[0].positions, answer["committed"], exact)
    tps = watch.tps()
    return {
        "schema": report.SCHEMA,
        "commit": report.commit(),
        "started_at": started_at,
        "parameters": parameters.as_json(),
        **answer,
        "consensus": {
            "tps": round(tps, 1),
            "bps": round(tps * parameters.tx_size, 1),
            "latency_ms": measure.stage_latency_ms(before, after, "sealed_to_committed"),
        },
        "stages_ms": {stage: measure.stage_latency_ms(before, after, stage) for stage in measure.STAGES},
        "measured_wall_s": round(after[0].at - before[0].at, 3),
        "per_node": [measure.per_node(*triple) for triple in zip(live, before, after, strict=True)],
        "load": {"cpu_s": round(load_cpu, 2)},
        "machine": measure.machine(),
        "file_system": measure.file_system(cluster.directory),
        "consistent": problem is None,
        "inconsistency": problem,
    }


def _offer(
    cluster: Cluster, live: Sequence[Node], parameters: Parameters, program: Path, watch: "Window"
) -> tuple[dict[str, Any], float]:
    """Runs the load generator; its result, and the processor time it took."""
    print(f"Offering {parameters.rate:,} tx/s of {parameters.tx_size} B for {parameters.duration_s} s")
    words = load.command(program, parameters, [node.client for node in live])

    def each_second(second: dict[str, Any]) -> None:
        watch.second(second)
        print(second_line(second), flush=True)

    return load.run(words, parameters.duration_s, each_second, lambda: cluster.check_alive(live))


def _idle(
    cluster: Cluster, live: Sequence[Node], parameters: Parameters, _program: Path, _watch: "Window"
) -> tuple[dict[str, Any], float]:
    """Offers nothing: what the nodes cost by themselves."""
    print(f"Offering nothing for {parameters.duration_s} s")
    last = [(time.monotonic(), measure.cpu_seconds(node)) for node in live]
    for t_s in range(1, parameters.duration_s + 1):
        time.sleep(1)
        cluster.check_alive(live)
        now = [(time.monotonic(), measure.cpu_seconds(node)) for node in live]
        shares = [(cpu - old_cpu) / (at - old_at) for (at, cpu), (old_at, old_cpu) in zip(now, last, strict=True)]
        last = now
        print(f"{t_s:4d} s  cores used: {', '.join(f'{share:.3f}' for share in shares)}", flush=True)
    return dict(report.NOTHING, measured_s=parameters.duration_s), 0.0


def _settle(cluster: Cluster, live: Sequence[Node]) -> None:
    """Lets what a start costs pass."""
    progress = Progress("letting the nodes come to rest")
    while progress.seconds() < SETTLE_SECONDS:
        cluster.check_alive(live)
        progress.update()
        time.sleep(0.2)
    progress.done()


class Window:
    """How far execution of one node came between the warm-up and the end of the schedule."""

    def __init__(self, node: Node, parameters: Parameters) -> None:
        self._node = node
        self._from = max(1, parameters.warm_up_s)
        self._to = parameters.duration_s
        self._readings: list[tuple[float, int]] = []

    def second(self, second: dict[str, Any]) -> None:
        """Told at the end of every second."""
        if self._from <= second["t_s"] <= self._to:
            reading = measure.read(self._node)
            self._readings.append((reading.at, reading.positions))

    def tps(self) -> float:
        """Transactions executed a second; 0 if there is nothing to tell it from."""
        if len(self._readings) < 2:
            return 0.0
        (start, low), (end, high) = self._readings[0], self._readings[-1]
        return (high - low) / (end - start) if end > start else 0.0


def second_line(second: dict[str, Any]) -> str:
    """What is shown while it runs."""
    parts = [
        f"{second['t_s']:4d} s",
        f"{second['tps']:>9,} tx/s",
        f"p50 {second['p50_ms']:8.1f} ms",
        f"p99 {second['p99_ms']:8.1f} ms",
        f"waiting {second['outstanding']:,}",
    ]
    if second["behind"]:
        parts.append(f"behind {second['behind']:,}")
    return "  ".join(parts)


def sweep(parameters: Parameters, rates: Sequence[int], runs: int, *, keep: bool) -> list[report.Result]:
    """All runs; every result is written as soon as it is there. Fails after a run that failed."""
    results = []
    if runs < 1 or not rates:
        raise UsageError("there is nothing to run: --runs is at least 1, and --rate names at least one rate")
    for rate in rates:
        replace(parameters, rate=rate).check()
    binary.build("rorqual", "rorqual-load")
    for rate in rates:
        for number in range(runs):
            one = replace(parameters, rate=rate)
            result = run(one, keep=keep)
            stamp = time.strftime("%Y%m%d-%H%M%S")
            path = report.save(result, f"{stamp}-{one.label()}" + (f"-{number}" if runs > 1 else ""))
            print(report.summary(result))
            for remark in report.remarks(result):
                print(f"Note: {remark}")
            print(f"Written to {path}")
            results.append(result)
            if reason := report.why_failed(result):
                raise ClusterError(reason)
    return results


def show_logs(lines: int) -> int:
    """The end of each node's log of the last run."""
    place = directory()
    if not Cluster.exists(place):
        raise ClusterError("there was no run yet: start one with `fab local`")
    for node in Cluster.load(place, bound=True).nodes:
        said = last_lines(node.log, lines) if node.log.exists() else "    (it was not started)"
        print(f"{node.name} ({node.log})\n{said}\n")
    return 0


def kill() -> int:
    """Ends the nodes of a run that is under way or was left behind; nothing else."""
    place = directory()
    running = Cluster.load(place, bound=True).running() if Cluster.exists(place) else []
    for node in running:
        if process := node.process():
            process.kill()
    print(f"{len(running)} nodes were killed" if running else "No node of a benchmark is running")
    return len(running)
