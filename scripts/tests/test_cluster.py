"""The parts of the cluster scripts that need no cluster."""

import os
import random
import signal
import subprocess
import tempfile
import time
import unittest
from pathlib import Path

from cluster import ClusterError, agreement, cuts, demo, flips, lines, log, lossy, process, victim
from cluster.endpoint import parse_metrics
from cluster.process import ProcessId, last_lines
from cluster.table import table


class LogTest(unittest.TestCase):
    def test_every_line_exactly_as_often_as_it_was_submitted(self) -> None:
        lines = [b"a", b"", b"b", b"", b"\xff\x00"]
        entries = log.parse("0\t\n1\tb\n2\ta\n3\tff00\n4\t\n")
        self.assertIsNone(log.miscounted(lines, entries))
        self.assertIn("once", log.miscounted([*lines, b"c"], entries) or "")
        self.assertIn("2 times", log.miscounted([*lines, b"a"], entries) or "")
        self.assertIn("nobody", log.miscounted(lines[1:], entries) or "")

    def test_positions_are_dense(self) -> None:
        self.assertIsNone(log.gap(log.parse("7\ta\n8\tb\n")))
        self.assertIn("7", log.gap(log.parse("7\ta\n9\tb\n")) or "")

    def test_a_broken_line_is_named(self) -> None:
        with self.assertRaises(ClusterError):
            log.parse("hello\n")

    def test_only_a_line_feed_ends_a_line(self) -> None:
        self.assertEqual([entry.text for entry in log.parse("0\ta\u2028b\n1\t\n")], ["a\u2028b", ""])


class DemoVerdictTest(unittest.TestCase):
    def test_the_last_line_of_a_failure_holds_its_reason(self) -> None:
        said = "submitting through node-0 failed:\n5 of 9 committed\nrorqual: refused: the disk is nearly full\n"
        self.assertEqual(
            demo.one_sentence(said), "submitting through node-0 failed: rorqual: refused: the disk is nearly full"
        )
        self.assertEqual(demo.one_sentence("no such file"), "no such file")
        self.assertEqual(demo.one_sentence(""), "no reason was given")


class KillTestTest(unittest.TestCase):
    def test_what_had_a_receipt_must_be_there_once(self) -> None:
        found = log.parse("5\ta\n6\tb\n7\t0aff\n")
        receipts = [lines.Receipt("a", 5), lines.Receipt("b", 6)]
        self.assertIsNone(lines.lost(["a", "b", "c"], receipts, 1, found))
        self.assertIn("position 8", lines.lost(["a"], [lines.Receipt("a", 8)], 0, found) or "")
        self.assertIn("holds `b`", lines.lost(["a"], [lines.Receipt("a", 6)], 0, found) or "")
        self.assertIn("only 1", lines.lost(["a", "b"], receipts, 2, found) or "")
        self.assertIn("2 times", lines.lost(["a", "b"], receipts, 0, [*found, log.Entry(8, "b")]) or "")


