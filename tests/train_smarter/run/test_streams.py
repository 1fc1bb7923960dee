"""What is printed never ends a run."""

import os
import subprocess
import sys

import pytest

from train_smarter import paths

PROGRAM = """
import logging, sys
from rich.console import Console
from train_smarter.run.streams import protected_streams
streams = protected_streams()
streams.__enter__()
print("first", flush=True)
sys.stdin.read()  # until the other end is closed
logging.basicConfig(stream=sys.stdout)
for _ in range(3):
    print("\\u2501 \\u00e9" * 5000, flush=True)
    logging.warning("a line")
    Console().print("a table")
sys.exit(7)
"""


def start(**variables: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        env={**os.environ, "PYTHONPATH": str(paths.ENGINE.parent), **variables},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def test_a_closed_pipe_is_no_error() -> None:
    with start() as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdin is not None
        assert process.stdout.readline() == b"first\n"
        process.stdout.close()
        process.stdin.close()
        assert (process.stderr.read(), process.wait()) == (b"", 7)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf8"])
def test_a_terminal_shows_what_it_can_and_escapes_the_rest(encoding: str) -> None:
    told, errors = start(PYTHONIOENCODING=encoding).communicate(b"")
    assert errors == b""
    expected = "\u2501 \u00e9".encode(encoding, errors="backslashreplace") * 5000
    assert told.splitlines()[1] == expected
