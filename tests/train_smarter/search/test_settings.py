import re
import shlex
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from train_smarter.errors import UserError
from train_smarter.search.settings import check_name, check_rate
from train_smarter.search.space import parse_space
from train_smarter.search.study import next_name


@pytest.mark.parametrize("value", [7, float("nan"), 1000.0, True, None, "7", "7_2", "1e3", ""])
def test_a_name_of_a_study_that_is_read_as_a_number_is_refused(value: Any) -> None:
    with pytest.raises(UserError, match=rf"^hydra\.sweeper\.study_name={value}.*give a name with letters"):
        check_name(value)


@pytest.mark.parametrize("name", ["default_digits", "2026-11-30 widths", "nan_2", "lr1e-3"])
def test_the_next_study_of_a_name_has_a_name_that_can_be_typed(name: str) -> None:

    assert check_name(name) == name
    (word,) = shlex.split(next_name(name))
    assert OverridesParser.create().parse_override(word).value() == f"{name}_2"


@pytest.mark.parametrize("value", ["two", 1.5, -0.1, True])
def test_a_rate_of_failures_is_a_share(value: Any) -> None:
    with pytest.raises(
        UserError, match=re.escape(f"hydra.sweeper.max_failure_rate={value}: give a number from 0 to 1")
    ):
        check_rate(value)
    assert check_rate(0.5) == 0.5


def test_the_word_of_a_search_space_that_cannot_be_read_is_named() -> None:
    with pytest.raises(UserError, match=r"optimizer\.lr=interval\(0\.1,0\.01\): .*low <= high"):
        parse_space(["model.hidden=choice(8,16)", "optimizer.lr=interval(0.1,0.01)"])
