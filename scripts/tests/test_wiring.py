"""The check that what is simulated is what ships: it finds holes that are planted in a tree that has none."""

import tempfile
import unittest
from pathlib import Path

from lib import wiring

SOUND = {
    "config/src/settings.rs": (
        '"consensus.pace" consensus.pace: Duration, "duration", "How fast";\n'
        '        "retention.bytes" retention.bytes: Bytes, "size", "How much";\n'
        '        "client.open" client.open: bool, "", "";\n'
    ),
    "node/protocol/src/input.rs": (
        "pub enum Input {\n /// x, y\n Block { sender: u8 },\n RoundTrip(Option<(u8, u8)>),\n Timer,\n}"
    ),
    "node/protocol/src/effect.rs": (
        "pub enum Effect { Send(u8), Persist { writes: Vec<Write> } }\npub enum Write { Block(u8) }"
    ),
    "node/protocol/src/core.rs": (
        "fn take(input: Input) { match input { Input::Block { sender } => a(sender), "
        "Input::RoundTrip(t) => { match t { _ => 1 } }"
        " Input::Timer => (), } let p = self.parameters.pace; out(Effect::Send(1)); }\n"
        "fn persist() { out(Effect::Persist { writes: vec![Write::Block(1)] }); }"
    ),
    "node/src/driver.rs": (
        "fn one(effect: Effect) { match effect { Effect::Send(x) => send(x), "
        "Effect::Persist { writes } => put(writes), } }\n"
        "fn put(write: Write) { match write { Write::Block(x) => x, } }\n"
        "fn feed() { tell(Input::Block { sender: 1 }); tell(Input::RoundTrip(None)); tell(Input::Timer); }"
    ),
    "node/src/retention.rs": "fn sweep(limits: &RetentionParameters) { if limits.bytes > 0 {} }",
}


class WiringTest(unittest.TestCase):
    def found(self, file: str = "", old: str = "", new: str = "") -> list[str]:
        """What is found in the sound tree after one replacement."""
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            for name, source in SOUND.items():
                self.assertIn(old, SOUND[file] if file else "")
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                (root / name).write_text(source.replace(old, new) if name == file else source)
            return wiring.problems(root)

    def test_a_sound_tree_has_no_problems(self) -> None:
        self.assertEqual(self.found(), [])

    def test_an_input_that_only_a_test_builds(self) -> None:
        expected = ["Input::RoundTrip is built nowhere in production code"]
        for new in [
            "",
            "// tell(Input::RoundTrip(None));\n",
            'say("Input::RoundTrip(None)");',
            "#[cfg(test)] mod tests { fn f() { tell(Input::RoundTrip(None)); } }",
            "if let Input::RoundTrip(None) = x {} matches!(x, Input::RoundTrip(_));",
            "match x { Input::RoundTrip(_) => (), }",
        ]:
            with self.subTest(new):
                self.assertEqual(self.found("node/src/driver.rs", "tell(Input::RoundTrip(None));", new), expected)

    def test_an_effect_that_the_core_never_asks_for(self) -> None:
        found = self.found("node/protocol/src/core.rs", "out(Effect::Send(1));", "")
        self.assertEqual(found, ["Effect::Send is built nowhere in production code"])

    def test_a_write_that_the_core_never_makes(self) -> None:
        found = self.found("node/protocol/src/core.rs", "Write::Block(1)", "")
        self.assertEqual(found, ["Write::Block is built nowhere in production code"])

    def test_an_effect_that_nobody_handles(self) -> None:
        expected = ["no match on Effect handles every variant without a wildcard"]
        for new in ["_ => (),", "other => (),"]:
            with self.subTest(new):
                self.assertEqual(self.found("node/src/driver.rs", "Effect::Send(x) => send(x),", new), expected)

    def test_a_setting_that_nobody_reads(self) -> None:
        expected = ["the setting consensus.pace is read nowhere"]
        for new in ["1", "self.parameters.pace_of", "1; parameters.pace = 2", "/* parameters.pace */ 2"]:
            with self.subTest(new):
                self.assertEqual(self.found("node/protocol/src/core.rs", "self.parameters.pace", new), expected)
        found = self.found("node/src/retention.rs", "RetentionParameters", "Other")
        self.assertEqual(found, ["the setting retention.bytes is read nowhere"])


if __name__ == "__main__":
    unittest.main()
