"""Choices of model, data and task that do not fit are refused by their configs alone."""

import subprocess
import sys
from collections.abc import Callable

import pytest
from omegaconf import DictConfig, OmegaConf

from train_smarter.config.check import check
from train_smarter.errors import UserError

Compose = Callable[..., DictConfig]
DIGITS = "the data has examples of one shape (data.shape=[1, 28, 28]), classes (data.num_classes=10)"
PHRASES = "the data has tokens (data.vocab_size=128), classes (data.num_classes=2)"

# What a user may type, and the answer.
MISFITS = {
    "data=digits model=lstm": f"model=lstm does not fit data=digits: it needs tokens (data.vocab_size); {DIGITS}",
    "data=phrases model=mlp": (
        f"model=mlp does not fit data=phrases: it needs data of one shape (data.shape); {PHRASES}"
    ),
    "data=digits data.shape=[10] model=cnn": (
        "model=cnn does not fit data=digits: it needs images (data.shape=[C, H, W]); the data has 10 numbers an "
        "example (data.shape=[10]), classes (data.num_classes=10)"
    ),
    "data=phrases model=cnn": (
        f"model=cnn does not fit data=phrases: it needs images (data.shape=[C, H, W]); {PHRASES}"
    ),
    "data=digits task=regression": (
        f"task=regression does not fit data=digits: it needs numbers as targets (data.num_targets); {DIGITS}"
    ),
    "data=digits ~data.num_classes task=classification": (
        "task=classification does not fit data=digits: it needs classes (data.num_classes); the data has examples of "
        "one shape (data.shape=[1, 28, 28])"
    ),
    "data=digits task=segmentation": (
        "model=cnn does not fit data=digits with task=segmentation: it returns one output vector an example, but the "
        "task needs one output vector a pixel; give another model=... or task=..."
    ),
    "data=phrases model=lstm task=language_model": (
        "model=lstm does not fit data=phrases with task=language_model: it returns one output vector an example, but "
        "the task needs one output vector a token; give another model=... or task=..."
    ),
    "data=digits model.output_per=pixel": (
        "model=cnn does not fit data=digits with task=classification: it returns one output vector a pixel, but the "
        "task needs one output vector an example; give another model=... or task=..."
    ),
    "model.output_per=word": "model.output_per=word: give one of example, token, pixel, value, pair, user, or null",
}


def test_an_unknown_name_in_a_table_of_facts_is_answered_with_the_known_ones_once() -> None:
    release = "${.releases.${.release}.num_users}"
    data = {"release": "ml-1k", "releases": {"ml-100k": {"num_users": 943}}, "num_users": release}
    cfg = OmegaConf.create({"data": data, "model": {"num_users": "${data.num_users}"}})
    with pytest.raises(UserError) as answer:
        check(cfg)
    assert str(answer.value) == "data.release=ml-1k: give one of ml-100k; did you mean 'ml-100k'?"


@pytest.mark.parametrize(("words", "told"), MISFITS.items(), ids=MISFITS)
def test_a_choice_that_does_not_fit_names_what_is_needed_and_what_there_is(
    compose: Compose, words: str, told: str
) -> None:
    with pytest.raises(UserError) as answer:
        check(compose(*words.split()))
    assert str(answer.value) == told


@pytest.mark.parametrize(
    "words",
    [
        "data=digits model=cnn",
        "data=digits model=mlp",
        "data=phrases model=lstm",
        "data=digits model=mlp model.output_per=value task=reconstruction",
        "data=digits model=cnn model.output_per=null task=segmentation",  # not compared
        "data=digits model=cnn task.output_per=null",
    ],
)
def test_what_fits_or_cannot_be_compared_passes(compose: Compose, words: str) -> None:
    check(compose(*words.split()))


def test_the_check_imports_no_torch() -> None:
    code = "import sys, train_smarter.config.check, train_smarter.config.resolvers; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "False"
