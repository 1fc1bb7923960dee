import csv
import io
import logging
import sys

import pytest

from train_smarter.sanitize import Formatter, csv_cell, escape_controls, escape_controls_in_lines


def test_a_text_is_printed_on_one_line_and_steers_no_terminal() -> None:
    assert escape_controls("é 日本\x1b[2J\n\t\udcff\x9b\u202e") == r"é 日本\x1b[2J\n\t\udcff\x9b\u202e"
    assert escape_controls(7) == "7"


def test_lines_and_tabs_may_be_kept() -> None:
    assert escape_controls_in_lines("a\n\tb\x1b]0;title\x07\r\n") == "a\n\tb\\x1b]0;title\\x07\\r\n"


@pytest.mark.parametrize(
    ("cell", "safe"),
    [
        ("=1+1", "'=1+1"),
        ("+cmd", "'+cmd"),
        ("-x", "'-x"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1", "'\t=1"),
        ("\r=1", "'\r=1"),
        ("-1", "-1"),
        ("+1.5e3", "+1.5e3"),
        ("a=b", "a=b"),
        ("\n=1", "'\n=1"),
        ("＝1+1", "'＝1+1"),  # noqa: RUF001
        ("", ""),
        ("'=1", "'=1"),
        (-1.5, -1.5),
        (None, None),
    ],
)
def test_no_cell_is_a_formula_and_a_number_stays_one(cell: object, safe: object) -> None:
    assert csv_cell(cell) == safe


def test_a_safe_cell_comes_through_a_csv_file() -> None:
    file = io.StringIO()
    csv.writer(file).writerow([csv_cell("=1,2"), csv_cell("\t")])
    assert next(csv.reader(io.StringIO(file.getvalue()))) == ["'=1,2", "'\t"]


def test_a_log_message_and_its_traceback_steer_no_terminal() -> None:
    try:
        raise ValueError("\x1b[31mred\nsecond line")
    except ValueError:
        line = logging.LogRecord("a", logging.INFO, "b", 1, "%s\x07", ("\x1b[2J",), sys.exc_info())
    told = Formatter("%(message)s").format(line)
    assert told.startswith("\\x1b[2J\\x07\nTraceback")
    assert told.endswith("ValueError: \\x1b[31mred\nsecond line")
