"""A contestant's process: it waits at each epoch's start until the benchmark says go, which also takes the time.

    python worker.py '{"module": "tight", "experiment": "mnist_mlp", ...}' READ WRITE

READ and WRITE are two pipes: words come in, one JSON object a line goes out. The terminal stays the contestant's own.
"""

import importlib
import json
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from peers.task import Task
from train_smarter.speed.startup import block_tensorflow


class Gate:
    """The contestant's end of the two pipes."""

    def __init__(self, read: int, write: int) -> None:
        self._words, self._answers = os.fdopen(read), os.fdopen(write, "w")

    def wait(self, word: str) -> None:
        """Says that all is done so far, and blocks until the word comes; ends the process if another one does."""
        self.tell(ready=word)
        if (came := self._words.readline().strip()) != word:
            sys.exit(f"the benchmark said {came!r} instead of {word!r}")

    def tell(self, **message: Any) -> None:
        self._answers.write(json.dumps(message) + "\n")
        self._answers.flush()

    def close(self) -> None:
        self._words.close()
        self._answers.close()


def take_part(
    task: Task, gate: Gate, *, epoch: Callable[[int], None], accuracy: Callable[[], float], parameters: int
) -> None:
    """Runs `epoch(0)`, `epoch(1)`, ... whenever it is this contestant's turn, then measures the test accuracy."""
    for number in range(task.epochs):
        gate.wait("go")
        epoch(number)
        task.synchronize()
        gate.tell(trained=number)
    gate.wait("end")
    gate.tell(accuracy=accuracy(), parameters=parameters)


def main(argv: Sequence[str]) -> None:
    spec = json.loads(argv[0])
    peer = importlib.import_module(f"peers.{spec.pop('module')}")
    gate = Gate(int(argv[1]), int(argv[2]))
    block_tensorflow()  # it is there for one contestant, and would be loaded by all that have TensorBoard
    peer.run(Task(**spec), gate)
    gate.close()


if __name__ == "__main__":
    main(sys.argv[1:])
