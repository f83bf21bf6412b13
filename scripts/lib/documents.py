"""Checks what documents name.

Link targets and code spans that look like paths of this tree exist; so does every test that a code span of the form
`folder/file.rs::name_of_the_test` names; and every row of a table of promises names a test.
"""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FENCE = re.compile(r"^(```|~~~).*?^\1", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
CODE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
TEST = re.compile(r"([\w./-]+\.(?:rs|py))::(\w+)")
PATH = re.compile(r"[\w.-]+(/[\w.-]+)+/?")
# Made by running something; a document may name them, a fresh clone does not have them.
GENERATED = ("target/", "benchmark/.venv", "benchmark/results/")


def named_paths(text: str) -> list[str]:
    """Relative link targets, and code spans of the form `folder/file`; blocks of code are examples and are left out."""
    prose = FENCE.sub("", text)
    links = [
        target.split("#")[0]
        for target in LINK.findall(prose)
        if "://" not in target and not target.startswith("mailto:")
    ]
    spans = [word for span in CODE.findall(prose) for word in span.split()[:1] if PATH.fullmatch(word)]
    return [path for path in links if path] + spans


def is_ours(path: str, folder: Path, root: Path) -> bool:
    """Whether a code span means something in this tree: its first part is a folder here or beside the document."""
    first = path.split("/")[0]
    return (root / first).is_dir() or (folder / first).is_dir()


def has_test(source: str, name: str) -> bool:
    """Whether a Rust or Python file has a test function of this name; any function with it is not enough."""
    attributes = r"#\[(?:\w+::)*test\b[^\]]*\]\s*(?:#\[[^\]]*\]\s*)*"
    rust = rf"{attributes}(?:async\s+)?fn\s+{name}\s*\("
    python = rf"def\s+{name}\s*\(self"
    return bool(re.search(rust, source) or (name.startswith("test_") and re.search(python, source)))


def test_problems(prose: str, folder: Path, root: Path) -> list[str]:
    """What is wrong with the tests that code spans name."""
    found = []
    for span in dict.fromkeys(CODE.findall(prose)):
        if match := TEST.fullmatch(span):
            places = [place for place in (folder / match[1], root / match[1]) if place.is_file()]
            if not places:
                found.append(f"`{span}`: there is no file {match[1]}")
            elif not has_test(places[0].read_text(encoding="utf-8"), match[2]):
                found.append(f"`{span}`: {match[1]} has no test of this name")
    return found


def promises_without_test(prose: str) -> list[str]:
    """Rows of a table with the columns promise and test whose last cell names nothing."""
    found, inside = [], False
    for line in prose.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")] if line.startswith("|") else []
        if [cell.lower() for cell in cells] == ["promise", "test"]:
            inside = True
        elif not cells:
            inside = False
        elif inside and not CODE.search(cells[-1]) and not set(line) <= set("|-: "):
            found.append(f'the promise "{cells[0][:60]}" names no test')
    return found


def problems(document: Path, root: Path) -> list[str]:
    """One sentence for each thing that is not there."""
    text = document.read_text(encoding="utf-8")
    prose = FENCE.sub("", text)
    links = {target.split("#")[0] for target in LINK.findall(prose)}
    found = []
    for path in dict.fromkeys(named_paths(text)):
        if path.startswith(GENERATED) or (path not in links and not is_ours(path, document.parent, root)):
            continue
        if not (document.parent / path).exists() and not (root / path).exists():
            found.append(f"`{path}` does not exist")
    found += test_problems(prose, document.parent, root) + promises_without_test(prose)
    return [f"{document.relative_to(root)}: {problem}" for problem in found]


def main() -> int:
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "*.md"]
    names = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\0")
    found = [problem for name in names if name and (ROOT / name).exists() for problem in problems(ROOT / name, ROOT)]
    for problem in found:
        print(problem)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
