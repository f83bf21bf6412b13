"""Checks that every path named in a document exists: link targets, and code spans that look like paths of this tree."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FENCE = re.compile(r"^(```|~~~).*?^\1", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
CODE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
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


def problems(document: Path, root: Path) -> list[str]:
    """One sentence for each path that is not there."""
    text = document.read_text(encoding="utf-8")
    prose = FENCE.sub("", text)
    links = {target.split("#")[0] for target in LINK.findall(prose)}
    found = []
    for path in dict.fromkeys(named_paths(text)):
        if path.startswith(GENERATED) or (path not in links and not is_ours(path, document.parent, root)):
            continue
        if not (document.parent / path).exists() and not (root / path).exists():
            found.append(f"{document.relative_to(root)}: `{path}` does not exist")
    return found


def main() -> int:
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "*.md"]
    names = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\0")
    found = [problem for name in names if name and (ROOT / name).exists() for problem in problems(ROOT / name, ROOT)]
    for problem in found:
        print(problem)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
