"""What a run may be asked to do."""

import unittest

import bench  # noqa: F401  (puts scripts/ on the path)
from bench import local
from bench.parameters import Parameters, UsageError, parse_list, parse_number, parse_seconds, parse_settings
from cluster import ClusterError


class ParametersTest(unittest.TestCase):
    def test_the_defaults_make_sense(self) -> None:
        Parameters().check()

    def test_everything_wrong_is_said_at_once(self) -> None:
        with self.assertRaises(ClusterError) as caught:
            Parameters(faults=2, rate=-1, durability="maybe", duration_s=2).check()
        for word in ("faults", "rate", "durability", "warm-up"):
            self.assertIn(word, str(caught.exception))

    def test_nothing_to_run_is_said(self) -> None:
        for rates, runs in (([10_000], 0), ([10_000], -1), ([], 1)):
            with self.assertRaises(UsageError):
                local.sweep(Parameters(), rates, runs, keep=False)

    def test_seven_nodes_tolerate_two(self) -> None:
        Parameters(nodes=7, faults=2).check()
        with self.assertRaises(ClusterError):
            Parameters(nodes=7, faults=3).check()

    def test_lists_of_rates(self) -> None:
        self.assertEqual(parse_list("10k,50000,1.5k"), [10_000, 50_000, 1_500])
        with self.assertRaises(ClusterError):
            parse_list("fast")

    def test_numbers_and_times(self) -> None:
        self.assertEqual([parse_seconds("d", text) for text in ("60", "60s", "2m")], [60, 60, 120])
        self.assertEqual(parse_number("tick", "0.5", kind=float), 0.5)
        for wrong in ("", "x", "1.5s", "s", "1h"):
            with self.assertRaises(UsageError):
                parse_seconds("duration", wrong)
        with self.assertRaisesRegex(UsageError, "nodes = four"):
            parse_number("nodes", "four")

    def test_nothing_offered_is_a_run_too(self) -> None:
        Parameters(rate=0).check()

    def test_settings(self) -> None:
        self.assertEqual(
            parse_settings("batch.max_delay=5ms, log.filter=a=b"), {"batch.max_delay": "5ms", "log.filter": "a=b"}
        )
        self.assertEqual(parse_settings(""), {})
        with self.assertRaises(ClusterError):
            parse_settings("batch.max_delay")


if __name__ == "__main__":
    unittest.main()
