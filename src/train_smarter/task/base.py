"""What is learned from the targets: loss, predictions and metrics. A task knows no network and no data set.

Shape letters, everywhere in this project: B batch, C channels, H W image, T tokens, D features, K classes.
"""

import io
import logging
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from lightning.pytorch.core.mixins.hparams_mixin import HyperparametersMixin
from torch import Tensor, nn

from train_smarter.data.examples import Examples, count_rows, read_rows, spread
from train_smarter.errors import UserError, did_you_mean
from train_smarter.task.samples.base import Samples
from train_smarter.task.split_metric import SplitMetric
from train_smarter.trust.build_object import build_object

log = logging.getLogger(__name__)

SAMPLE, SLOW_SAMPLE = 2048, 256  # targets by which a split is judged that is not in memory
ROWS_AT_ONCE = 256  # targets that are read together

Columns = dict[str, Sequence[Any]]  # by name, one value an example
Files = dict[str, Sequence[bytes]]  # by "<column>.<extension>", one content an example


class Task(nn.Module, HyperparametersMixin):
    """Turns outputs of a network and targets into a loss, predictions and metrics.

    A subclass implements `loss`, `predict` and, for metrics other than the loss, `metric_inputs` and `make_metrics`.
    Its arguments are plain numbers, strings, lists and dicts, since a checkpoint keeps them. conf/task/<name>.yaml
    names the class, its arguments and its metrics.

    Args:
        metrics: {name: max | min}, the headline first; null leaves one out. None: all of `METRICS`.
        output_per: what a network has to return one vector for: example, token, pixel, or value (outputs of the inputs'
            shape). The config check compares it with the model's; None: it does not.

    Targets of mixed examples (MixUp, CutMix) are floats (B, K): the share that each class or label has in each example.

    Attributes:
        num_outputs: size of the channel dimension of the network's output (B, num_outputs, ...); None: not fixed.
    """

    METRICS: ClassVar[Mapping[str, str]] = {}  # all that the task can compute, with their direction
    OUTPUT_ARGS: ClassVar[Sequence[str]] = ()  # arguments that change what the outputs of a network mean
    MIXES: ClassVar[bool] = False  # whether `loss`, `weight` and `metric_inputs` take targets of mixed examples
    num_outputs: int | None = None

    def __init__(
        self,
        *,
        metrics: Mapping[str, str | None] | None = None,
        output_per: str | None = None,  # noqa: ARG002 (for the config check)
    ) -> None:
        super().__init__()
        self.save_hyperparameters()  # with the arguments of the subclass
        self.metrics = {name: mode for name, mode in (metrics or self.METRICS).items() if mode}
        for name in self.metrics if self.METRICS else ():
            if name not in self.METRICS:
                known = list(self.METRICS)
                raise UserError(f"task.metrics.{name}: give some of {', '.join(known)}{did_you_mean(name, known)}")

    # ---- what a task implements

    def loss(self, outputs: Any, targets: Any) -> Tensor:
        """Mean loss of a batch, a scalar."""
        raise NotImplementedError

    def predict(self, outputs: Any) -> dict[str, Tensor]:
        """What an exported model returns, by name; each tensor has B rows."""
        raise NotImplementedError

    def metric_inputs(self, outputs: Any, targets: Any) -> tuple[Tensor, ...]:  # noqa: ARG002
        """What the metrics need of a batch: small tensors that may be concatenated with those of other batches."""
        return ()

    def make_metrics(self) -> nn.Module | None:
        """A `torchmetrics.Metric` or `MetricCollection` whose `compute` returns {name: value}.

        Its `update` takes `metric_inputs`; a `details` method may return more JSON values for results.json.
        """
        return None

    # ---- what a task may replace

    def targets(self, batch: Any) -> Any:
        """What `loss` and `metric_inputs` get."""
        return batch[1]

    def weight(self, targets: Any) -> int | Tensor:
        """What the mean of `loss` was divided by: examples, pixels, tokens or a sum of weights."""
        return len(targets) if isinstance(targets, Tensor) else count_rows(targets)

    def fit(self, targets: Iterable[Any]) -> None:
        """Learn what depends on the training targets, into buffers; called once, with batches of them."""

    def check(self, targets: Any, split: str) -> None:
        """Check all targets of a split.

        Raises:
            UserError: they do not fit this task.
        """

    def chance_loss(self, targets: Any) -> float | None:  # noqa: ARG002
        """Loss of the best constant prediction, for the diagnosis; None: unknown, and no rule uses it.

        targets: as `loss` gets them, of many examples together.
        """
        return None

    def average_mirrored(self, outputs: Tensor, mirrored: Tensor) -> Tensor:
        """Outputs whose predictions are the mean of those of images and of their mirror images, for `tta=flip`."""
        raise NotImplementedError

    def make_samples(self, count: int) -> Samples | None:  # noqa: ARG002
        """Keeper of about `count` examples of a test run, for the report and TensorBoard; None: the task shows none."""
        return None

    # ---- what `predict` writes

    def predict_input(self, network: Any, inputs: Any) -> dict[str, Tensor]:
        """Predict a user's own input, a batch of it: `network` maps inputs to outputs."""
        return self.predict(network(inputs))

    def predict_split(self, network: Any, inputs: Any) -> dict[str, Tensor]:
        """The same of a batch of a split."""
        return self.predict(network(inputs))

    def set_top(self, top: int) -> None:
        """Have `predict` list the `top` best items of each example.

        Raises:
            UserError: the task ranks nothing.
        """
        raise UserError(f"top={top}: {type(self).__name__} ranks no items; leave it out")

    def columns(self, prediction: Mapping[str, Tensor], names: Sequence[str]) -> Columns:
        """The columns of predictions.csv for what `predict` returned; default: one for each number.

        Args:
            prediction: of one batch.
            names: of the classes, labels or target columns, where the data have some.
        """
        columns: Columns = {}
        for key, values in prediction.items():
            columns |= number_columns(key, values, names) if values.ndim <= 2 else {}
        return columns

    def json_columns(self, prediction: Mapping[str, Tensor], names: Sequence[str]) -> Columns:
        """The same for predictions.jsonl, where a value may be an object or a list."""
        return self.columns(prediction, names)

    def true_columns(self, targets: Any, names: Sequence[str]) -> Columns:
        """The columns of the true targets, before those of the predictions of a split; default: one for each number."""
        if isinstance(targets, Tensor) and targets.ndim <= 2:
            return number_columns("true", targets, names)
        return {}

    def files(self, prediction: Mapping[str, Tensor]) -> Files:
        """Files beside predictions.csv, for what is too large for a column; default: arrays of NumPy.

        Returns:
            {"mask.png": [content of each example]}: written to a folder `masks`, and named in a column `mask`.
        """
        arrays = {key: values for key, values in prediction.items() if values.ndim > 2}
        return {f"{key}.npy": [to_npy(row) for row in values.cpu()] for key, values in arrays.items()}

    def decisions(self, prediction: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What a prediction decides, by its noun, (B, ...); an export counts the examples whose decision differs."""
        return {key: values for key, values in prediction.items() if not values.is_floating_point()}

    # ---- for the engine

    @property
    def headline(self) -> str:
        """The metric that tables and tiles show first."""
        return next(iter(self.metrics), "loss")

    def new_metric(self) -> SplitMetric:
        """Count one split, over one epoch."""
        return SplitMetric(self.make_metrics())

    def config(self) -> dict[str, Any]:
        """The plain config that makes this task again."""
        return {"_target_": f"{type(self).__module__}.{type(self).__qualname__}", **self.hparams}


def make_task(task: Task | Mapping[str, Any]) -> Task:
    """A task as it is, or built from its plain config.

    Raises:
        UserError: the config names no task.
    """
    if isinstance(task, Task):
        return task
    if not isinstance(task, Mapping) or "_target_" not in task:
        raise UserError("this model needs a task: type task=classification, or another choice of conf/task")
    built = build_object(dict(task), "task")
    assert isinstance(built, Task)
    return built


def split_targets(task: Task, examples: Examples, *, every: bool = False) -> Iterator[Any]:
    """The targets of a split, for `Task.check` and `Task.fit`: at once where they are in memory, else read in pieces.

    Args:
        every: read all of them, unless they are slow to read; else a sample that is spread evenly.
    """
    if examples.targets is not None and not Examples(examples.targets).rows:
        yield task.targets((examples.inputs, examples.targets))
        return
    count = len(examples) if every and not examples.slow else SLOW_SAMPLE if examples.slow else SAMPLE
    index = spread(len(examples), count)
    if examples.slow and every and len(index) < len(examples):
        log.info("%s learns from %d of %d training examples", type(task).__name__, len(index), len(examples))
    for part in index.split(ROWS_AT_ONCE):
        inputs = examples.inputs if examples.targets is not None else read_rows(examples.inputs, part)
        yield task.targets((inputs, read_rows(examples.targets, part)))


def check_targets(task: Task, examples: Examples, split: str) -> None:
    """Check the targets of a split.

    Raises:
        UserError: they do not fit the task.
    """
    if type(task).check is not Task.check:
        for targets in split_targets(task, examples):
            task.check(targets, split)


def check_outputs(task: Task, checkpoint: Mapping[str, Any]) -> None:
    """Compare the arguments that the meaning of the outputs depends on with those that a checkpoint was trained with.

    Raises:
        UserError: they differ.
    """
    recorded = (checkpoint.get("hyper_parameters") or {}).get("task") or {}
    for name in task.OUTPUT_ARGS:
        own, then = task.hparams[name], recorded.get(name, task.hparams[name])
        if own != then:
            raise UserError(
                f"task.{name}={str(own).lower()}, but the checkpoint was trained with {str(then).lower()}, and its "
                f"outputs mean something else: type task.{name}={str(then).lower()}"
            )


def number_columns(key: str, values: Tensor, names: Sequence[str]) -> Columns:
    """Values (B,) or (B, D) -> the column `key`, or D columns `key name`, numbered where the names are not D."""
    flat = values.reshape(len(values), -1)
    if flat.shape[1] == 1:
        return {key: flat[:, 0].tolist()}
    ends = names if len(names) == flat.shape[1] else range(flat.shape[1])
    return {f"{key} {end}": column.tolist() for end, column in zip(ends, flat.T, strict=True)}


def to_npy(values: Tensor) -> bytes:
    """The content of a .npy file."""
    buffer = io.BytesIO()
    np.save(buffer, values.numpy())
    return buffer.getvalue()


def class_factors(given: Any, num_classes: int) -> Tensor | None:
    """The factors on the loss of each class (K,); ones for "balanced", which `balanced_factors` replaces; or None.

    Raises:
        UserError: they are not K numbers.
    """
    if given is None or given == "balanced":
        return None if given is None else torch.ones(num_classes)
    numbers = [] if isinstance(given, str) or not isinstance(given, Sequence) else list(given)
    if numbers and len(numbers) != num_classes:
        raise UserError(f"task.class_weights needs {num_classes} numbers, one a class, not {len(numbers)}")
    if not numbers or not all(isinstance(v, int | float) and 0 <= v < math.inf for v in numbers) or not any(numbers):
        raise UserError(
            f"task.class_weights={given}: give {num_classes} numbers of at least 0, one a class, balanced, or null"
        )
    return torch.tensor(numbers, dtype=torch.float)


def balanced_factors(counts: Tensor) -> Tensor:
    """Factors by which every class counts the same in the loss: N / (K n_k) for counts n_k (K,) that sum to N."""
    return counts.sum() / (len(counts) * counts.clamp(min=1))


def average_logits(outputs: Tensor, others: Tensor) -> Tensor:
    """Logits (B, K, ...) whose softmax is the mean of both; floats of at least 32 bits."""
    one, other = (F.log_softmax(logits, 1, dtype=_wide(logits)) for logits in (outputs, others))
    return torch.logaddexp(one, other) - math.log(2)


def average_binary_logits(outputs: Tensor, others: Tensor) -> Tensor:
    """Logits of any shape whose sigmoid is the mean of both; floats of at least 32 bits."""
    one, other = (logits.to(_wide(logits)) for logits in (outputs, others))
    return torch.logaddexp(F.logsigmoid(one), F.logsigmoid(other)) - torch.logaddexp(
        F.logsigmoid(-one), F.logsigmoid(-other)
    )


def _wide(values: Tensor) -> torch.dtype:
    return torch.promote_types(values.dtype, torch.float)


def entropy(counts: Tensor) -> float:
    """Entropy in nats of classes with these counts (K,): the loss of knowing their frequency alone."""
    shares = [count / sum(counts.tolist()) for count in counts.tolist() if count]
    return -sum(share * math.log(share) for share in shares) if shares else math.nan


def check_shape(ok: bool, split: str, wanted: str, targets: Any) -> None:
    """Raise a UserError about the targets of a split unless `ok`."""
    if not ok:
        given = (
            f"{targets.dtype} {tuple(targets.shape)}".removeprefix("torch.")
            if isinstance(targets, Tensor)
            else type(targets).__name__
        )
        raise UserError(
            f"the targets of {split} are {given}, but this task needs {wanted}; another task: type task=..."
        )