class DemoTest(unittest.TestCase):
    def test_lines_are_dealt_in_turn_and_none_is_lost(self) -> None:
        hands = demo.deal([b"0", b"1", b"2", b"3", b"4"], 4)
        self.assertEqual(hands, [[b"0", b"4"], [b"1"], [b"2"], [b"3"]])

    def test_what_is_compared(self) -> None:
        good = "0\ta\n1\tb\n"
        self.assertIsNone(demo.difference([b"b", b"a"], [good, good]))
        self.assertIn("differ", demo.difference([b"b", b"a"], [good, "0\tb\n1\ta\n"]) or "")
        self.assertIn("once", demo.difference([b"b", b"a", b"c"], [good, good]) or "")

    def test_the_last_line_may_lack_its_end(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "file"
            file.write_bytes(b"one\r\n\ntwo")
            self.assertEqual(demo.read_lines(file), [b"one", b"", b"two"])
            file.write_bytes(b"")
            with self.assertRaises(ClusterError):
                demo.read_lines(file)


class ProcessTest(unittest.TestCase):
    def test_a_number_that_was_used_again_is_not_ours(self) -> None:
        me = ProcessId.of(os.getpid())
        assert me is not None
        self.assertTrue(me.is_alive())
        self.assertFalse(ProcessId(me.pid, me.started + 1).is_alive())
        self.assertEqual(ProcessId.parse(str(me)), me)
        for text in ("", "12", "12 x", "1 2 3"):
            self.assertIsNone(ProcessId.parse(text))

    def test_start_stop_kill(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            output = Path(folder) / "log"
            polite = process.start(["sh", "-c", "echo hello; exec sleep 60"], output, bound=True)
            while "hello" not in output.read_text():
                time.sleep(0.01)
            self.assertTrue(polite.stop(10))
            self.assertFalse(polite.is_alive())
            self.assertEqual(last_lines(output), "    hello")
            deaf = process.start(
                ["sh", "-c", "trap '' TERM; echo deaf; while :; do sleep 0.1; done"], output, bound=True
            )
            while "deaf" not in output.read_text():
                time.sleep(0.01)
            self.assertFalse(deaf.stop(0.2))
            self.assertFalse(deaf.is_alive())
            with self.assertRaises(ClusterError):
                process.start([Path(folder) / "nothing"], output, bound=True)

    def test_a_bound_process_ends_with_its_parent(self) -> None:
        program = (
            "import sys; from pathlib import Path; from cluster import process\n"
            "print(process.start(['sleep', '60'], Path(sys.argv[1]), bound=True), flush=True)\n"
            "sys.stdin.read()\n"
        )
        with tempfile.TemporaryDirectory() as folder:
            command = ["python3", "-c", program, f"{folder}/log"]
            environment = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[1])}
            with subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
            ) as parent:
                assert parent.stdout is not None
                child = ProcessId.parse(parent.stdout.readline())
                assert child is not None
                self.assertTrue(child.is_alive())
                parent.send_signal(signal.SIGKILL)
                parent.wait()
                self.assertTrue(child.wait(10))


class AgreementTest(unittest.TestCase):
    def test_windows_reach_from_the_beginning_to_the_end(self) -> None:
        starts = agreement.starts(1_000, 100_000)
        self.assertEqual((starts[0], starts[-1], len(starts)), (1_000, 99_900, 8))
        self.assertEqual(agreement.starts(5, 10), [5])


class LinesTest(unittest.TestCase):
    def test_only_what_was_committed_was_promised(self) -> None:
        output = (
            '{"outcome": "committed", "line": 2, "position": 7}\n{"outcome": "unknown", "line": 1, "reason": "-"}\n'
        )
        self.assertEqual(lines.committed(["a", "b"], output), [lines.Receipt("b", 7)])


