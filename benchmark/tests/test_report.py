"""What a run prints and when it counts as failed."""

import unittest
from typing import Any

import bench  # noqa: F401  (puts scripts/ on the path)
from bench import report
from bench.parameters import Parameters


def result(**changes: Any) -> report.Result:
    latency = {"mean": 6.5, "p50": 6.1, "p90": 8.0, "p99": 12.0, "max": 140.0}
    node = {
        "name": "node-0",
        "cpu_s": 4.0,
        "rss_mib": 210.0,
        "peak_rss_mib": 220.0,
        "disk_bytes": 5 << 20,
        "commits": 900,
    }
    whole: report.Result = {
        "schema": report.SCHEMA,
        "commit": "abc",
        "started_at": "2026-01-01T00:00:00+00:00",
        "parameters": Parameters(settings={"batch.max_delay": "5ms"}).as_json(),
        "committed_tps": 10_001.2,
        "committed_bps": 5_120_000.0,
        "latency_ms": latency,
        "offered": 200_000,
        "submitted": 200_000,
        "committed": 200_000,
        "rejected": 0,
        "rejected_by_reason": {},
        "unknown": 0,
        "broken": [],
        "series": [],
        "consensus": {
            "tps": 9_998.0,
            "bps": 5_118_976.0,
            "latency_ms": {"mean": None, "p50": 4.0, "p90": 5.0, "p99": 9.0},
        },
        "measured_wall_s": 20.0,
        "per_node": [node],
        "load": {"cpu_s": 2.0},
        "file_system": "ext4",
        "consistent": True,
        "inconsistency": None,
    }
    return whole | changes


class ReportTest(unittest.TestCase):
    def test_the_summary_has_the_names_that_people_grep_for(self) -> None:
        text = report.summary(result())
        for line in (
            " Committee size: 4 node(s)",
            " Input rate: 10,000 tx/s",
            " Consensus TPS: 9,998 tx/s",
            " Consensus BPS: 5,118,976 B/s",
            " Consensus latency: n/a",
            " Consensus latency p99: 9.0 ms",
            " End-to-end TPS: 10,001 tx/s",
            " End-to-end BPS: 5,120,000 B/s",
            " End-to-end latency: 6.5 ms",
            " End-to-end latency p90: 8.0 ms",
            " batch.max_delay: 5ms",
            " Consistent: yes",
        ):
            self.assertIn(line + "\n", text + "\n")

    def test_figures_of_a_failed_run_are_not_good(self) -> None:
        self.assertIsNone(report.why_failed(result()))
        self.assertIn("differ", report.why_failed(result(consistent=False, inconsistency="the logs differ")) or "")
        self.assertIn("nothing", report.why_failed(result(committed=0)) or "")
        self.assertIn("3 transactions", report.why_failed(result(unknown=3)) or "")
        self.assertIn("node-1", report.why_failed(result(broken=["node-1: reset"])) or "")

    def test_remarks(self) -> None:
        self.assertEqual(report.remarks(result()), [])
        self.assertIn("not kept", report.remarks(result(submitted=100_000))[0])
        refused = result(rejected=5, rejected_by_reason={"overloaded": 5})
        self.assertIn("overloaded 5", report.remarks(refused)[0])
        self.assertIn("memory file system", report.remarks(result(file_system="tmpfs"))[0])

    def test_a_row_has_a_cell_for_every_heading(self) -> None:
        self.assertEqual(len(report.row(result())), len(report.HEAD))
        self.assertEqual(len(report.markdown([result()]).splitlines()), 3)


if __name__ == "__main__":
    unittest.main()
