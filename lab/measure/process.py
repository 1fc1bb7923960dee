"""Whole processes: how long they take, how much memory they need, and what a function in one of its own returns."""

import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
TAIL = 2000  # characters of a failed process's output that are shown


class ProcessError(Exception):
    """A measured process failed; with the end of what it printed."""


@dataclass(frozen=True)
class Measured:
    """seconds of wall time, peak resident memory in bytes."""

    seconds: float
    peak: int


def run(command: Sequence[str], environment: Mapping[str, str] | None = None) -> Measured:
    """Runs a command to its end. The peak is the command's own: not below this process's, which stays small."""
    path = os.pathsep.join([str(ROOT / "src"), str(ROOT / "lab")])
    env = {**os.environ, "PYTHONPATH": path, **(environment or {})}
    with tempfile.TemporaryFile("w+", errors="replace") as output:
        began = time.perf_counter()
        process = subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            output.seek(0)
            raise ProcessError(f"{' '.join(command)[:200]} ended with {process.returncode}\n{output.read()[-TAIL:]}")
    return Measured(seconds, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024))


def call(function: str, **arguments: Any) -> tuple[Any, Measured]:
    """What `module:function` returns for these arguments, in a process of its own; both are JSON."""
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        answer = Path(folder) / "answer.json"
        command = [sys.executable, "-m", "measure.process", function, json.dumps(arguments), str(answer)]
        measured = run(command, {"CUDA_VISIBLE_DEVICES": ""})
        return json.loads(answer.read_text()), measured


def main(argv: Sequence[str]) -> None:
    """The other side of `call`."""
    module, _, name = argv[0].partition(":")
    answer = getattr(importlib.import_module(module), name)(**json.loads(argv[1]))
    Path(argv[2]).write_text(json.dumps(answer))


if __name__ == "__main__":
    main(sys.argv[1:])
