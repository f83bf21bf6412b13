"""The checks of scripts/check.sh that are our own."""

import tempfile
import unittest
from pathlib import Path
from typing import Any

from lib import cargo_for_deny, documents, layering


class DocumentsTest(unittest.TestCase):
    def test_paths_are_found_where_a_reader_sees_them(self) -> None:
        text = "See [a](docs/a.md#part) and [b](https://x.y/z), `src/lib.rs`, `cargo build`, `a/b c`."
        text += "\n```\n`no/such`\n```\n"
        self.assertEqual(documents.named_paths(text), ["docs/a.md", "src/lib.rs", "a/b"])

    def test_what_is_missing_is_named(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            (root / "store" / "src").mkdir(parents=True)
            (root / "store" / "src" / "lib.rs").touch()
            document = root / "store" / "README.md"
            document.write_text(
                "`src/lib.rs` `store/src/lib.rs` `src/gone.rs` `and/or` `target/x` [c](gone.md) [d](src)"
            )
            found = documents.problems(document, root)
            self.assertEqual([line.split("`")[1] for line in found], ["gone.md", "src/gone.rs"])

    def test_a_named_test_must_be_a_test(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            (root / "a.rs").write_text(
                "#[tokio::test(start_paused = true)]\n#[ignore]\nasync fn real() {}\n"
                "fn helper() {}\n#[test]\nfn two() {}"
            )
            document = root / "README.md"
            document.write_text("`a.rs::real` `a.rs::two` `a.rs::helper` `a.rs::gone` `b.rs::real`")
            found = documents.problems(document, root)
            self.assertEqual([line.split("`")[1] for line in found], ["a.rs::helper", "a.rs::gone", "b.rs::real"])

    def test_every_promise_has_a_test(self) -> None:
        table = "| promise | test |\n|---|---|\n| kept | `a.sh` |\n| broken | |\n\n| other | table |\n| x | |\n"
        found = documents.promises_without_test(table)
        self.assertEqual(len(found), 1)
        self.assertIn("broken", found[0])


def metadata(arrows: dict[str, list[tuple[str, str | None]]]) -> dict[str, Any]:
    """What `cargo metadata` would say: package -> (used package, kind)."""
    names = set(arrows) | {used for uses in arrows.values() for used, _ in uses}
    nodes = [
        {"id": name, "deps": [{"pkg": used, "dep_kinds": [{"kind": kind}]} for used, kind in arrows.get(name, [])]}
        for name in names
    ]
    return {
        "packages": [{"id": name, "name": name} for name in names],
        "workspace_members": [name for name in names if name.startswith("rorqual")],
        "resolve": {"nodes": nodes},
    }


class LayeringTest(unittest.TestCase):
    def test_arrows_that_are_fine(self) -> None:
        arrows = {"rorqual-client": [("rorqual-config", None)], "rorqual-protocol": [("tokio", "dev")]}
        self.assertEqual(layering.problems(metadata(arrows)), [])

    def test_an_arrow_that_turns_back(self) -> None:
        found = layering.problems(metadata({"rorqual-config": [("rorqual-node", "dev")]}))
        self.assertEqual(found, ["rorqual-config must not use rorqual-node"])

    def test_the_way_to_a_forbidden_package_is_shown(self) -> None:
        found = layering.problems(metadata({"rorqual-protocol": [("helper", None)], "helper": [("tokio", None)]}))
        self.assertEqual(len(found), 1)
        self.assertIn("rorqual-protocol -> helper -> tokio", found[0])

    def test_a_new_crate_needs_a_place(self) -> None:
        self.assertIn("rorqual-new", layering.problems(metadata({"rorqual-new": []}))[0])


class CargoForDenyTest(unittest.TestCase):
    def test_ids_are_translated_wherever_they_stand(self) -> None:
        package = {
            "id": "path+file:///a#0.1.0",
            "name": "a",
            "version": "0.1.0",
            "source": None,
            "license": "Unicode-3.0",
        }
        package["manifest_path"] = "/a/Cargo.toml"
        answer: Any = cargo_for_deny.translate({"packages": [package], "workspace_members": [package["id"]]})
        self.assertEqual(answer["workspace_members"], ["a 0.1.0 (path+file:///a)"])
        self.assertEqual(answer["packages"][0]["license"], "Unicode-DFS-2016")


if __name__ == "__main__":
    unittest.main()
