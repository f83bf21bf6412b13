"""Flips bits in the files of a node and looks what it does: it repairs, or names the damage, or refuses; it never lies.

A cluster of four works under load, ends at one moment, and the directories of all four are put aside: one *cut* after
`kill -9`, one after SIGTERM. Every placement begins with fresh copies of one whole cut. So no node is ever older than
what its peers know of it, which would be amnesia and no damage; and placements are independent, so that one can be
repeated alone (`--directory`, `--first`).

A placement starts the damaged node first and its peers only if it lives: one that refuses costs no time. A node may

- refuse to start, or stop, with an exit code, what is damaged, and what to do about it;
- go on, and then commit through every node, with one log everywhere, which holds all that had been read before the cut;
- go on, and answer the read of a damaged value with an error.

Where it did not just go on, `rorqual repair` is tried, as the error says: then the node takes part again, with the
whole log, or it says that it must not sign and refuses to start. Nothing else is allowed: two blocks of one round, logs
that differ, a panic, an end without a reason, or silence.
"""

import argparse
import json
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from . import ClusterError, agreement, binary, endpoint, flips, trial
from .cuts import CUTS, Cut, Cuts, falsehood
from .lines import Receipt
from .local import Node
from .process import last_lines
from .progress import Progress
from .table import table
from .victim import SECONDS, Ended, Victim, Wrong, complaint, confession, soon

SCRIPT = "scripts/damage_test.sh"
GOES_ON = "goes on"
# What a node says of one damaged slot of its safety record.
WARNING = "torn or damaged"
# A segment holds records that nothing refers to: those of a group that a kill cut short. A table has a filter, which
# only saves looks into it, and which nothing reads that is not looking for a key. What is in the other files RocksDB
# takes for granted, or makes anew.
MAY_BE_UNSEEN = ("segment", "table", "other")
# Of a table's bytes the filter is the smaller part: most placements must be seen.
UNSEEN_TABLES_PERCENT = 25
# Commit time stands still while no node runs, and deadlines count from it: the first lines after that may be refused.
STALE = ("its deadline has passed", "further ahead of commit time")


@dataclass(frozen=True)
class Outcome:
    """What came of one placement."""

    # What `verify-store` said before the node started.
    verified: str
    at_first: str = "?"
    repaired: str = "-"


