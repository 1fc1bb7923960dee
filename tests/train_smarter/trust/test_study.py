from typing import Any

import optuna
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState, create_trial

from train_smarter.errors import UserError
from train_smarter.trust import check_trials, is_value_of

LR = FloatDistribution(0.001, 0.1, log=True)
MODEL = CategoricalDistribution(["cnn", "mlp"])
DRAWN: dict[str, BaseDistribution] = {"optimizer.lr": LR, "model": MODEL}


def check(study: optuna.Study, *, more: bool = False) -> None:
    check_trials(study.get_trials(), DRAWN, more=more, study="s")


@pytest.fixture
def study() -> optuna.Study:
    """Two sound trials, and a point in line."""
    made = optuna.create_study()
    for state, value in ((TrialState.COMPLETE, 0.5), (TrialState.FAIL, None)):
        made.add_trial(
            create_trial(
                state=state, value=value, params={"optimizer.lr": 0.01, "model": "cnn"}, distributions=dict(DRAWN)
            )
        )
    made.enqueue_trial({"optimizer.lr": 0.1, "model": "mlp"})
    return made


def test_a_study_of_what_is_searched_is_accepted(study: optuna.Study) -> None:
    check(study)
    study.ask()._suggest("optimizer.lr", LR)  # one that runs, half drawn
    check(study)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("++hydra.job.env_set.PATH", "/evil"),  # S3
        ("hydra.sweep.dir", "/elsewhere"),  # S4
        ("paths.run", "/elsewhere"),
        ("model._target_", "os.system"),
    ],
)
@pytest.mark.parametrize("state", [TrialState.WAITING, TrialState.COMPLETE, TrialState.FAIL, TrialState.RUNNING])
def test_a_trial_with_another_key_refuses_the_study(
    study: optuna.Study, key: str, value: str, state: TrialState
) -> None:
    done = 1.0 if state == TrialState.COMPLETE else None
    planted = {**DRAWN, key: CategoricalDistribution([value])}
    params = {"optimizer.lr": 0.01, "model": "cnn", key: value}
    study.add_trial(create_trial(state=state, value=done, params=params, distributions=planted))
    with pytest.raises(UserError, match=r"study s is refused: its (waiting )?trial 3"):
        check(study)


@pytest.mark.parametrize("more", [False, True])
def test_a_waiting_trial_that_has_values_already_refuses_the_study(study: optuna.Study, more: bool) -> None:
    study.add_trial(create_trial(state=TrialState.WAITING, params={"model": "cnn"}, distributions={"model": MODEL}))
    with pytest.raises(UserError, match="its waiting trial 3 has parameters already"):
        check(study, more=more)


@pytest.mark.parametrize(
    "point",
    [
        {"paths.run": "/elsewhere"},
        {"model": "resnet"},
        {"model": ["cnn"]},
        {"optimizer.lr": 0.5},
        {"optimizer.lr": "0.01"},
        {"optimizer.lr": "0.01 hydra.run.dir=/x"},
        {"optimizer.lr": float("nan")},
        {"optimizer.lr": None},
    ],
)
def test_a_point_in_line_that_is_not_in_the_search_space_refuses_the_study(
    study: optuna.Study, point: dict[str, Any]
) -> None:
    study.enqueue_trial(point)
    with pytest.raises(UserError, match="which is not a value of what is searched"):
        check(study)


def test_the_same_key_with_another_distribution_refuses_the_study(study: optuna.Study) -> None:
    planted = {**DRAWN, "model": CategoricalDistribution(["cnn", "mlp", "x"])}
    study.add_trial(create_trial(value=1.0, params={"optimizer.lr": 0.01, "model": "cnn"}, distributions=planted))
    with pytest.raises(UserError, match="its trial 3 has model='cnn'"):
        check(study)


def test_a_search_space_of_the_users_own_function_may_have_further_keys(study: optuna.Study) -> None:
    params = {"optimizer.lr": 0.01, "model": "cnn", "model.hidden": 8}
    study.add_trial(
        create_trial(value=1.0, params=params, distributions={**DRAWN, "model.hidden": IntDistribution(1, 9)})
    )
    check(study, more=True)
    with pytest.raises(UserError, match=r"model\.hidden=8"):
        check(study)


@pytest.mark.parametrize(
    ("distribution", "value", "inside"),
    [
        (LR, 0.1, True),
        (LR, 0.2, False),
        (IntDistribution(1, 3), 2, True),
        (IntDistribution(1, 3), 4, False),
        (MODEL, "mlp", True),
        (MODEL, "x", False),
        (CategoricalDistribution([None, True, 1.5]), None, True),
    ],
)
def test_a_value_is_one_of_a_distribution_or_not(distribution: BaseDistribution, value: Any, inside: bool) -> None:
    assert is_value_of(distribution, value) == inside
