import sys
import time
from pathlib import Path

import pytest

from measure.race import Contestant, Entry, FallenError, entry, race, rotated

# A worker in small: answers each word at once; what it is to do in its second epoch comes as an argument.
WORKER = """
import json, os, sys, time
second, read, write = sys.argv[1], *map(int, sys.argv[2:])
words, answers = os.fdopen(read), os.fdopen(write, "w")
def tell(**message):
    print(json.dumps(message), file=answers, flush=True)
tell(ready="go")
epochs = 0
for word in words:
    if word == "end\\n":
        tell(accuracy=0.5)
        break
    epochs += 1
    if epochs == 2:
        exec(second)
    print("epoch", epochs, sys.stdout.isatty(), os.get_terminal_size().columns, flush=True)
    tell(seconds=float(epochs))
    tell(ready="go")
"""


@pytest.fixture
def worker(tmp_path: Path) -> Path:
    file = tmp_path / "worker.py"
    file.write_text(WORKER)
    return file


def fake(worker: Path, name: str, second: str = "pass") -> Entry:
    return Entry(name, [sys.executable, str(worker), second])


def test_the_warm_up_is_not_counted_and_accuracy_comes_last(worker: Path) -> None:
    told: list[str] = []
    results = race([fake(worker, "a"), fake(worker, "b")], rounds=2, tell=told.append, patience=20)
    assert {name: (r.seconds, r.accuracy, r.median) for name, r in results.items()} == {
        "a": ([2.0, 3.0], 0.5, 2.5),
        "b": ([2.0, 3.0], 0.5, 2.5),
    }
    # The second round begins with the second contestant.
    assert told == [
        "  round warm-up: a 1.00 s, b 1.00 s",
        "  round 1: b 2.00 s, a 2.00 s",
        "  round 2: a 3.00 s, b 3.00 s",
    ]


def test_who_dies_is_left_out_and_its_last_words_are_shown(worker: Path) -> None:
    told: list[str] = []
    dying = fake(worker, "dying", "sys.exit('out of memory')")
    results = race([fake(worker, "a"), dying], rounds=2, tell=told.append, patience=20)
    assert list(results) == ["a"]
    assert results["a"].seconds == [2.0, 3.0]
    assert any("left out: dying died" in line and "out of memory" in line for line in told)


def test_who_never_starts_is_left_out(tmp_path: Path) -> None:
    told: list[str] = []
    missing = Entry("missing", [sys.executable, str(tmp_path / "none.py")])
    assert race([missing], rounds=1, tell=told.append, patience=20) == {}
    assert "can't open file" in told[0]


def test_who_hangs_is_given_up(worker: Path) -> None:
    contestant = Contestant(fake(worker, "slow", "time.sleep(60)"), patience=10)
    contestant.answer("ready")
    assert contestant.turn() == 1.0
    contestant.patience = 0.2
    began = time.monotonic()
    with pytest.raises(FallenError, match=r"slow gave no answer within 0 s"):
        contestant.turn()
    contestant.close()
    assert time.monotonic() - began < 10


def test_a_contestant_draws_on_a_terminal_of_120_columns(worker: Path) -> None:
    contestant = Contestant(fake(worker, "a", "sys.exit()"), patience=20)
    contestant.answer("ready")
    contestant.turn()
    with pytest.raises(FallenError, match="epoch 1 True 120"):
        contestant.turn()
    contestant.close()


def test_an_answer_out_of_turn_is_a_fall(worker: Path) -> None:
    contestant = Contestant(fake(worker, "a"), patience=20)
    with pytest.raises(FallenError, match="'seconds' was due"):
        contestant.answer("seconds")
    contestant.close()


def test_rounds_begin_with_each_in_turn() -> None:
    assert [rotated(["a", "b", "c"], number) for number in (0, 1, 5)] == [
        ["a", "b", "c"],
        ["b", "c", "a"],
        ["c", "a", "b"],
    ]
    assert rotated([], 3) == []


def test_an_entry_carries_the_task_as_json() -> None:
    made = entry("ours", module="ours", environment={"A": "b"}, experiment="x", epochs=2)
    assert made.command[0] == sys.executable
    assert made.command[2] == '{"module": "ours", "experiment": "x", "epochs": 2}'
    assert made.environment == {"A": "b"}
