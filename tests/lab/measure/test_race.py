import os
import re
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import pytest

from measure.race import ROOT, Contestant, Entry, FallenError, entry, race, rotated

# A worker in small: an epoch takes a tenth of a second; what it is to do in its second one comes as an argument.
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
    time.sleep(0.1)
    tell(trained=epochs)
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
    assert {name: (len(r.seconds), r.accuracy) for name, r in results.items()} == {"a": (2, 0.5), "b": (2, 0.5)}
    assert all(0.1 <= seconds < 2 for result in results.values() for seconds in result.seconds)
    # The second round begins with the second contestant.
    assert [re.sub(r"[\d.]+ s", "x s", line) for line in told] == [
        "  round warm-up: a x s, b x s",
        "  round 1: b x s, a x s",
        "  round 2: a x s, b x s",
    ]


# A process that notes when it is awake, every 5 ms for a second.
AWAKE = """
import sys, time
for _ in range(200):
    print(sys.argv[1], time.time(), file=open(sys.argv[2], "a"), flush=True)
    time.sleep(0.005)
"""


def test_turns_are_short_and_who_waits_stands_still_with_its_workers(worker: Path, tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    command = f"[sys.executable, '-c', {AWAKE!r}, str(os.getpid()), {str(notes)!r}]"
    child = f"import subprocess; subprocess.run({command})"
    told: list[str] = []
    results = race([fake(worker, name, child) for name in "ab"], rounds=1, tell=told.append, patience=60, turn=0.1)
    awake, times = zip(*(line.split() for line in notes.read_text().splitlines()), strict=True)
    assert len(awake) == 400
    # Some ten turns of 0.1 s each; alive side by side, they would change some 300 times.
    assert 8 <= sum(one != other for one, other in pairwise(awake)) < 80
    # The other one's turns do not count, else each had taken as long as both together.
    assert sum(result.seconds[0] for result in results.values()) < 1.6 * (float(times[-1]) - float(times[0]))


def test_what_is_no_training_is_not_timed(worker: Path) -> None:
    aside = "tell(aside='validation'); time.sleep(2); tell(back='validation')"
    results = race([fake(worker, "a", aside)], rounds=1, patience=20, tell=lambda _: None)
    assert results["a"].seconds[0] < 2


def test_messages_that_come_in_one_reading_are_all_heard(worker: Path) -> None:
    lines = r'{"aside": 1}\n{"back": 1}\n{"trained": 2}\n{"ready": "go"}'
    second = f"print('{lines}', file=answers, flush=True); words.readline(); tell(accuracy=0.5); sys.exit()"
    results = race([fake(worker, "a", second)], rounds=1, patience=5, tell=lambda _: None)
    assert [result.accuracy for result in results.values()] == [0.5]


def test_who_dies_is_left_out_and_its_last_words_are_shown(worker: Path) -> None:
    told: list[str] = []
    dying = fake(worker, "dying", "sys.exit('out of memory')")
    results = race([fake(worker, "a"), dying], rounds=2, tell=told.append, patience=20)
    assert list(results) == ["a"]
    assert len(results["a"].seconds) == 2
    assert any("left out: dying died" in line and "out of memory" in line for line in told)


def test_who_never_starts_is_left_out(tmp_path: Path) -> None:
    told: list[str] = []
    missing = Entry("missing", [sys.executable, str(tmp_path / "none.py")])
    assert race([missing], rounds=1, tell=told.append, patience=20) == {}
    assert "can't open file" in told[0]


def test_who_hangs_is_given_up(worker: Path) -> None:
    contestant = Contestant(fake(worker, "slow", "time.sleep(60)"), patience=10)
    contestant.ready()
    assert contestant.turn(5) is not None
    contestant.patience = 0.2
    began = time.monotonic()
    assert contestant.turn(0.15) is None
    with pytest.raises(FallenError, match=r"slow trained for more than 0 s"):
        contestant.turn(0.15)
    contestant.close()
    assert time.monotonic() - began < 10


def test_who_says_nothing_is_given_up() -> None:
    contestant = Contestant(Entry("mute", [sys.executable, "-c", "import time; time.sleep(60)"]), patience=0.2)
    with pytest.raises(FallenError, match="mute gave no answer within 0 s"):
        contestant.ready()
    contestant.close()


# A benchmark whose contestants note their process, and of whom one always stands still.
BENCHMARK = """
import sys
from measure.race import Entry, race
second = "open(sys.argv[0] + str(os.getpid()), 'w'); time.sleep(60)"
race([Entry(name, [sys.executable, sys.argv[1], second]) for name in "ab"], rounds=1, turn=0.1)
"""


def test_a_benchmark_that_is_ended_leaves_nobody_behind(worker: Path) -> None:
    path = os.pathsep.join([str(ROOT / "src"), str(ROOT / "lab")])
    running = subprocess.Popen([sys.executable, "-c", BENCHMARK, str(worker)], env={**os.environ, "PYTHONPATH": path})
    while len(there := list(worker.parent.glob("worker.py?*"))) < 2:
        assert running.poll() is None
        time.sleep(0.05)
    running.terminate()
    assert running.wait(30) == 128 + signal.SIGTERM
    for file in there:
        with pytest.raises(ProcessLookupError):
            os.kill(int(file.name.removeprefix(worker.name)), 0)


def test_a_contestant_draws_on_a_terminal_of_120_columns(worker: Path) -> None:
    contestant = Contestant(fake(worker, "a", "sys.exit()"), patience=20)
    contestant.ready()
    contestant.turn(20)
    with pytest.raises(FallenError, match="epoch 1 True 120"):
        contestant.turn(20)
    contestant.close()


def test_an_answer_out_of_turn_is_a_fall(worker: Path) -> None:
    contestant = Contestant(fake(worker, "a"), patience=20)
    with pytest.raises(FallenError, match="'trained' was due"):
        contestant.message("trained")
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
