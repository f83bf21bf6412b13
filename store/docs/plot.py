"""Draws the plots of store/README.md from the results of `cargo bench --bench designs`, and writes its tables.

benchmark/.venv/bin/python store/docs/plot.py [RESULTS.json]

Without an argument it reads designs.json beside this file, which is what the page shows. All figures as tables
go to figures.md beside this file, and the most important ones into the page, between two comments: none of them is
typed by hand.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

HERE = Path(__file__).resolve().parent
PAGE = HERE.parent / "README.md"

ACTOR = "actor store"
DESIGNS = [
    ACTOR,
    "direct, runtime thread",
    "direct, blocking threads",
    "mutex around the handle",
    "textbook actor",
]
CONTROL = "(no store)"
# Bars carry their names, so that colour only says "ours" and "the others".
OURS, OTHERS, INK, FAINT = "#0b6e99", "#b3bcc4", "#22282d", "#dfe3e6"

Workloads = dict[str, Any]


def style() -> None:
    """One look for all plots, and the same bytes for the same numbers."""
    plt.rcParams.update(
        {
            "svg.fonttype": "none",
            "svg.hashsalt": "rorqual",
            "font.family": "sans-serif",
            "font.size": 9,
            "text.color": INK,
            "axes.edgecolor": FAINT,
            "axes.labelcolor": INK,
            "axes.titlesize": 9.5,
            "axes.titlelocation": "left",
            "axes.spines.top": False,
            "axes.spines.right": False,
            "xtick.color": INK,
            "ytick.color": INK,
            "ytick.major.size": 0,
            "figure.facecolor": "white",
        }
    )


def save(figure: Figure, name: str) -> None:
    """Writes one plot."""
    figure.savefig(HERE / f"{name}.svg", metadata={"Date": None}, bbox_inches="tight")
    plt.close(figure)


def figure_of(workload: dict[str, Any] | None, design: str, name: str) -> float | None:
    """The median of one figure; nothing if it was not measured."""
    if workload is None or "designs" not in workload:
        return None
    return workload["designs"].get(design, {}).get("median", {}).get(name)


def brief(value: float) -> str:
    """A number with three digits."""
    if value >= 999_500:
        return f"{value / 1e6:.3g} M"
    if value >= 9_995:
        return f"{value / 1e3:.0f} k"
    if value >= 999.5:
        return f"{value / 1e3:.1f} k"
    return f"{value:.3g}"


def duration(microseconds: float) -> str:
    """Microseconds as a person writes them."""
    if microseconds < 9.95:
        return f"{microseconds:.1f} µs"
    if microseconds < 999.5:
        return f"{microseconds:.0f} µs"
    if microseconds < 99_950:
        return f"{microseconds / 1e3:.1f} ms"
    if microseconds < 999_500:
        return f"{microseconds / 1e3:.0f} ms"
    return f"{microseconds / 1e6:.1f} s"


def megabytes(values_per_second: float) -> str:
    """What so many values of 512 KiB are."""
    return f"{values_per_second * 0.524288:.0f}"


def two_digits(value: float) -> str:
    """With two decimal digits."""
    return f"{value:.2f}"


def bars(
    axes: Axes,
    values: list[tuple[str, float | None]],
    title: str,
    names: bool,
    text: Callable[[float], str] = brief,
) -> None:
    """One bar a design, the first on top, with its value."""
    longest = max((value for _, value in values if value is not None), default=1.0)
    for place, (design, value) in enumerate(values):
        if value is None:
            axes.text(0, place, " not measured", va="center")
            continue
        axes.barh(place, value, height=0.68, color=OURS if design == ACTOR else OTHERS)
        axes.text(value + longest * 0.02, place, text(value), va="center", fontsize=8)
    axes.set_yticks(range(len(values)), [design for design, _ in values] if names else [])
    axes.invert_yaxis()
    axes.set_xlim(0, longest * 1.22)
    axes.set_xticks([])
    axes.spines["bottom"].set_visible(False)
    axes.set_title(title)


def writes(workloads: Workloads) -> None:
    """Operations per second of small values."""
    figure, grid = plt.subplots(2, 3, figsize=(10, 4.6))
    for row, durability in enumerate(["unsynced", "synced"]):
        for column, tasks in enumerate(["1 task", "8 tasks", "64 tasks"]):
            workload = workloads.get(f"write 512 B, {durability}, {tasks}")
            values = [(design, figure_of(workload, design, "operations_per_second")) for design in DESIGNS]
            bars(grid[row][column], values, f"{durability}, {tasks}", column == 0)
    figure.suptitle("Writes of 512 B by second (longer is better)", x=0.01, ha="left", fontsize=11)
    figure.tight_layout()
    save(figure, "writes")


def payload(workloads: Workloads) -> None:
    """Large values: how fast, and at what cost."""
    figure, grid = plt.subplots(4, 3, figsize=(10, 9))
    kinds = {
        "unsynced": "unsynced, 8 tasks",
        "sustained": "unsynced, 8 tasks, sustained",
        "oldest deleted": "unsynced, 8 tasks, the last 256 MiB kept",
        "synced": "synced, 8 tasks",
    }
    for row, (durability, kind) in enumerate(kinds.items()):
        workload = workloads.get(f"write 512 KiB, {kind}")
        rates = [(design, figure_of(workload, design, "operations_per_second")) for design in DESIGNS]
        speeds = [(design, None if rate is None else rate * 0.524288) for design, rate in rates]
        bars(grid[row][0], speeds, f"{durability}: MB/s (longer is better)", True)
        cpu = [(design, figure_of(workload, design, "cpu_ms_per_mb")) for design in DESIGNS]
        bars(grid[row][1], cpu, "CPU, ms by MB (shorter is better)", False)
        written = [(design, figure_of(workload, design, "written_bytes_per_byte")) for design in DESIGNS]
        bars(grid[row][2], written, "bytes to disk by byte (shorter is better)", False)
    figure.suptitle("Payload: values of 512 KiB from 8 tasks", x=0.01, ha="left", fontsize=11)
    figure.tight_layout()
    save(figure, "payload")


def spans(axes: Axes, workload: dict[str, Any] | None, designs: list[str], low: str, high: str) -> None:
    """A line for each design from one figure to another, on a logarithmic axis of microseconds."""
    axes.set_xscale("log")
    for place, design in enumerate(designs):
        start, end = figure_of(workload, design, low), figure_of(workload, design, high)
        if start is None or end is None:
            continue
        colour = OURS if design == ACTOR else "#7b858d"
        axes.plot([start, end], [place, place], color=colour, linewidth=2, alpha=0.5, solid_capstyle="butt")
        axes.plot(start, place, marker="o", color=colour, markersize=5)
        axes.plot(end, place, marker="|", color=colour, markersize=10, markeredgewidth=2)
        axes.text(end * 1.25, place, duration(end), va="center", fontsize=8)
    axes.set_ylim(len(designs) - 0.5, -0.5)
    axes.grid(axis="x", color=FAINT, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.xaxis.set_major_formatter(lambda value, _: duration(value).replace(".0", ""))
    axes.minorticks_off()
    axes.tick_params(axis="x", labelsize=7, length=0)


def panel_row(workloads: Workloads, panels: list[tuple[str, str]], low: str, high: str, title: str, name: str) -> None:
    """A row of such panels with one axis for all."""
    figure, grid = plt.subplots(1, len(panels), figsize=(2.9 * len(panels) + 1.5, 2.7), sharex=True)
    designs = [*DESIGNS, CONTROL] if low.startswith("unrelated") else DESIGNS
    for column, (workload, label) in enumerate(panels):
        spans(grid[column], workloads.get(workload), designs, low, high)
        grid[column].set_yticks(range(len(designs)), designs if column == 0 else [])
        grid[column].set_title(label)
        if low.startswith("unrelated"):
            grid[column].axvline(1000, color=INK, linewidth=0.8, linestyle=":")
    left, right = grid[0].get_xlim()
    grid[0].set_xlim(left, right * 6)
    figure.suptitle(title, x=0.01, ha="left", fontsize=11)
    figure.tight_layout()
    save(figure, name)


def paced_name(workloads: Workloads, prefix: str) -> str:
    """The name of the paced workload, which carries its rates."""
    return next((name for name in workloads if name.startswith(prefix)), prefix)


def delays(workloads: Workloads) -> None:
    """What the store does to others, and how long its own callers wait."""
    paced, slow = paced_name(workloads, "paced"), paced_name(workloads, "slow disk: paced")
    panels = [
        ("write 512 B, synced, 64 tasks", "512 B synced, 64 tasks"),
        (paced, "paced load"),
        (slow, "paced load, slow disk"),
    ]
    others = "How late an unrelated task of the same runtime is: 99th percentile (dot) to worst (bar); dotted: 1 ms"
    panel_row(workloads, panels, "unrelated_p99_us", "unrelated_max_us", others, "others")
    own = "How long a write takes: median (dot) to 99th percentile (bar)"
    panel_row(workloads, panels, "write_p50_us", "write_p99_us", own, "latency")


def notify(workloads: Workloads) -> None:
    """Fan-out of notify_read."""
    panels = [
        ("notify_read, 1 waiting", "1 waits"),
        ("notify_read, 100 waiting", "100 wait"),
        ("notify_read, 10000 waiting", "10 000 wait"),
        ("notify_read, 1 waiting, beside 8 tasks of synced writes", "1 waits, 8 tasks write, synced"),
    ]
    figure, grid = plt.subplots(1, 4, figsize=(12, 2.2))
    designs = {ACTOR: ACTOR, "textbook actor": "textbook actor", "direct, runtime thread": "look every millisecond"}
    for column, (name, title) in enumerate(panels):
        values = [(label, figure_of(workloads.get(name), design, "notify_p50_us")) for design, label in designs.items()]
        bars(grid[column], values, title, column == 0, duration)
    title = "From the call of write until half of those who wait have the value (shorter is better)"
    figure.suptitle(title, x=0.01, ha="left", fontsize=11)
    figure.tight_layout()
    save(figure, "notify")


def reads(workloads: Workloads) -> None:
    """Reads, alone and beside writes."""
    panels = [
        ("read 512 B from memory, 1 task", "512 B from memory, 1 task"),
        ("read 512 KiB from memory, 1 task", "512 KiB from memory, 1 task"),
        ("half reads, half writes, 512 B, unsynced, 64 tasks", "half reads, 512 B unsynced, 64 tasks"),
        ("half reads, half writes, 512 B, synced, 64 tasks", "half reads, 512 B synced, 64 tasks"),
    ]
    figure, grid = plt.subplots(1, 4, figsize=(12, 2.5))
    for column, (name, title) in enumerate(panels):
        rates = [(design, figure_of(workloads.get(name), design, "operations_per_second")) for design in DESIGNS]
        bars(grid[column], rates, title, column == 0)
    figure.suptitle("Operations by second with reads (longer is better)", x=0.01, ha="left", fontsize=11)
    figure.tight_layout()
    save(figure, "reads")


COLUMNS = [
    ("operations_per_second", "ops/s", brief),
    ("ratio", "actor ÷ this", two_digits),
    ("write_p50_us", "write p50", duration),
    ("write_p99_us", "p99", duration),
    ("read_p50_us", "read p50", duration),
    ("read_p99_us", "p99", duration),
    ("payload_p50_us", "payload p50", duration),
    ("payload_p99_us", "p99", duration),
    ("notify_p50_us", "woken p50", duration),
    ("notify_p99_us", "p99", duration),
    ("done_part", "done", lambda value: f"{value:.0%}"),
    ("unrelated_p99_us", "others p99", duration),
    ("unrelated_max_us", "worst", duration),
    ("unrelated_late_per_thousand", "> 1 ms", lambda value: f"{value:.1f} ‰"),
    ("waited_max_us", "waits, worst", duration),
    ("cpu_ms_per_mb", "CPU ms/MB", lambda value: f"{value:.3g}"),
    ("written_bytes_per_byte", "disk/B", two_digits),
]


def ratio(workload: dict[str, Any], design: str) -> float | None:
    """The median over the rounds of what the actor store did by what this design did in the same round."""
    name = "operations_per_second"
    ours, theirs = workload["designs"].get(ACTOR), workload["designs"][design]
    if ours is None or design == CONTROL:
        return None
    pairs = zip(ours["rounds"], theirs["rounds"], strict=True)
    values = sorted(mine[name] / other[name] for mine, other in pairs if other[name])
    if not values:
        return None
    middle = len(values) // 2
    return values[middle] if len(values) % 2 else (values[middle - 1] + values[middle]) / 2


def table(name: str, workload: dict[str, Any]) -> list[str]:
    """One workload in Markdown, without columns that nothing was measured for."""
    if "designs" not in workload:
        return [f"**{name}**: skipped, {workload['skipped']}", ""]
    order = [design for design in [*DESIGNS, CONTROL] if design in workload["designs"]]
    rows = {design: dict(workload["designs"][design]["median"], ratio=ratio(workload, design)) for design in order}
    used = [column for column in COLUMNS if any(row.get(column[0]) is not None for row in rows.values())]
    lines = [f"**{name}**", "", f"| design | {' | '.join(title for _, title, _ in used)} |"]
    lines.append("|---" * (len(used) + 1) + "|")
    for design, row in rows.items():
        cells = ["–" if row.get(key) is None else text(row[key]) for key, _, text in used]
        lines.append(f"| {design} | {' | '.join(cells)} |")
    return [*lines, ""]


def write_tables(results: dict[str, Any]) -> None:
    """All tables, as a page of their own beside the plots."""
    machine = results["machine"]
    commits = sorted({one["commit"] for one in results["workloads"] if "commit" in one})
    lines = [
        "# All figures",
        "",
        "Written by `store/docs/plot.py` from `store/docs/designs.json`. What the columns mean stands in",
        "[the page](../README.md#actor-or-direct-call).",
        "",
        f"{machine['processor']}, {machine['cores']} cores, Linux {machine['kernel']}, {machine['file_system']}; "
        f"commit {', '.join(commits)}.",
        "",
    ]
    for workload in results["workloads"]:
        lines += table(workload["name"], workload)
    (HERE / "figures.md").write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")


# The table in the page: workload, figure, title, and how it is written.
SUMMARY = [
    ("write 512 B, unsynced, 64 tasks", "operations_per_second", "512 B, unsynced: writes/s", brief),
    ("write 512 B, synced, 64 tasks", "operations_per_second", "512 B, synced: writes/s", brief),
    ("write 512 KiB, synced, 8 tasks", "operations_per_second", "512 KiB, synced: MB/s", megabytes),
    ("write 512 KiB, synced, 8 tasks", "cpu_ms_per_mb", "the same: CPU ns by byte", two_digits),
    (
        "write 512 KiB, synced, 8 tasks",
        "written_bytes_per_byte",
        "the same: disk by byte",
        two_digits,
    ),
    ("notify_read, 1 waiting", "notify_p50_us", "write to woken reader, p50", duration),
    ("paced", "write_p99_us", "small write beside payload, p99", duration),
    ("paced", "unrelated_max_us", "unrelated task late, worst", duration),
    ("slow disk: paced", "unrelated_max_us", "the same, slow disk", duration),
    ("slow disk: paced", "waited_max_us", "the runtime made to wait, slow disk", duration),
]
FIGURES = "<!-- figures: written by docs/plot.py -->", "<!-- end of figures -->"
TARGETS = "<!-- targets: written by docs/plot.py -->", "<!-- end of targets -->"


def write_summary(workloads: Workloads) -> None:
    """The table in the page: one row for each question, one column for each design."""
    lines = [f"| | {' | '.join(DESIGNS)} |", "|---" * (len(DESIGNS) + 1) + "|"]
    for name, figure, title, text in SUMMARY:
        workload = workloads.get(name) or workloads.get(paced_name(workloads, name))
        values = [figure_of(workload, design, figure) for design in DESIGNS]
        cells = ["–" if value is None else text(value) for value in values]
        lines.append(f"| {title} | {' | '.join(cells)} |")
    write_between(FIGURES, lines)


def write_targets(targets: list[dict[str, Any]]) -> None:
    """What the store is meant to reach, as the benchmark judged it."""
    lines = ["| target | measured | wanted | |", "|---|---|---|---|"]
    for target in targets:
        verdict = "holds" if target["holds"] else "**falls short**"
        note = f"; {target['note']}" if target["note"] else ""
        lines.append(f"| {target['what']} | {target['value']:.2f} | {target['wanted']} | {verdict}{note} |")
    write_between(TARGETS, lines)


def write_between(marks: tuple[str, str], lines: list[str]) -> None:
    """Replaces what stands in the page between two comments."""
    begin, end = marks
    before, rest = PAGE.read_text(encoding="utf-8").split(begin)
    _, after = rest.split(end)
    PAGE.write_text("\n".join([before + begin, "", *lines, "", end + after]), encoding="utf-8")


def main() -> int:
    """Everything from one file."""
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "designs.json"
    results = json.loads(path.read_text(encoding="utf-8"))
    if results.get("schema") != 1:
        print(f"{path}: schema {results.get('schema')}, this program reads 1", file=sys.stderr)
        return 1
    style()
    workloads = {workload["name"]: workload for workload in results["workloads"]}
    for draw in [writes, payload, delays, notify, reads]:
        draw(workloads)
    write_tables(results)
    write_summary(workloads)
    write_targets(results["targets"])
    return 0


if __name__ == "__main__":
    sys.exit(main())
