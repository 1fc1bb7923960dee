"""From a finding to overrides that exist in the run's own config, the likeliest help first."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from train_smarter.diagnosis.findings import Finding
from train_smarter.diagnosis.measurements import Measurements
from train_smarter.quoting import to_cli
from train_smarter.run.limits import ended_by, longer_time

MAX_SUGGESTIONS = 3  # overrides for a finding
USUAL_RATES = {"Adam": 1e-3, "AdamW": 1e-3, "SGD": 1e-2}  # learning rates
BALANCED_WEIGHTS = 20  # classes up to which weights are spelled out
MIN_L2 = 0.05  # worth a try where a model has less
NOTABLE_SHIFT = 1.5  # times the smallest weight: less is not worth it

Proposals = Callable[["Settings"], list[tuple[str, Any]]]  # (key, new value); None: there is nothing to change


class Settings:
    """A run's config, as plain dicts, and its facts."""

    def __init__(self, config: Mapping[str, Any], facts: Measurements) -> None:
        self.config, self.facts = config, facts

    def get(self, key: str) -> Any:
        """The value at a dotted key; None where there is no such key."""
        node: Any = self.config
        for name in key.split("."):
            if not isinstance(node, Mapping) or name not in node:
                return None
            node = node[name]
        return node

    def has(self, key: str) -> bool:
        parent, _, name = key.rpartition(".")
        node = self.get(parent) if parent else self.config
        return isinstance(node, Mapping) and name in node

    @property
    def own_optimizer(self) -> bool:
        """Whether the model makes its optimizer itself, so that `optimizer.*` changes nothing."""
        model = self.get("model")
        return isinstance(model, Mapping) and "_target_" in model and "optimizer" not in model

    def can_clip(self) -> bool:
        """Whether `trainer.gradient_clip_val` is free; Lightning refuses it under manual optimization."""
        return self.facts.single_loss and self.get("trainer.gradient_clip_val") is None

    def with_change(self, key: str, value: float) -> float | None:
        """The value, where the present one is smaller."""
        now = self.get(key)
        return value if isinstance(now, int | float) and not isinstance(now, bool) and now < value else None


def suggest(finding: Finding, config: Mapping[str, Any], facts: Measurements) -> list[str]:
    """At most three overrides; none where only the data can be mended."""
    settings = Settings(config, facts)
    proposed = PROPOSALS[finding.name](settings) if finding.name in PROPOSALS else []
    useful = [(key, value) for key, value in proposed if value is not None and settings.has(key)]
    if settings.own_optimizer:
        useful = [(key, value) for key, value in useful if not key.startswith("optimizer.")]
    return [f"{key}={to_cli(value, 3)}" for key, value in useful if value != settings.get(key)][:MAX_SUGGESTIONS]


# ---- learning rates


def _use_usual_rate(settings: Settings) -> float:
    return USUAL_RATES.get(str(settings.get("optimizer._target_")).rpartition(".")[2], 1e-3)


def _lower_rate(settings: Settings) -> float | None:
    """The optimizer's usual one, where that is much less; else a tenth."""
    rate = settings.get("optimizer.lr")
    return None if rate is None else min(_use_usual_rate(settings), rate / 10)


def _raise_rate(settings: Settings) -> float | None:
    rate = settings.get("optimizer.lr")
    return None if rate is None else max(_use_usual_rate(settings), rate * 10)


# ---- size


def _widen(settings: Settings) -> list[tuple[str, Any]]:
    widths, hidden, code = (settings.get(f"model.{name}") for name in ("widths", "hidden", "code"))
    return [
        ("model.code", 4 * code if code else None),
        ("model.widths", [max(64, 4 * width) for width in widths] if widths else None),
        ("model.hidden", max(64, 4 * hidden) if hidden else None),
        ("model.width", 2 * settings.get("model.width") if settings.get("model.width") else None),
    ]


def _make_shallower(settings: Settings) -> list[tuple[str, Any]]:
    widths = settings.get("model.widths")
    return [
        ("model.widths", list(widths)[:2] if widths and len(widths) > 2 else None),
        ("model.num_layers", 1),
    ]


