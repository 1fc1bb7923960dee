import os
import signal
import threading
from collections.abc import Iterator

import pytest

from train_smarter.interrupt import SIGNALS, Interrupted, heeded, stop


@pytest.fixture
def heeding() -> Iterator[None]:
    with heeded():
        yield


@pytest.mark.usefixtures("heeding")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_while_nobody_waits_for_it_a_signal_ends_the_command_at_once(number: signal.Signals, code: int) -> None:
    with pytest.raises(Interrupted) as caught:
        os.kill(os.getpid(), number)
    assert caught.value.code == code


@pytest.mark.usefixtures("heeding")
def test_while_somebody_waits_the_first_signal_is_noted_and_the_second_ends_the_command() -> None:
    stop.waits = True
    os.kill(os.getpid(), signal.SIGTERM)
    assert stop.asked == signal.SIGTERM
    with pytest.raises(Interrupted):
        os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.usefixtures("heeding")
def test_a_signal_that_was_taken_over_is_taken_back() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # as Lightning does, or nearly
    stop.listen()
    with pytest.raises(Interrupted):
        os.kill(os.getpid(), signal.SIGTERM)


def test_afterwards_the_signals_are_whose_they_were_and_nothing_is_asked_any_more() -> None:
    before = [signal.getsignal(number) for number in SIGNALS]
    with heeded():
        stop.waits = True
        os.kill(os.getpid(), signal.SIGINT)
    assert [signal.getsignal(number) for number in SIGNALS] == before
    assert (stop.asked, stop.waits) == (None, False)


def test_in_a_thread_of_its_own_a_run_leaves_the_signals_alone() -> None:
    failed = []

    def heed() -> None:
        try:
            with heeded():
                pass
        except ValueError as error:  # what Python answers there
            failed.append(error)

    thread = threading.Thread(target=heed)
    thread.start()
    thread.join()
    assert not failed
