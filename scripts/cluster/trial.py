"""A test in a directory of its own that ends with a verdict."""

import shutil
import signal
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from . import ClusterError, binary


def run(prefix: str, binaries: Sequence[str], body: Callable[[Path], str]) -> int:
    """Builds the binaries and runs the body, which says what holds; the exit code.

    The directory is kept if the body fails: it holds the explanation.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # Not in /tmp, which is memory on many machines.
    place = Path.home() / ".cache" / "rorqual"
    place.mkdir(parents=True, exist_ok=True)
    directory = Path(tempfile.mkdtemp(prefix=prefix, dir=place))
    passed = False
    try:
        binary.build(*binaries)
        sentence = f"PASS: {body(directory)}"
        passed = True
    except ClusterError as error:
        first, _, details = str(error).partition("\n")
        print(details)
        sentence = f"FAIL: {first}"
    except KeyboardInterrupt:
        sentence = "FAIL: interrupted"
    if passed:
        shutil.rmtree(directory, ignore_errors=True)
    else:
        print(f"Everything is kept in {directory}")
    print(sentence)
    return 0 if passed else 1