class FlipsTest(unittest.TestCase):
    def test_a_flip_changes_its_bits_and_nothing_else_and_back(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            data = Path(folder)
            (data / "file").write_bytes(bytes(100))
            flip = flips.Flip("table", "file", ((7, 0), (99, 7)))
            flip.apply(data)
            content = (data / "file").read_bytes()
            self.assertEqual((content[7], content[99], sum(content)), (1, 128, 129))
            flip.apply(data)
            self.assertEqual((data / "file").read_bytes(), bytes(100))

    def test_only_files_of_the_kind_are_chosen_and_in_them_bytes_in_use(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            data = Path(folder)
            (data / "segments").mkdir()
            segment = data / "segments" / "00000000.segment"
            segment.write_bytes(bytes(8_192) + b"x" * 4_096)
            os.truncate(segment, 1 << 20)
            (data / "000001.log").write_bytes(b"x" * 31)
            (data / "CURRENT").write_text("MANIFEST-000002\n")
            for number in (1, 2):
                (data / f"MANIFEST-00000{number}").write_bytes(b"x" * 200)
            (data / "SAFETY").write_bytes(bytes(8_192))
            chance = random.Random(1)
            for _ in range(50):
                flip = flips.choose(data, "segment", chance)
                assert flip is not None
                self.assertTrue(8_192 - flips.AROUND <= flip.places[0][0] <= 12_288 + flips.AROUND, flip)
                manifest = flips.choose(data, "manifest", chance)
                assert manifest is not None
                self.assertEqual(manifest.name, "MANIFEST-000002")
            slots = [flips.choose(data, "safety", chance) for _ in range(50)]
            self.assertEqual({len(flip.places) for flip in slots if flip}, {1, 2})
            self.assertIsNone(flips.choose(data, "log", chance))
            self.assertIsNone(flips.choose(data, "table", chance))
            with self.assertRaises(ClusterError):
                flips.check_kinds(data)


class DamageTest(unittest.TestCase):
    """The test of damage can fail: what a node must never do is seen."""

    CUT = cuts.Cut("killed", Path(), ["0\ta", "1\tb"], [lines.Receipt("c", 2)])
    GOOD = "0\ta\n1\tb\n2\tc\n3\td\n"

    def test_a_wrong_byte_in_one_log_is_seen(self) -> None:
        self.assertIsNone(cuts.falsehood(self.CUT, {"node-0": self.GOOD, "node-1": self.GOOD}))
        for other in (self.GOOD.replace("d", "e"), self.GOOD[:-4], self.GOOD + "4\te\n"):
            self.assertIn("differ", cuts.falsehood(self.CUT, {"node-0": self.GOOD, "node-1": other}) or "")

    def test_so_is_what_all_logs_lack(self) -> None:
        for bad, word in (
            (self.GOOD.replace("b", "x"), "before the cut"),
            ("0\ta\n", "before the cut"),
            (self.GOOD.replace("c", "x"), "had a receipt"),
            (self.GOOD.replace("3\t", "4\t"), "followed by"),
        ):
            self.assertIn(word, cuts.falsehood(self.CUT, {"node-0": bad, "node-1": bad}) or "", bad)

    def test_an_end_must_have_a_code_a_reason_and_a_remedy(self) -> None:
        data, flip = Path("/node/data"), flips.Flip("table", "000007.sst", ((1, 1),))
        good = "rorqual: stored data is damaged (in 000007.sst); see `rorqual verify-store`"
        self.assertIsNone(victim.complaint(1, f"INFO start\n{good}\n", data, flip))
        self.assertIsNone(victim.complaint(1, "rorqual: amnesia: lost; this node must not sign again", data, flip))
        for code, said, word in (
            (0, good, "code is 0"),
            (-6, good, "code is -6"),
            (101, "thread 'main' panicked", "code is 101"),
            (1, "", "none"),
            (1, good.replace("000007.sst", "a file"), "what is damaged"),
            (1, good.partition(";")[0], "what to do"),
        ):
            self.assertIn(word, victim.complaint(code, said, data, flip) or "", said)

    def test_what_nobody_may_say(self) -> None:
        self.assertIsNone(victim.confession("INFO ready\nWARN dial failed"))
        self.assertEqual(victim.confession("INFO ready\nthread 'x' panicked at y"), "thread 'x' panicked at y")

    def test_the_exit_code_of_a_child_is_known_once(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            for script, code in (("exit 3", 3), ("kill -9 $$", -9)):
                child = process.start(["sh", "-c", script], Path(folder) / "log", bound=True)
                while (found := child.ended()) is None:
                    time.sleep(0.01)
                self.assertEqual(found, code)
                self.assertIsNone(child.ended())


class LossyTest(unittest.TestCase):
    def test_counts_of_all_disks_are_summed(self) -> None:
        answer = "disk=0 powered=true lost=2 torn=1 disk=1 powered=true lost=3"
        self.assertEqual(lossy.totals(answer), {"lost": 5, "torn": 1})


class TextTest(unittest.TestCase):
    def test_metrics(self) -> None:
        samples = parse_metrics('# TYPE a gauge\na 1\nb{x="1",le="+Inf"} 2.5e3\nbroken\nc NaNa\n')
        self.assertEqual(samples["a", frozenset()], 1.0)
        self.assertEqual(samples["b", frozenset({("x", "1"), ("le", "+Inf")})], 2500.0)
        self.assertEqual(len(samples), 2)

    def test_numbers_stand_to_the_right(self) -> None:
        text = table(["node", "round"], [["node-0", 7], ["node-1", "-"]])
        self.assertEqual(text, "node    round\nnode-0      7\nnode-1      -")


if __name__ == "__main__":
    unittest.main()