class Placement:
    """One damage, and what comes of it."""

    def __init__(self, cuts: Cuts, number: int, kind: str, cut: Cut, seed: int) -> None:
        # Of its own, so that a placement can be repeated alone.
        chance = random.Random(f"{seed}/{number}")
        self._cluster = cuts.cluster
        node = chance.choice(cuts.cluster.nodes)
        flip = flips.choose(cut.directory / node.name, kind, chance)
        if flip is None:
            # A clean stop leaves hardly anything in the log.
            cut = cuts.of[CUTS[0]]
            flip = flips.choose(cut.directory / node.name, kind, chance)
        assert flip is not None
        self._cut, self.flip = cut, flip
        self._others = [other for other in cuts.cluster.nodes if other is not node]
        self._victim = Victim(cuts.cluster.binary, node)
        self.title = f"placement {number}: {flip} of {node.name}, {cut.name}"
        self.wrongs: list[str] = []
        self._receipts = list(cut.receipts)
        cuts.restore(cut)
        flip.apply(self._victim.data)

    def run(self) -> Outcome:
        """What came of it; what is not allowed is added to `wrongs`."""
        victim = self._victim
        outcome = Outcome("?")
        try:
            code, output = victim.command("verify-store")
            outcome = Outcome("names it" if code else "a note" if "note: " in output else "nothing")
            outcome = replace(outcome, at_first=self._first_start())
            self._check_peers()
            if outcome == Outcome("nothing", GOES_ON) and self.flip.kind not in MAY_BE_UNSEEN:
                self._wrong("nobody sees the damage")
            if code != 0 or not outcome.at_first.startswith(GOES_ON):
                outcome = replace(outcome, repaired=self._repair())
                self._check_peers()
        except ClusterError as wrong:
            first, _, details = str(wrong).partition("\n")
            self._wrong(first, details)
        finally:
            victim.kill()
            self._cluster.kill()
        return outcome

    def _wrong(self, what: str, details: str = "") -> None:
        node = self._victim.node
        self.wrongs.append(f"{self.title}: {what}\n{details}\nlast log lines of {node.name}:\n{last_lines(node.log)}")

    def _first_start(self) -> str:
        """Starts the damaged node and says what it did."""
        victim = self._victim
        victim.start()
        started = False
        try:
            victim.wait("serves", lambda: endpoint.liveness(victim.node.http) is None)
            started = True
            self._take_part()
            refused = self._read_log()
        except Ended:
            return self._judge_end("stops" if started else "refuses")
        victim.stop()
        if victim.code() == 0:
            if refused is None:
                return f"{GOES_ON}, warns" if WARNING in victim.said() else GOES_ON
            if wrong := complaint(1, refused, victim.data, self.flip):
                self._wrong(f"a read fails, and {wrong}")
            return "a read fails"
        return self._judge_end("stops")

    def _judge_end(self, how: str) -> str:
        """The damaged node has ended by itself: it must have said why."""
        code, said = self._victim.code(), self._victim.said()
        assert code is not None
        if wrong := complaint(code, said, self._victim.data, self.flip):
            self._wrong(wrong)
        return f"{how}: amnesia" if "amnesia:" in said.strip().splitlines()[-1] else f"{how}: damage"

    def _take_part(self) -> None:
        """With its peers the node becomes ready, commits, and has executed what they have."""
        victim, others, cluster = self._victim, self._others, self._cluster
        cluster.start(others)
        nodes = [victim.node, *others]
        victim.wait("and its peers are ready", lambda: all(endpoint.readiness(node.http) is None for node in nodes))
        for node in (others[0], victim.node):
            self._commit(node)
        victim.wait("has executed what its peers have", lambda: len({agreement.positions(node) for node in nodes}) == 1)

    def _commit(self, node: Node) -> None:
        """A line through a node has a receipt."""
        progress = Progress(f"committing through {node.name}")
        while True:
            line = f"{time.monotonic_ns()} through {node.name}"
            words = ["submit", "--node", node.client, "--text", line, "--timeout", f"{SECONDS:.0f}s", "--json"]
            result = subprocess.run([self._cluster.binary, *words], capture_output=True, text=True, check=False)
            if result.returncode == 0:
                self._receipts.append(Receipt(line, json.loads(result.stdout)["position"]))
                progress.done()
                return
            if soon(lambda: self._victim.code() is not None):
                raise Ended
            if not any(reason in result.stderr for reason in STALE) or progress.seconds() > SECONDS:
                raise Wrong(f"nothing is committed through {node.name}: {result.stderr.strip()}")
            progress.update(result.stderr.strip())

    def _read_log(self) -> str | None:
        """Compares the logs of all nodes; why the damaged one does not print all of its own, if so."""
        victim, program = self._victim.node, self._cluster.binary
        logs = {node.name: binary.run(program, "log", "--node", node.client, "--from", "0") for node in self._others}
        words = [program, "log", "--node", victim.client, "--from", "0"]
        try:
            result = subprocess.run(words, capture_output=True, text=True, errors="replace", timeout=SECONDS)
        except subprocess.TimeoutExpired:
            raise Wrong(f"{victim.name} does not print its log within {SECONDS:.0f} s") from None
        refused = None
        if result.returncode == 0:
            logs[victim.name] = result.stdout
        elif soon(lambda: self._victim.code() is not None):
            raise Ended
        elif not next(iter(logs.values())).startswith(result.stdout):
            raise Wrong(f"{victim.name} prints another log before it fails")
        else:
            refused = result.stderr.strip()
        if wrong := falsehood(Cut(self._cut.name, self._cut.directory, self._cut.known, self._receipts), logs):
            raise Wrong(wrong)
        return refused

    def _repair(self) -> str:
        """Does what the error says; the node takes part again, or it must not sign."""
        victim = self._victim
        code, output = victim.command("repair")
        victim.start()
        try:
            victim.wait("serves", lambda: endpoint.liveness(victim.node.http) is None)
            if code != 0:
                raise Wrong(f"the node starts although `rorqual repair` ended with code {code}\n{output}")
            self._take_part()
            victim.wait("has its log whole again", lambda: self._read_log() is None)
        except Ended:
            end = self._judge_end("after the repair")
            if code == 0 or not end.endswith("amnesia"):
                raise Wrong(f"it does not start after `rorqual repair` ended with code {code}\n{output}") from None
            return "must not sign"
        victim.stop()
        if victim.code() != 0:
            raise Wrong("it does not stop cleanly after the repair")
        verified, found = victim.command("verify-store")
        if verified != 0:
            raise Wrong(f"it is damaged after the repair\n{found}")
        return "whole again"

    def _check_peers(self) -> None:
        """No node has seen two blocks of one round, or a broken rule; none has said what none may say."""
        for node in self._others:
            if node.process() is None:
                if node.log.stat().st_size:
                    raise Wrong(node.epitaph())
                continue
            for (name, labels), value in endpoint.metrics(node.http).items():
                if name in ("rorqual_equivocations_total", "rorqual_peer_refused_total") and value > 0:
                    raise Wrong(f"{node.name} counts {value:.0f} in {name} {dict(labels)}")
        for node in self._cluster.nodes:
            if line := confession(node.log.read_text(errors="replace")):
                raise Wrong(f"{node.name} says: {line}")


