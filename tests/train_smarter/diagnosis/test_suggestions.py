from collections.abc import Callable
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf

from train_smarter.config.check import check
from train_smarter.diagnosis.findings import Finding
from train_smarter.diagnosis.measurements import Measurements
from train_smarter.diagnosis.rules import RULES
from train_smarter.diagnosis.suggestions import PROPOSALS, suggest

Compose = Callable[..., DictConfig]

ADAM = {"_target_": "torch.optim.Adam", "lr": 1e-3, "weight_decay": 0.0}
MLP = {"widths": [8, 8, 8], "dropout": 0.0, "batch_norm": False, "optimizer": ADAM}
TASK = {"class_weights": None, "label_smoothing": 0.0, "metrics": {"accuracy": "max", "f1": "max"}}
CONFIG: dict[str, Any] = {
    "optimizer": ADAM,
    "model": MLP,
    "task": TASK,
    "data": {"shape": [1, 28, 28], "batch_size": 64, "augment": {"crop": {"padding": 0}}, "fold": None},
    "trainer": {"max_epochs": 4, "gradient_clip_val": None, "precision": "32-true", "accelerator": "cpu"},
    "callbacks": {"early_stopping": {"patience": 2, "min_delta": 0.0}},
    "monitor": "val/accuracy",
}
FACTS = Measurements(train_classes=[90, 10], patience=8, validations=2)


def of(name: str, config: dict[str, Any] | None = None, facts: Measurements = FACTS, **optimizer: Any) -> list[str]:
    config = CONFIG if config is None else config
    config = {**config, "optimizer": {**config.get("optimizer", {}), **optimizer}}
    return suggest(Finding(name, "warning", ""), config, facts)


@pytest.mark.parametrize(
    ("name", "advised"),
    [
        ("overfitting", ["data.augment.crop.padding=2", "model.dropout=0.2", "optimizer.weight_decay=0.001"]),
        ("underfitting", ["model.widths=[64,64,64]"]),
        ("training_too_short", ["trainer.max_epochs=12", "optimizer.lr=0.003"]),
        ("vanishing_gradients", ["model.widths=[8,8]", "model.batch_norm=true"]),
        ("exploding_gradients", ["model.batch_norm=true", "trainer.gradient_clip_val=1", "optimizer.lr=0.0001"]),
        ("dead_relus", ["model.batch_norm=true", "optimizer.lr=0.0001"]),
        ("early_stopping_too_soon", ["callbacks.early_stopping.patience=8"]),
        # 4 epochs have 2 validations, patience 8 takes 11: 22 epochs
        ("early_stopping_never", ["trainer.max_epochs=22"]),
        # 100 / 2 classes: 50 / 90 and 50 / 10
        ("class_imbalance", ["task.class_weights=[0.56,5]", "monitor=val/f1"]),
        ("data_starvation", ["data.batch_size=256"]),
        ("accuracy_noise", []),
    ],
)
def test_advice_is_what_this_config_has_and_does_not_say_already(name: str, advised: list[str]) -> None:
    assert of(name) == advised


@pytest.mark.parametrize(("l2", "advised"), [(0.0, "model.l2=0.05"), (0.02, "model.l2=0.05"), (0.14, "model.l2=0.28")])
def test_embeddings_that_overfit_need_more_of_their_own_l2_and_no_weight_decay(l2: float, advised: str) -> None:
    embeddings = {**CONFIG, "model": {"dim": 64, "l2": l2, "optimizer": ADAM}, "data": {"batch_size": 64}}
    assert of("overfitting", embeddings) == [advised, "task.label_smoothing=0.1"]


def test_a_run_that_its_steps_ended_needs_more_of_them() -> None:
    short = {**CONFIG, "trainer": {**CONFIG["trainer"], "max_steps": 100}}
    assert of("training_too_short", short) == ["trainer.max_steps=300", "optimizer.lr=0.003"]


def test_a_rate_that_is_far_off_is_set_to_the_usual_one_of_its_optimizer_else_a_tenth_or_ten_times() -> None:
    assert of("learning_rate_too_high", lr=10.0) == ["optimizer.lr=0.001"]
    assert of("learning_rate_too_high", lr=0.002) == ["optimizer.lr=0.0002"]
    assert of("learning_rate_too_high", lr=10.0, _target_="torch.optim.SGD") == ["optimizer.lr=0.01"]
    assert of("learning_rate_too_low", lr=1e-7) == ["optimizer.lr=0.001"]
    assert of("learning_rate_too_low", lr=1e-3) == ["optimizer.lr=0.01"]


