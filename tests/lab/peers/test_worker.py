import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from peers import worker
from peers.task import Task
from peers.worker import Gate, take_part

Ends = tuple[Gate, int, int]


@pytest.fixture
def ends() -> Iterator[Ends]:
    """A gate, and the benchmark's ends of its pipes: words are written, answers are read."""
    read, words = os.pipe()
    answers, write = os.pipe()
    gate = Gate(read, write)
    yield gate, words, answers
    gate.close()
    os.close(answers)


def test_a_contestant_runs_an_epoch_at_each_word(ends: Ends, tmp_path: Path) -> None:
    gate, words, answers = ends
    os.write(words, b"go\ngo\nend\n")
    os.close(words)
    ran: list[int] = []
    take_part(Task("x", 2, str(tmp_path)), gate, epoch=ran.append, accuracy=lambda: 0.5, parameters=7)
    told = [json.loads(line) for line in os.read(answers, 65536).decode().splitlines()]
    assert ran == [0, 1]
    assert [list(message) for message in told] == [["ready"], ["trained"], ["ready"], ["trained"], ["ready"], [
        "accuracy",
        "parameters",
    ]]  # fmt: skip
    assert told[-1] == {"accuracy": 0.5, "parameters": 7}


def test_without_the_benchmark_the_contestant_ends(ends: Ends) -> None:
    gate, words, _ = ends
    os.close(words)
    with pytest.raises(SystemExit, match="'' instead of 'go'"):
        gate.wait("go")


def test_a_peer_is_found_by_its_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ran: list[Task] = []
    monkeypatch.setattr("peers.bare.run", lambda task, _: ran.append(task))
    spec = {"module": "bare", "experiment": "x", "epochs": 1, "folder": str(tmp_path)}
    read, write = os.pipe()
    worker.main([json.dumps(spec), str(read), str(write)])
    assert ran == [Task("x", 1, str(tmp_path))]
