"""The parts of the cluster scripts that need no cluster."""

import os
import signal
import subprocess
import tempfile
import time
import unittest
from pathlib import Path

from cluster import ClusterError, agreement, demo, lines, log, lossy, process
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