def report(outcomes: dict[str, list[Outcome]]) -> str:
    """A row for each way in which it went, by kind."""
    rows = []
    for kind, found in outcomes.items():
        for outcome, count in sorted(Counter(found).items(), key=lambda item: (-item[1], str(item[0]))):
            rows.append([kind, count, outcome.verified, outcome.at_first, outcome.repaired])
    return table(["kind", "placements", "verify-store says", "the node", "after repair"], rows)


def run(args: argparse.Namespace, directory: Path) -> str:
    """All placements; what to print if all is well."""
    place = args.directory or directory
    print(f"seed {args.seed}; the same with --seed and --directory {place} damages the same bits", flush=True)
    cuts = Cuts(place)
    kinds = args.kinds or list(flips.KINDS)
    outcomes: dict[str, list[Outcome]] = {kind: [] for kind in kinds}
    wrongs: list[str] = []
    progress = Progress("placements")
    for number in range(args.first, args.first + args.placements):
        kind, cut = kinds[number % len(kinds)], CUTS[number // len(kinds) % len(CUTS)]
        placement = Placement(cuts, number, kind, cuts.of[cut], args.seed)
        progress.update(f"{number - args.first} of {args.placements}, {len(wrongs)} wrong; now {placement.flip}")
        outcomes[kind].append(placement.run())
        if args.verbose or placement.wrongs:
            progress.done()
            print(f"{placement.title}: {outcomes[kind][-1]}", flush=True)
        for wrong in placement.wrongs:
            print(f"WRONG: {wrong}", flush=True)
        wrongs += placement.wrongs
    progress.done()
    print(report(outcomes))
    unseen = outcomes.get("table", []).count(Outcome("nothing", GOES_ON))
    if unseen > 2 and unseen * 100 > len(outcomes["table"]) * UNSEEN_TABLES_PERCENT:
        wrongs.append(f"nobody sees {unseen} of {len(outcomes['table'])} damages of tables")
    if wrongs:
        raise ClusterError(f"{len(wrongs)} times something went wrong in {args.placements} placements: {wrongs[0]}")
    return f"{args.placements} placements: damage was repaired, named or refused; no log differs, nobody signed twice"


def main(arguments: Sequence[str]) -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(prog=SCRIPT, description="Flips bits in the files of nodes of a cluster.")
    parser.add_argument("--placements", type=int, default=200, help="default: 200")
    parser.add_argument("--first", type=int, default=0, help="the number of the first placement; default: 0")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().getrandbits(32))
    parser.add_argument("--only", dest="kinds", action="append", choices=list(flips.KINDS), help="default: all")
    parser.add_argument("--directory", type=Path, help="keep the cuts here, or use those that are there")
    parser.add_argument("--verbose", action="store_true", help="say what came of every placement")
    args = parser.parse_args(arguments)
    return trial.run("damage-", ("rorqual", "rorqual-load"), lambda directory: run(args, directory))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
