import sys

import pytest

from measure import process


def test_a_process_is_measured_to_its_end() -> None:
    measured = process.run([sys.executable, "-c", "import time; time.sleep(0.2); x = b'x' * 300_000_000"])
    assert measured.seconds > 0.2
    assert measured.peak > 300_000_000


def test_a_failed_process_shows_its_last_words() -> None:
    with pytest.raises(process.ProcessError, match=r"ended with 3\nno such luck"):
        process.run([sys.executable, "-c", "import sys; print('no such luck'); sys.exit(3)"])


def test_a_function_in_a_process_of_its_own_returns_json() -> None:
    answer, _ = process.call("measure.table:marks", name="a")
    assert answer == ["<!-- a:begin -->", "<!-- a:end -->"]
