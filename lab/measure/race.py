"""Contestants in processes of their own, all alive at once, an epoch of each in a round.

They train in turns that are short beside the time in which a machine becomes faster or slower, so its drift cancels
out, and who is not in turn stands still, its workers and threads included.
"""

import fcntl
import json
import os
import pty
import select
import signal
import statistics
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from train_smarter.run.signals import handle_signals

ROOT = Path(__file__).resolve().parents[2]
WORKER = ROOT / "lab" / "peers" / "worker.py"
PATIENCE = 3600.0  # seconds until an answer is given up
TAIL = 2000  # characters of a failed contestant's terminal that are shown
SIZE = (40, 120)  # rows and columns of that terminal
TURN = 1.0  # seconds: long beside the milliseconds in which caches are filled again


class FallenError(Exception):
    """A contestant that died, or gave no answer in time; with the end of what its terminal shows."""


@dataclass(frozen=True)
class Entry:
    """Who takes part: a name, the command of its process and its own part of the environment."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)


def entry(name: str, *, module: str, environment: Mapping[str, str] | None = None, **spec: Any) -> Entry:
    """A contestant of lab/peers; `spec` are the fields of its `Task`."""
    command = [sys.executable, str(WORKER), json.dumps({"module": module, **spec})]
    return Entry(name, command, environment or {})


class Contestant:
    """A process at the other end of two pipes, with a terminal on which its progress bar draws."""

    def __init__(self, entry: Entry, *, patience: float = PATIENCE) -> None:
        self.name, self.patience = entry.name, patience
        self._unread, self._shown = b"", bytearray()
        self._trained: float | None = None  # seconds of the epoch under way
        out, self._words = os.pipe()
        self._answers, back = os.pipe()
        self._terminal, screen = pty.openpty()
        fcntl.ioctl(screen, termios.TIOCSWINSZ, struct.pack("HHHH", *SIZE, 0, 0))
        path = os.pathsep.join([str(ROOT / "src"), str(ROOT / "lab")])
        self._process = subprocess.Popen(
            [*entry.command, str(out), str(back)],
            stdin=subprocess.DEVNULL,
            stdout=screen,
            stderr=screen,
            pass_fds=(out, back),
            env={**os.environ, "PYTHONPATH": path, "TERM": "xterm-256color", **entry.environment},
            start_new_session=True,  # its own workers end with it
        )
        for descriptor in (out, back, screen):
            os.close(descriptor)
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        """Keeps the end of what the terminal shows; a full terminal would stop the process."""
        with suppress(OSError):  # the other end is closed
            while text := os.read(self._terminal, 65536):
                self._shown += text
                del self._shown[:-TAIL]
        os.close(self._terminal)

    def message(self, *keys: str) -> dict[str, Any]:
        """The next message, which has to have one of these keys."""
        end = time.monotonic() + self.patience
        while b"\n" not in self._unread:
            if not self._heard(max(0.0, end - time.monotonic())):
                raise self._fallen(f"gave no answer within {self.patience:.0f} s")
            if not (text := os.read(self._answers, 65536)):
                raise self._fallen("died")
            self._unread += text
        line, _, self._unread = self._unread.partition(b"\n")
        message: dict[str, Any] = json.loads(line)
        if not message.keys() & set(keys):
            raise self._fallen(f"answered {message} where {' or '.join(map(repr, keys))} was due")
        return message

    def say(self, word: str) -> None:
        try:
            os.write(self._words, f"{word}\n".encode())
        except BrokenPipeError:
            raise self._fallen("died") from None

    def ready(self) -> None:
        """Waits until it has done all that comes before its next epoch, and has it stand still."""
        self.message("ready")
        self._signal(signal.SIGSTOP)

    def turn(self, length: float) -> float | None:
        """Trains for so many seconds, or up to the end of its epoch, and stands still after that.

        What it says to be no training, between its words "aside" and "back", it does without being timed.

        Returns:
            The epoch's seconds, if it is over.
        """
        began = time.perf_counter()
        self._signal(signal.SIGCONT)
        if self._trained is None:
            self._trained = 0.0
            self.say("go")
        while self._heard(length):
            self._trained += time.perf_counter() - began
            if "trained" in self.message("trained", "aside"):
                seconds, self._trained = self._trained, None
                self.ready()
                return seconds
            self.message("back")
            began = time.perf_counter()
        self._signal(signal.SIGSTOP)
        self._trained += time.perf_counter() - began
        if self._trained > self.patience:
            raise self._fallen(f"trained for more than {self.patience:.0f} s")
        return None

    def end(self) -> float:
        """The test accuracy."""
        self._signal(signal.SIGCONT)
        self.say("end")
        return float(self.message("accuracy")["accuracy"])

    def _heard(self, seconds: float) -> bool:
        """Whether something to be read comes within the time, or is there: a message, or their end."""
        return b"\n" in self._unread or bool(select.select([self._answers], [], [], seconds)[0])

    def _signal(self, number: int) -> None:
        """To the process and to its workers."""
        with suppress(ProcessLookupError, PermissionError):  # it has died: the next answer tells
            os.killpg(self._process.pid, number)

    def _fallen(self, why: str) -> FallenError:
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(1)
        time.sleep(0.1)  # the terminal's last words are on their way
        return FallenError(f"{self.name} {why}\n{self._shown.decode(errors='replace').strip()}")

    def close(self) -> None:
        """Ends the process and what it has started."""
        self._signal(signal.SIGKILL)
        self._process.wait()
        for descriptor in (self._words, self._answers):
            os.close(descriptor)


@dataclass
class Result:
    """What a contestant has shown: seconds of each round but the warm-up, and its test accuracy."""

    seconds: list[float] = field(default_factory=list)
    accuracy: float | None = None

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


def race(
    entries: Sequence[Entry],
    *,
    rounds: int,
    tell: Callable[[str], None] = print,
    patience: float = PATIENCE,
    turn: float = TURN,
) -> dict[str, Result]:
    """Runs a warm-up and `rounds` rounds, each in another order; who falls is told of and left out of the results.

    Args:
        turn: seconds of training until the next one has its turn; PATIENCE: a whole epoch.
    """
    # Who stands still would outlive a benchmark that just dies of a signal.
    with handle_signals(), ExitStack() as stack:
        there: dict[str, Contestant] = {}
        for one in entries:  # one after the other: they read their data while the machine is theirs
            there[one.name] = Contestant(one, patience=patience)
            stack.callback(there[one.name].close)
            _each({one.name: there[one.name]}, Contestant.ready, there, tell)
        results = {name: Result() for name in there}
        for number in range(rounds + 1):
            times = _round({name: there[name] for name in rotated(list(there), number)}, turn, there, tell)
            tell(f"  round {number or 'warm-up'}: " + ", ".join(f"{name} {s:.2f} s" for name, s in times.items()))
            if number:
                for name, seconds in times.items():
                    results[name].seconds.append(seconds)
        for name, accuracy in _each(dict(there), Contestant.end, there, tell).items():
            results[name].accuracy = accuracy
        return {name: results[name] for name in there}


def _round(
    training: dict[str, Contestant],
    turn: float,
    there: dict[str, Contestant],
    tell: Callable[[str], None],
) -> dict[str, float]:
    """Seconds of an epoch of each, the first one to be done first."""
    times: dict[str, float] = {}
    while training:
        for name, seconds in _each(training, lambda c: c.turn(turn), there, tell).items():
            if seconds is not None:
                times[name] = seconds
        training = {name: c for name, c in training.items() if name in there and name not in times}
    return times


def _each(
    asked: Mapping[str, Contestant],
    ask: Callable[[Contestant], Any],
    there: dict[str, Contestant],
    tell: Callable[[str], None],
) -> dict[str, Any]:
    answers = {}
    for name, contestant in asked.items():
        try:
            answers[name] = ask(contestant)
        except FallenError as fallen:
            tell(f"  left out: {fallen}")
            del there[name]
    return answers


def rotated(names: list[str], number: int) -> list[str]:
    """Each round begins with another contestant."""
    start = number % len(names) if names else 0
    return names[start:] + names[:start]


def new_folder() -> "tempfile.TemporaryDirectory[str]":
    """Where the contestants of a race leave their runs."""
    return tempfile.TemporaryDirectory(prefix="benchmark-")
