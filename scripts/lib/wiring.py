"""Checks that nothing is simulated, said or configured that the shipped node does not do.

Every `Input` of the core is built by production code of the daemon; every `Effect` is built by the core and handled by
the daemon in a match without a wildcard; every `Write` likewise; every setting is read by production code outside of
config/. Tests and the simulator do not count as production code.
"""

import re
import sys
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CORE = "node/protocol/src"
DAEMON = "node/src"
# Where a setting may be read; config/ itself only parses, validates and shows it.
READERS = ("node/src", "node/protocol/src", "node/client/src", "network/src", "store/src")
# The fields of these sections have common names: a file that reads one also names the section or its type.
TYPES = {
    "listen": "Listen",
    "batch": "BatchParameters",
    "client": "ClientParameters",
    "store": "StoreParameters",
    "retention": "RetentionParameters",
    "log": "LogParameters",
}
# Refused or enforced where the configuration is validated: no later code can meet another value.
ENFORCED = {
    "client.open": "listen.client may leave loopback only with it",
}

COMMENT_OR_STRING = re.compile(r'//[^\n]*|/\*.*?\*/|r(#*)".*?"\1|b?"(?:\\.|[^"\\])*"|\'(?:\\.|[^\'\\\n])\'', re.DOTALL)
SETTING = re.compile(r'^\s*"([\w.]+)" ([\w.]+): ', re.MULTILINE)
PAIRS = {"(": ")", "{": "}", "[": "]"}


def bare(source: str) -> str:
    """The source without comments and without the content of strings and characters."""
    return COMMENT_OR_STRING.sub(lambda found: "" if found[0].startswith("/") else '""', source)


def closing(text: str, start: int) -> int:
    """Where the bracket closes that opens at `start`; the end of the text if it does not."""
    depth = 0
    for at in range(start, len(text)):
        if text[at] in PAIRS:
            depth += 1
        elif text[at] in PAIRS.values():
            depth -= 1
            if depth == 0:
                return at
    return len(text)


def without_tests(text: str) -> str:
    """Bare source without the items that are compiled for tests only."""
    parts, at = [], 0
    for found in re.finditer(r"#\[cfg\(test\)\]", text):
        if found.start() < at:
            continue
        parts.append(text[at : found.start()])
        body, end = text.find("{", found.end()), text.find(";", found.end())
        at = end + 1 if body < 0 or 0 <= end < body else closing(text, body) + 1
    return "".join([*parts, text[at:]])


def is_test(path: Path) -> bool:
    return "tests" in path.parts or path.stem in ("tests", "testing") or path.stem.endswith("_tests")


def production(root: Path, folders: Iterable[str]) -> dict[Path, str]:
    """Production code of these folders, bare."""
    files = [path for folder in folders for path in sorted((root / folder).rglob("*.rs"))]
    return {path: without_tests(bare(path.read_text())) for path in files if not is_test(path.relative_to(root))}


def variants(source: str, name: str) -> list[str]:
    """The variants of an enum, from bare source."""
    head = re.search(rf"\benum {name}\b[^{{]*\{{", source)
    if head is None:
        return []
    body, names, at = source[head.end() : closing(source, head.end() - 1)], [], 0
    while found := re.compile(r"\s*(?:#\[[^\]]*\]\s*)*(\w+)\s*").match(body, at):
        names.append(found[1])
        at = found.end()
        if at < len(body) and body[at] in PAIRS:
            at = closing(body, at) + 1
        comma = body.find(",", at)
        if comma < 0:
            break
        at = comma + 1
    return names


def builds(text: str, enum: str, variant: str) -> bool:
    """Whether bare source builds this variant; a pattern does not."""
    for found in re.finditer(rf"\b{enum}::{variant}\b", text):
        at = found.end()
        if at < len(text) and text[at] in "({":
            at = closing(text, at) + 1
        elif text[at : at + 2] == " {":
            at = closing(text, at + 1) + 1
        # A pattern ends in an arrow, an alternative, a guard or the `=` of a `let`, or stands in `matches!`.
        pattern = re.match(r"\s*(=>|\|(?!\|)|if\b|=(?!=))", text[at:])
        inside = re.search(r"matches!\([^;]*$", text[max(0, found.start() - 160) : found.start()])
        if not (pattern or inside or re.search(r"(?<!\|)\|\s*$", text[: found.start()][-80:])):
            return True
    return False


def arms(text: str, enum: str) -> Iterable[str]:
    """The arms of each `match` whose patterns name this enum: without what stands in brackets."""
    for found in re.finditer(r"\bmatch\b[^{;]*\{", text):
        body = text[found.end() : closing(text, found.end() - 1)]
        flat, at = [], 0
        while at < len(body):
            if body[at] in PAIRS:
                at = closing(body, at)
            flat.append(body[at : at + 1])
            at += 1
        patterns = "".join(flat)
        if re.search(rf"\b{enum}::\w+[^,]*=>", patterns):
            yield patterns


def is_exhaustive(patterns: str, enum: str, names: list[str]) -> bool:
    """Whether these arms name every variant and none is for anything else: then the compiler keeps it so."""
    wild = re.search(r"(^|[\s,}])(_|[a-z]\w*)\s*=>", patterns)
    return not wild and all(re.search(rf"\b{enum}::{name}\b", patterns) for name in names)


def wiring_problems(root: Path) -> list[str]:
    """One sentence for each input, effect or write that only the simulator knows."""
    core, daemon = production(root, [CORE]), production(root, [DAEMON])
    core = {path: text for path, text in core.items() if path.parts[-1] not in ("input.rs", "effect.rs")}
    daemon = {path: text for path, text in daemon.items() if root / CORE not in path.parents}
    found = []
    for file, enum, builders, handlers in [
        ("input.rs", "Input", daemon, core),
        ("effect.rs", "Effect", core, daemon),
        ("effect.rs", "Write", core, daemon),
    ]:
        names = variants(bare((root / CORE / file).read_text()), enum)
        if not names:
            found.append(f"{CORE}/{file} has no enum {enum}")
        for name in names:
            if not any(builds(text, enum, name) for text in builders.values()):
                found.append(f"{enum}::{name} is built nowhere in production code")
        matches = [patterns for text in handlers.values() for patterns in arms(text, enum)]
        if not any(is_exhaustive(patterns, enum, names) for patterns in matches):
            found.append(f"no match on {enum} handles every variant without a wildcard")
    return found


def is_read(key: str, field: str, texts: Iterable[str]) -> bool:
    """Whether some file reads this setting: its field, not as the target of an assignment."""
    section, name = key.split(".")[0], field.split(".")[-1]
    for text in texts:
        if section in TYPES and not re.search(rf"\b({section}|{TYPES[section]})\b", text):
            continue
        if re.search(rf"\.\s*{name}\b(?!\s*\()(?!\s*=[^=])", text):
            return True
    return False


def setting_problems(root: Path) -> list[str]:
    """One sentence for each setting that nothing reads."""
    settings = SETTING.findall((root / "config/src/settings.rs").read_text())
    if not settings:
        return ["config/src/settings.rs names no settings"]
    texts = list(production(root, READERS).values())
    unread = [key for key, field in settings if key not in ENFORCED and not is_read(key, field, texts)]
    stale = sorted(set(ENFORCED) - {key for key, _ in settings})
    return [f"the setting {key} is read nowhere" for key in unread] + [f"there is no setting {key}" for key in stale]


def problems(root: Path) -> list[str]:
    return wiring_problems(root) + setting_problems(root)


def main() -> int:
    found = problems(ROOT)
    for problem in found:
        print(problem)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
