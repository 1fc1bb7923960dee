import pytest

from train_smarter.errors import UserError, did_you_mean


@pytest.mark.parametrize(
    ("given", "hint"),
    [("cifar", "; did you mean 'cifar10'?"), ("minst", "; did you mean 'mnist'?"), ("imagenet-21k", ""), ("", "")],
)
def test_the_nearest_name_is_the_one_that_was_meant(given: str, hint: str) -> None:
    assert did_you_mean(given, ["cifar10", "mnist", "imdb"]) == hint


def test_without_any_name_there_is_no_nearest() -> None:
    assert did_you_mean("cifar", []) == ""


def test_a_mistake_is_its_message() -> None:
    assert str(UserError("one line")) == "one line"
    assert issubclass(UserError, Exception)