def test_dead_relus_under_a_high_rate_are_the_rates_fault() -> None:
    assert of("dead_relus", lr=0.5)[0] == "optimizer.lr=0.001"


def test_broken_inputs_have_no_override_that_mends_them() -> None:
    assert of("nan_loss", facts=Measurements(nan_location={"where": "inputs of the batch (examples 1)"})) == []
    assert of("nan_loss", facts=Measurements(nan_location={"where": "weights of head"}))[0] == "optimizer.lr=0.0001"
    half = {**CONFIG, "trainer": {**CONFIG["trainer"], "precision": "16-mixed"}}
    assert of("nan_loss", half, Measurements(nan_location={"where": "loss"}))[0] == "trainer.precision=bf16-mixed"


def test_a_class_without_examples_has_no_weight() -> None:
    assert of("class_never_predicted", facts=Measurements(train_classes=[90, 0])) == []


def test_classes_that_are_nearly_alike_need_no_weights() -> None:
    assert of("class_never_predicted", facts=Measurements(train_classes=[90, 100])) == []


def test_patience_is_lowered_where_there_are_validations_enough() -> None:
    never = of("early_stopping_never", facts=Measurements(patience=8, validations=8))
    # 4 epochs have 8 validations: 11 of them take 6 epochs
    assert never == ["trainer.max_epochs=6"]
    patient = {**CONFIG, "callbacks": {"early_stopping": {"patience": 8, "min_delta": 0.0}}}
    assert of("early_stopping_never", patient, Measurements(patience=8, validations=8))[1:] == [
        "callbacks.early_stopping.patience=2"
    ]


def test_weights_of_many_classes_are_not_spelled_out() -> None:
    assert of("class_imbalance", facts=Measurements(train_classes=[90] * 20 + [5])) == ["monitor=val/f1"]


def test_classes_that_are_drawn_equally_often_get_no_weights() -> None:
    drawn = {**CONFIG, "data": {**CONFIG["data"], "sampler": "balanced"}}
    assert of("class_imbalance", drawn) == ["monitor=val/f1"]
    assert of("class_never_predicted", drawn) == []


def test_a_strangers_config_gets_no_advice_that_it_could_not_take() -> None:
    assert [of(name, {}) for name in PROPOSALS] == [[]] * len(PROPOSALS)
    assert [of(name, {"model": None, "data": {"shape": None}}) for name in PROPOSALS] == [[]] * len(PROPOSALS)


def test_every_finding_but_luck_has_proposals() -> None:
    assert {rule.__name__ for rule in RULES} - PROPOSALS.keys() == {"accuracy_noise"}


@pytest.mark.parametrize("experiment", ["digits_cnn", "digits_mlp", "phrases_lstm"])
def test_every_advice_on_an_experiment_composes_and_is_valid(compose: Compose, experiment: str) -> None:
    config: Any = OmegaConf.to_container(compose(f"experiment={experiment}", "trainer=cpu"), resolve=True)
    classes = [90, *[10] * (config["data"]["num_classes"] - 1)]
    words = {
        word
        for name in PROPOSALS
        for word in of(name, config, Measurements(train_classes=classes, patience=8, validations=8))
    }
    assert len(words) > 10
    rounds: list[dict[str, str]] = []  # a key once in each
    for word in sorted(words):
        key = word.partition("=")[0]
        free = next((one for one in rounds if key not in one), None)
        if free is None:
            rounds.append(free := {})
        free[key] = word
    for one in rounds:
        check(compose(f"experiment={experiment}", "trainer=cpu", *one.values()))


@pytest.mark.parametrize(
    ("settings", "epochs", "advised"),
    [
        ({"max_time": "00:00:00:02", "max_epochs": 1000}, 3, "trainer.max_time=00:00:00:06"),
        ({"max_time": {"minutes": 30}, "max_epochs": None}, 3, "trainer.max_time=00:01:30:00"),
        ({"max_time": "00:00:00:02", "max_epochs": 4}, 4, "trainer.max_epochs=12"),
        ({"max_steps": 100, "max_epochs": 1000}, 3, "trainer.max_steps=300"),
        ({"max_steps": 100, "max_epochs": 4}, 4, "trainer.max_epochs=12"),
    ],
)
def test_a_short_run_needs_more_of_what_ended_it(settings: dict[str, Any], epochs: int, advised: str) -> None:
    short = {**CONFIG, "trainer": {**CONFIG["trainer"], **settings}}
    assert of("training_too_short", short, Measurements(epochs=epochs)) == [advised, "optimizer.lr=0.003"]
