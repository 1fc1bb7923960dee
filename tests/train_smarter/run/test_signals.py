import os
import signal
import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from train_smarter.run import signals
from train_smarter.run.signals import (
    PARENT_VARIABLE,
    SIGNALS,
    TerminatedBySignal,
    exit_with_parent,
    handle_signals,
    signals_state,
)


@pytest.fixture
def heeding() -> Iterator[None]:
    with handle_signals():
        yield


@pytest.mark.usefixtures("heeding")
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)], ids=str
)
def test_while_nobody_waits_for_it_a_signal_ends_the_command_at_once(number: signal.Signals, code: int) -> None:
    with pytest.raises(TerminatedBySignal) as caught:
        os.kill(os.getpid(), number)
    assert caught.value.code == code


@pytest.mark.usefixtures("heeding")
def test_while_somebody_waits_the_first_signal_is_noted_and_the_second_ends_the_command() -> None:
    signals_state.deferred = True
    os.kill(os.getpid(), signal.SIGTERM)
    assert signals_state.received == signal.SIGTERM
    with pytest.raises(TerminatedBySignal):
        os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.usefixtures("heeding")
def test_a_signal_that_was_taken_over_is_taken_back() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # as Lightning does, or nearly
    signals_state.install()
    with pytest.raises(TerminatedBySignal):
        os.kill(os.getpid(), signal.SIGTERM)


def test_a_hangup_that_nohup_ignores_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with handle_signals():
            os.kill(os.getpid(), signal.SIGHUP)
            assert signals_state.received is None
    finally:
        signal.signal(signal.SIGHUP, before)


def test_afterwards_the_signals_are_whose_they_were_and_nothing_is_asked_any_more() -> None:
    before = [signal.getsignal(number) for number in SIGNALS]
    with handle_signals():
        signals_state.deferred = True
        os.kill(os.getpid(), signal.SIGINT)
    assert [signal.getsignal(number) for number in SIGNALS] == before
    assert (signals_state.received, signals_state.deferred) == (None, False)


def test_in_a_thread_of_its_own_a_run_leaves_the_signals_alone() -> None:
    failed = []

    def heed() -> None:
        try:
            with handle_signals():
                pass
        except ValueError as error:  # what Python answers there
            failed.append(error)

    thread = threading.Thread(target=heed)
    thread.start()
    thread.join()
    assert not failed


# ---- the leash of a multirun's job


@pytest.fixture
def other_end(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The other end of this process's input, which the multirun holds; it takes the number out when it lets go."""
    mine, other = os.pipe()
    monkeypatch.setattr(signals, "sys", SimpleNamespace(stdin=SimpleNamespace(fileno=lambda: mine)))
    ends = [other]
    yield ends
    for end in (mine, *ends):
        os.close(end)


def asked_within(seconds: float) -> int | None:
    end = time.monotonic() + seconds
    while signals_state.received is None and time.monotonic() < end:
        time.sleep(0.01)
    return signals_state.received


@pytest.mark.usefixtures("heeding")
def test_a_job_is_asked_to_end_when_its_multirun_is_gone_and_not_before(
    monkeypatch: pytest.MonkeyPatch, other_end: list[int]
) -> None:
    monkeypatch.setenv(PARENT_VARIABLE, "1")
    signals_state.deferred = True
    exit_with_parent()
    assert asked_within(0.2) is None
    os.write(other_end[0], b"what is typed\n\n")
    assert asked_within(0.2) is None
    os.close(other_end.pop())
    assert asked_within(10) == signal.SIGTERM


@pytest.mark.usefixtures("heeding")
def test_a_run_of_its_own_goes_on_whatever_becomes_of_its_input(
    monkeypatch: pytest.MonkeyPatch, other_end: list[int]
) -> None:
    monkeypatch.delenv(PARENT_VARIABLE, raising=False)
    signals_state.deferred = True
    exit_with_parent()
    os.close(other_end.pop())
    assert asked_within(0.2) is None
