"""What every model shares: steps, metrics, optimizers and checkpoints. A model's own file holds layers and `forward`.

Shape letters, everywhere in this project: B batch, C channels, H W image, T tokens, D features, K classes.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from lightning import LightningModule
from torch import Tensor
from torch.optim import Optimizer
from torch.utils._pytree import tree_map

from train_smarter.data.base import Data
from train_smarter.data.examples import Batch, split_rows
from train_smarter.errors import UserError
from train_smarter.failures import explain_construction
from train_smarter.fit.finetuning import FineTuning, set_rates
from train_smarter.fit.gradient_mean import GradientMean
from train_smarter.fit.lr_schedule import LRSchedule
from train_smarter.fit.muon import Muon, matrix_groups
from train_smarter.fit.pretrained import load_pretrained
from train_smarter.task.base import Task, check_outputs, check_targets, make_task, split_targets
from train_smarter.task.split_metric import SplitMetric

log = logging.getLogger(__name__)

ROWS_AT_ONCE = 4096  # targets that a task learns from at a time
OptimizerFactory = Callable[[Iterable[Any]], Optimizer]


class Model(LightningModule):
    """Trains and evaluates a network. Loss, predictions and metrics are those of its task.

    A subclass builds its layers in `__init__` and implements `forward(inputs) -> outputs`: logits or values,
    (B, num_outputs, ...). Its hyperparameters are plain numbers, strings, lists and dicts, so a checkpoint loads with
    `weights_only=True` and by `load_from_checkpoint(path)` alone.

    Args:
        task: a task, or its plain config, {"_target_": ..., ...}.
        optimizer: parameters, or groups of them -> optimizer; needed to train, not to evaluate.
        scheduler: the learning rate's schedule, or None for a constant one.
        pretrained: weights to start from: a checkpoint, a file of weights, or True for those that come with a network
            of a library. They are used where name and shape agree, and those of classes where their names do; inputs
            are converted as they know them.
        freeze, unfreeze_epoch, layer_decay, decay_norms: see `FineTuning`.
        compile: a mode of torch.compile for the forward pass in training ("default", "reduce-overhead" with CUDA
            graphs, "max-autotune"), or None; checkpoints are the same.
        output_per: what `forward` returns one vector for: example, token, pixel, or value (outputs of the inputs'
            shape). The config check compares it with the task's; None: it does not.
    """

    task: Task

    def __init__(
        self,
        *,
        task: Task | Mapping[str, Any],
        optimizer: OptimizerFactory | None = None,
        scheduler: LRSchedule | None = None,
        pretrained: str | bool | None = None,
        freeze: str | int = "none",
        unfreeze_epoch: int | None = None,
        layer_decay: float = 1.0,
        decay_norms: bool = True,
        compile: str | None = None,  # noqa: A002
        output_per: str | None = None,  # noqa: ARG002 (for the config check)
    ) -> None:
        super().__init__()
        # With the arguments of the subclass; functions and objects could not be loaded with `weights_only=True`.
        self.save_hyperparameters(ignore=["optimizer", "scheduler", "task"])
        self.task = make_task(task)
        self.hparams["task"] = self.task.config()
        self.optimizer, self.scheduler = optimizer, scheduler
        self.pretrained, self.compile_mode = pretrained or None, compile
        self.finetuning = FineTuning(
            freeze=freeze, unfreeze_epoch=unfreeze_epoch, layer_decay=layer_decay, decay_norms=decay_norms
        )
        self.gradient_mean = GradientMean()
        self.automatic_optimization = not self.is_solved
        self._measured: set[str] = set()  # splits whose metrics a plateau schedule has not seen yet
        # Plain dicts: a running count is neither a part of the network nor of its checkpoint.
        self.epoch_metrics: dict[str, SplitMetric] = {}  # by split, of the epoch under way
        self.test_metrics: dict[str, SplitMetric] = {}  # by split, of the latest test run

    @property
    def num_outputs(self) -> int:
        """Size of the channel dimension of the outputs, as the task needs it."""
        if self.task.num_outputs is None:
            raise UserError(
                f"{type(self).__name__} needs to know how many outputs it has, but {type(self.task).__name__} fixes "
                "no number: give another model, or another task"
            )
        return self.task.num_outputs

    # ---- models that are solved, without gradients

    def solve(self, data: Data) -> None:
        """Compute the weights, buffers or parameters, from the training examples of `data`, once, before the epochs.

        A model that has this method takes no gradient steps: one epoch measures it.
        """
        raise NotImplementedError

    @property
    def is_solved(self) -> bool:
        return type(self).solve is not Model.solve

    def _solve(self, data: Data) -> None:
        if self.trainer.world_size > 1:  # DDP refuses a model without gradients
            raise UserError(
                f"{type(self).__name__} takes no gradient steps, which {self.trainer.world_size} processes share: "
                "type trainer=auto trainer.devices=1"
            )
        self.solve(data)

    def _measure_step(self, batch: Batch) -> None:
        with torch.no_grad():
            self._step(batch, self.epoch_metrics["train"])
        # A batch counts as a step, by which checkpoints and loggers know one epoch from another.
        steps = self.trainer.fit_loop.epoch_loop.manual_optimization.optim_step_progress
        steps.increment_ready()
        steps.increment_completed()

    # ---- Lightning's hooks

    def _step(self, batch: Batch, metric: SplitMetric) -> tuple[Tensor, Any]:
        task: Task = self.task
        targets, outputs = task.targets(batch), self(batch[0])
        loss = task.loss(outputs, targets)
        detached = outputs.detach() if isinstance(outputs, Tensor) else tree_map(_detach, outputs)
        weight = task.weight(targets)
        metric.append(loss, weight, task.metric_inputs(detached, targets))
        if self.training:
            self.gradient_mean.weight = weight
        return loss, outputs

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor | None:  # noqa: ARG002
        if self.is_solved:
            self._measure_step(batch)
            return None
        try:
            loss, _ = self._step(batch, self.epoch_metrics["train"])
            penalty = self.penalty(batch)
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):
                raise
            raise UserError(self._why_no_batch_norm()) from error
        # Only when Lightning hands it on: a log call costs as much as a small model's step.
        if (self.trainer.global_step + 1) % self.trainer.log_every_n_steps == 0:  # type: ignore[attr-defined]
            self.log("train/loss_step", loss, prog_bar=True, on_epoch=False)
        return loss if penalty is None else loss + penalty

    def penalty(self, batch: Batch) -> Tensor | None:  # noqa: ARG002
        """A mean over the batch that training adds to the task's loss, after `forward`; None: nothing.

        For example an L2 of the weights that each example uses. `train/loss` does not contain it, as `val/loss` does
        not.
        """
        return None

    def _why_no_batch_norm(self) -> str:
        """Why batch norm, which needs two examples, has one."""
        data = getattr(self.trainer, "datamodule", None)
        size = len(data.examples["train"]) if isinstance(data, Data) else None
        without = ", or model.batch_norm=false" if "batch_norm" in self.hparams else ""
        if size is not None and size < 2 * self.trainer.world_size:
            return (
                f"batch norm cannot train on a single example, and train has {size}: give more data or a smaller "
                f"data.val_fraction and data.test_fraction{without}"
            )
        return f"batch norm cannot train on batches of a single example: type data.batch_size=2 or more{without}"

    def validation_step(self, batch: Batch, batch_idx: int) -> None:  # noqa: ARG002
        self._step(batch, self.epoch_metrics["val"])

    def test_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> Any:  # noqa: ARG002
        """Return the outputs: callbacks receive them as `outputs`."""
        return self._step(batch, list(self.test_metrics.values())[dataloader_idx])[1]

    def on_train_start(self) -> None:
        self._measured.clear()  # of the sanity check
        self.epoch_metrics["train"] = self._new_metric()  # a run that goes on within an epoch skips that epoch's start
        self._start_epoch()

    def on_train_epoch_start(self) -> None:
        self._start_epoch()
        self.epoch_metrics["train"] = self._new_metric()

    def _start_epoch(self) -> None:
        if self.finetuning.start_epoch(self.current_epoch):
            log.info("epoch %d: all weights train", self.current_epoch)

    def on_validation_epoch_start(self) -> None:
        self.epoch_metrics["val"] = self._new_metric()

    def on_test_epoch_start(self) -> None:
        loaders = len(self.trainer.num_test_batches)
        splits = getattr(self.trainer.datamodule, "splits", None)  # type: ignore[attr-defined]
        if not (isinstance(splits, tuple) and len(splits) == loaders and all(isinstance(name, str) for name in splits)):
            splits = ("test", *(f"test_{place}" for place in range(1, loaders)))  # of another datamodule
        self.test_metrics = {name: self._new_metric() for name in splits}

    def _new_metric(self) -> SplitMetric:
        return self.task.new_metric().to(self.device)

    def on_train_epoch_end(self) -> None:
        if self.is_solved:
            self.trainer.should_stop = True
        self._log_scores("train", self.epoch_metrics["train"], prog_bar=(self.task.headline,))

    def on_validation_epoch_end(self) -> None:
        self._log_scores("val", self.epoch_metrics["val"], prog_bar=("loss", self.task.headline))

    def on_test_epoch_end(self) -> None:
        for name, metric in self.test_metrics.items():
            self._log_scores(name, metric)

    def _log_scores(self, split: str, metric: SplitMetric, prog_bar: Sequence[str] = ()) -> None:
        scores = metric.scores()
        if scores.keys() | metric.unmeasured != {"loss", *self.task.metrics}:
            raise UserError(
                f"{type(self.task).__name__} computes {', '.join(scores)}, but task.metrics declares "
                f"{', '.join(self.task.metrics) or 'none'}: name the same in conf/task"
            )
        self._measured.add(split)
        for name, value in scores.items():
            # The metric has summed over all processes: each holds the same value. A test run that goes through train
            # and val as well returns their clean scores, and leaves the curves of the training alone.
            drawn = bool(self.trainer.loggers) and (not self.trainer.testing or split == "test")
            self.log(f"{split}/{name}", value, prog_bar=name in prog_bar, logger=drawn)

    # ---- what is trained, and how

    def _foreign_targets(self, data: Any) -> Iterator[Any]:
        """The training targets of another LightningDataModule; nothing is read before the first one is used."""
        yield from (self.task.targets(batch) for batch in data.train_dataloader())

    def setup(self, stage: str) -> None:
        data = getattr(self.trainer, "datamodule", None)
        if isinstance(data, Data):
            self._fit_task(data, learn=stage == "fit")
            if stage == "fit" and self.is_solved:
                self._solve(data)
        elif data is not None and stage == "fit" and type(self.task).fit is not Task.fit:
            self.task.fit(self._foreign_targets(data))
        if stage == "fit" and isinstance(data, Data) and data.mixed_by:
            self._check_mixing(data.mixed_by)
        if stage == "fit" and self.automatic_optimization:
            self.gradient_mean.attach(self, world=self.trainer.world_size)
        if stage == "fit" and self.pretrained:
            log.info("%s", load_pretrained(self, self.task, data, self.pretrained))
        if stage == "fit":  # here, before DDP looks which parameters get gradients
            self._freeze()
        if stage == "fit" and self.compile_mode:
            # The function, not the module: names in checkpoints stay as they are. An evaluation would have to be
            # compiled anew, for its mode and its batches' sizes, and is too short to earn that back.
            eager, compiled = self.forward, torch.compile(self.forward, mode=self.compile_mode)
            self.forward = lambda *given: (compiled if self.training else eager)(*given)  # type: ignore[method-assign]

    def _check_mixing(self, keys: Sequence[str]) -> None:
        if not self.task.MIXES:
            raise UserError(
                f"{', '.join(keys)}: the targets of {type(self.task).__name__} cannot be mixed, only those of "
                f"classification, multilabel and reconstruction: type {' '.join(f'{key}=null' for key in keys)}"
            )
        log.info(
            "%s: train/ metrics are of mixed images, and compare with the label of the larger share; validation, test "
            "and results are not mixed",
            ", ".join(keys),
        )

    def _fit_task(self, data: Data, *, learn: bool) -> None:
        """Check the targets of every split, and let the task learn from those of training."""
        for split, examples in data.examples.items():
            check_targets(self.task, examples, split)
            if learn and split == "train" and type(self.task).fit is not Task.fit:
                parts = split_targets(self.task, examples, every=True)
                self.task.fit(piece for part in parts for piece in split_rows(part, ROWS_AT_ONCE))

    def make_layers_for(self, checkpoint: Mapping[str, Any]) -> None:
        """Make layers whose shape depends on a checkpoint, before its weights are loaded; by default there are none."""

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        check_outputs(self.task, checkpoint)
        self.make_layers_for(checkpoint)

    def library_weights(self) -> tuple[dict[str, Tensor], str]:
        """The weights that `pretrained=True` means, by name, and where they come from."""
        raise UserError(
            f"model.pretrained=true: {type(self).__name__} comes with no weights; give a checkpoint or a file of "
            "weights, or choose a network that does: model=torchvision"
        )

    def weights_normalization(self) -> dict[str, Any] | None:
        """{"mean", "std"} of the images that the network's published weights were trained on; None: as the data's."""
        return None

    def adapt_names(self, given: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Given weights by the names that they have today."""
        return dict(given)

    def adapt_weight(self, name: str, given: Tensor, own: Tensor) -> tuple[Tensor, str]:  # noqa: ARG002
        """A given weight as this model uses it, and what was changed, for the log."""
        return given, ""

    def _freeze(self) -> None:
        if note := self.finetuning.start(self):
            log.info("%s", note)
        if self.finetuning.unfreeze_epoch is not None and self.trainer.world_size > 1:
            raise UserError(
                f"model.unfreeze_epoch: DDP does not average the gradients of weights that unfreeze later over its "
                f"{self.trainer.world_size} processes: type trainer=auto trainer.devices=1; or train twice, with "
                "model.freeze=backbone, then with model.pretrained=<its best.ckpt>"
            )

    def configure_optimizers(self) -> Any:
        if self.is_solved:
            return []
        if self.optimizer is None:
            raise UserError("this model was loaded to be evaluated; give it an `optimizer` to train it")
        try:
            groups = self.finetuning.groups(self)
            muon = getattr(self.optimizer, "func", None) is Muon
            optimizer = self.optimizer(matrix_groups(self, groups) if muon else groups)
        except Exception as error:
            made = getattr(self.optimizer, "func", self.optimizer)  # of a partial
            raise explain_construction(error, "optimizer", getattr(made, "__qualname__", made)) from error
        set_rates(optimizer)
        return optimizer if self.scheduler is None else self.scheduler.build(optimizer, self.trainer)

    def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:
        """Show a plateau schedule each value of its metric once: epochs may have none, or that of an earlier one."""
        split = str(self.scheduler.monitor).partition("/")[0] if self.scheduler is not None else ""
        if split not in ("train", "val") or split in self._measured:
            super().lr_scheduler_step(scheduler, metric)
        self._measured.discard(split)


def _detach(value: Any) -> Any:
    return value.detach() if isinstance(value, Tensor) else value