def _raise_dropout(settings: Settings) -> float | None:
    """A step up: much at once takes the order of words from a network that reads."""
    now = settings.get("model.dropout")
    return None if now is None else settings.with_change("model.dropout", min(0.5, round(now + 0.2, 2)))


def _raise_l2(settings: Settings) -> float | None:
    """Twice the model's own L2, of the weights that each example uses."""
    now = settings.get("model.l2")
    return None if now is None else max(MIN_L2, 2 * now)


# ---- a list each


def _against_overfitting(settings: Settings) -> list[tuple[str, Any]]:
    decay = 0.1 if "AdamW" in str(settings.get("optimizer._target_")) else 1e-3
    side = (settings.get("data.shape") or [0])[-1]
    own_l2 = settings.has("model.l2")  # of embeddings: a decay of all of them at each step does not do the same
    return [
        ("model.l2", _raise_l2(settings)),
        ("data.augment.crop.padding", settings.with_change("data.augment.crop.padding", 4 if side >= 32 else 2)),
        ("model.dropout", _raise_dropout(settings)),
        ("data.augment.rotation.degrees", settings.with_change("data.augment.rotation.degrees", 10)),
        ("optimizer.weight_decay", None if own_l2 else settings.with_change("optimizer.weight_decay", decay)),
        ("task.label_smoothing", settings.with_change("task.label_smoothing", 0.1)),
    ]


def _against_underfitting(settings: Settings) -> list[tuple[str, Any]]:
    dropped = settings.get("model.dropout") or 0
    less = [("model.dropout", 0.2 if dropped > 0.5 else None)]
    return [*less, *_widen(settings), ("optimizer.lr", _use_usual_rate(settings)), ("model.dropout", 0.0)]


def _against_short_training(settings: Settings) -> list[tuple[str, Any]]:
    """More of what ended it."""
    epochs, rate = settings.get("trainer.max_epochs"), settings.get("optimizer.lr")
    limit = ended_by(settings.config, settings.facts.epochs)
    by_epochs = limit not in ("max_steps", "max_time") and epochs and epochs > 0
    return [
        ("trainer.max_time", longer_time(settings.get("trainer.max_time"), 3) if limit == "max_time" else None),
        ("trainer.max_steps", 3 * settings.get("trainer.max_steps") if limit == "max_steps" else None),
        ("trainer.max_epochs", max(10, 3 * epochs) if by_epochs else None),
        ("optimizer.lr", 3 * rate if rate else None),
    ]


def _against_vanishing(settings: Settings) -> list[tuple[str, Any]]:
    return [*_make_shallower(settings), ("model.batch_norm", True), ("optimizer.lr", _use_usual_rate(settings))]


def _against_exploding(settings: Settings) -> list[tuple[str, Any]]:
    clip = 1.0 if settings.can_clip() else None
    raw = True if settings.get("task.scale_targets") is False else None
    return [
        ("task.scale_targets", raw),
        ("model.batch_norm", True),
        ("trainer.gradient_clip_val", clip),
        ("optimizer.lr", _lower_rate(settings)),
    ]


def _against_dead_relus(settings: Settings) -> list[tuple[str, Any]]:
    rate = settings.get("optimizer.lr") or 0
    lower = ("optimizer.lr", _lower_rate(settings))
    norm = ("model.batch_norm", True)
    return [lower, norm] if rate > 3 * _use_usual_rate(settings) else [norm, lower]


def _against_nan(settings: Settings) -> list[tuple[str, Any]]:
    """Nothing where the inputs are broken: they are to be mended."""
    if "inputs" in str((settings.facts.nan_location or {}).get("where")):
        return []
    half = "bf16-mixed" if settings.get("trainer.precision") == "16-mixed" else None
    return [
        ("trainer.precision", half),
        ("optimizer.lr", _lower_rate(settings)),
        ("trainer.gradient_clip_val", 1.0 if settings.can_clip() else None),
    ]


def _against_early_stop(settings: Settings) -> list[tuple[str, Any]]:
    patience = settings.get("callbacks.early_stopping.patience")
    return [
        ("callbacks.early_stopping.min_delta", 0 if settings.get("callbacks.early_stopping.min_delta") else None),
        ("callbacks.early_stopping.patience", max(8, 3 * patience) if patience else None),
    ]


def _against_late_stop(settings: Settings) -> list[tuple[str, Any]]:
    """As many epochs as it takes, or a patience that leaves some."""
    epochs, patience, validations = (
        settings.get("trainer.max_epochs"),
        settings.facts.patience,
        settings.facts.validations,
    )
    if not (epochs and patience and validations):
        return []
    enough = math.ceil(epochs * (patience + 3) / validations)
    return [
        ("trainer.max_epochs", enough if epochs > 0 else None),
        ("callbacks.early_stopping.patience", validations // 3 if validations >= 6 else None),
    ]


def _against_shift(settings: Settings) -> list[tuple[str, Any]]:
    """Validation cut from train itself, and a training that sees more than train has."""
    return [
        ("data.fold", 0 if settings.get("data.fold") is None else None),
        ("data.augment.jitter.brightness", settings.with_change("data.augment.jitter.brightness", 0.4)),
        ("model.dropout", _raise_dropout(settings)),
    ]


def _against_label_noise(settings: Settings) -> list[tuple[str, Any]]:
    return [
        ("model.dropout", _raise_dropout(settings)),
        ("task.label_smoothing", settings.with_change("task.label_smoothing", 0.2)),
        ("optimizer.lr", _lower_rate(settings)),
    ]


def _against_imbalance(settings: Settings) -> list[tuple[str, Any]]:
    by_class = "val/f1" if settings.get("task.metrics.f1") else None
    return [("task.class_weights", _class_weights(settings)), ("monitor", by_class)]


def _class_weights(settings: Settings) -> list[float] | None:
    """Balanced weights, unless classes are drawn equally often already."""
    drawn_equally = settings.get("data.sampler") == "balanced"
    return None if drawn_equally else _balanced_weights(settings.facts.train_classes)


def _balanced_weights(counts: Sequence[int]) -> list[float] | None:
    """Weights by which every class counts the same, ten times the mean at most."""
    if not counts or not min(counts) or len(counts) > BALANCED_WEIGHTS:
        return None
    mean = sum(counts) / len(counts)
    weights = [round(min(10.0, mean / count), 2) for count in counts]
    return weights if max(weights) > NOTABLE_SHIFT * min(weights) else None


def _against_data_wait(settings: Settings) -> list[tuple[str, Any]]:
    size = settings.get("data.batch_size")
    gpu = settings.get("trainer.accelerator") not in ("cpu", None)
    decoded = settings.get("data.cache") == "none"  # for each batch
    return [
        ("data.cache", "disk" if decoded else None),
        ("data.on_device", True if gpu and not decoded and settings.get("data.on_device") is not True else None),
        ("data.batch_size", 4 * size if size else None),
        ("data.augment.rotation.degrees", 0),
        ("data.augment.jitter.brightness", 0),
        ("data.augment.rand_augment.num_ops", 0),
        ("data.augment.trivial_augment.p", 0),
    ]


PROPOSALS: dict[str, Proposals] = {
    "nan_loss": _against_nan,
    "exploding_gradients": _against_exploding,
    "learning_rate_too_high": lambda settings: [
        ("optimizer.lr", _lower_rate(settings)),
    ],
    "learning_rate_too_low": lambda settings: [("optimizer.lr", _raise_rate(settings))],
    "vanishing_gradients": _against_vanishing,
    "dead_relus": _against_dead_relus,
    "class_never_predicted": lambda settings: [("task.class_weights", _class_weights(settings))],
    "class_imbalance": _against_imbalance,
    "distribution_shift": _against_shift,
    "label_noise": _against_label_noise,
    "overfitting": _against_overfitting,
    "underfitting": _against_underfitting,
    "training_too_short": _against_short_training,
    "early_stopping_too_soon": _against_early_stop,
    "early_stopping_never": _against_late_stop,
    "data_starvation": _against_data_wait,
}
