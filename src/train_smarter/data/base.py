"""What every data set shares: the split, the order of the examples, the batches and their way to the device.

A data set's own file only reads (`read`). An example is read once and kept in memory as tensors, a GPU's where they
fit; a batch is one indexed copy. Order and random numbers of an epoch depend on (seed, epoch) alone.
"""

import json
import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from lightning import LightningDataModule
from torch.utils._pytree import tree_map

from train_smarter.data.balanced import BalancedOrder
from train_smarter.data.examples import Batch, Examples, RawDataset, RawInput, SplitName, first_tensor, join, move
from train_smarter.data.loader import Loader, ShardedBatchSampler
from train_smarter.data.reuse import ReadCache, copy_containers, equal_settings
from train_smarter.data.split import Rest, class_counts, describe_counts, is_classes, log_absent_classes
from train_smarter.data.token_rows import lengths_of
from train_smarter.data.workers import choose_workers
from train_smarter.errors import UserError

log = logging.getLogger(__name__)


class Data(LightningDataModule):
    """A data set: read, split, batched, on the device. Subclasses implement `read`, and `download` where there is one.

    Args:
        num_classes: K classes or labels, held against the real names in `setup`; None: the data have none.
        num_targets: D numbers an example, for a regression; None: the data have none.
        batch_size: examples per step and process.
        eval_batch_size: examples per step and process where no gradients are kept.
        val_fraction: share of train that becomes validation, stratified by class, where there is no official validation
            split.
        test_fraction: the same for test, cut before validation; a share of everything.
        refit: train on validation, too, which is then not measured on: a last training, once everything is chosen.
        folds, fold: with `fold` f set, validation is the f-th of `folds` disjoint stratified pieces of train.
        split_seed: fixes the splits; independent of the training seed.
        seed: fixes order and augmentation, with the epoch.
        shuffle: False: training examples come in the same order each epoch, and without augmentation.
        sampler: "balanced": an epoch of training draws each class equally often, and as many examples as there are;
            None: each example once.
        download: fetch files that are missing; False: nothing is written to the data set's folder, caches included.
        num_workers: processes that read examples which are slow to read: files that are decoded for each batch, or a
            Dataset; 0: the training process reads them; None: one a core, at most 8.
        on_device: keep the examples on the model's GPU, where a batch costs next to nothing; None: if all of them take
            at most half of its free memory.
    """

    splits: tuple[SplitName, ...] = ("test",)  # what `test_dataloader` serves; `evaluate` asks for more
    kind = "examples"  # what they are called
    mixed_by: Sequence[str] = ()  # what mixes the targets of a training batch, by the keys of the config
    # Inputs are token ids (N, T), 0 = padding and 1 = unknown, or those of a pretrained model, `TokenRows`.
    has_token_inputs = False
    # Whether `setup` takes over what the last object of this process read, if its settings and its `fingerprint` were
    # the same; without a fingerprint, files that have changed since are not seen.
    reuse_across_jobs = False
    # Attributes that reading does not depend on: each object has its own.
    NOT_READ_KEYS: tuple[str, ...] = (
        "batch_size",
        "eval_batch_size",
        "seed",
        "shuffle",
        "sampler",
        "on_device",
        "num_workers",
        "may_download",
        "splits",
        "trainer",
    )
    _last: ClassVar[ReadCache | None] = None

    def __init__(
        self,
        *,
        num_classes: int | None = None,
        num_targets: int | None = None,
        batch_size: int = 64,
        eval_batch_size: int = 128,
        val_fraction: float = 0.1,
        test_fraction: float = 0.2,
        refit: bool = False,
        folds: int = 5,
        fold: int | None = None,
        split_seed: int = 0,
        seed: int = 0,
        shuffle: bool = True,
        sampler: str | None = None,
        on_device: bool | None = None,
        num_workers: int | None = None,
        download: bool = True,
    ) -> None:
        super().__init__()
        if batch_size is None:
            raise UserError("data.batch_size=null: give a whole number of at least 1")
        self.may_download = download
        self.num_classes, self.num_targets = num_classes, num_targets
        self.batch_size, self.eval_batch_size = batch_size, eval_batch_size
        self.val_fraction, self.test_fraction, self.folds, self.fold = val_fraction, test_fraction, folds, fold
        self.split_seed, self.seed, self.shuffle, self.on_device = split_seed, seed, shuffle, on_device
        self.sampler, self.num_workers, self.refit = sampler, num_workers, refit
        self.names: list[str] = []  # of classes, labels or target columns
        self.examples: dict[SplitName, Examples] = {}
        self._placed: dict[tuple[SplitName, torch.device], Examples] = {}

    # ---- what a data set adds

    def download(self) -> None:
        """Fetches what is missing; runs once per machine."""

    def read(self) -> RawDataset:
        """The raw examples and their names, in a fixed order."""
        raise NotImplementedError

    def fingerprint(self) -> Any:
        """What changes when the raw data do, as a JSON value that is quick to get; None: unknown."""
        return None

    def encode(self, splits: dict[SplitName, Examples]) -> dict[SplitName, Examples]:
        """Turns read examples into tensors; may learn from `train` only (a vocabulary, say), and not once it has."""
        return splits

    def preprocess(self) -> dict[str, Any]:
        """All that a later `evaluate` or `predict` needs to treat new input alike, as JSON values."""
        return {"names": self.names}

    def load_preprocess(self, preprocess: dict[str, Any]) -> None:
        """Takes over what a past run's `preprocess` returned, before `setup`; what is read then has to fit it."""
        self.names = list(preprocess["names"])

    def adopt_inputs(self, preprocess: dict[str, Any]) -> None:
        """Treat inputs as a checkpoint to start from knows them, by what its run's `preprocess` returned.

        The names may differ: a head for other classes starts afresh.
        """

    # ---- a user's own input, treated like the examples

    def iter_inputs(self, given: str) -> Iterator[Any]:
        """What the user names, one by one as it is asked for: files, or lines of one.

        Raises:
            UserError: there is nothing of that name.
        """
        raise UserError(f"input={given}: {type(self).__name__} reads no input of your own; type split=test")

    def load_input(self, source: Any) -> RawInput:
        """Reads one of `iter_inputs`; called in several threads.

        Raises:
            Exception: it is broken.
        """
        raise NotImplementedError

    def collate(self, contents: Sequence[Any]) -> Batch:
        """What was read, as a batch without targets; after `load_preprocess` or `setup`."""
        read: Any = list(contents) if isinstance(contents[0], str) else stack(contents)
        return self.encode({"test": Examples(read)})["test"].inputs, None

    # ---- what `predict` writes

    def id_columns(self, inputs: Any) -> dict[str, Sequence[Any]]:  # noqa: ARG002
        """What names the examples of a batch beside their index, by column; default: nothing."""
        return {}

    def add_columns(self, columns: dict[str, Sequence[Any]]) -> dict[str, Sequence[Any]]:
        """The columns of a task with what the data know of their values, titles for example; default: as they are."""
        return columns

    # ---- Lightning's hooks

    def state_dict(self) -> dict[str, Any]:
        """What the weights of a checkpoint mean travels with them, as plain values: `weights_only` reads no others."""
        return {"preprocess": json.loads(json.dumps(self.preprocess()))}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Hold the data that are set up against those of the checkpoint; Lightning calls this."""
        if preprocess := state_dict.get("preprocess"):
            read, self.names = self.names, list(preprocess["names"])
            self.set_names(read)
            self.adopt_inputs(preprocess)

    def prepare_data(self) -> None:
        if self.may_download:
            self.download()

    def setup(self, stage: str | None = None) -> None:  # noqa: ARG002 (one setup serves every stage)
        """Reads, splits and encodes once; later calls find it done."""
        if self.examples:
            return
        if self.reuse_across_jobs:
            self._load_or_reuse()
        else:
            self.load()
        self._validate()
        self.log_summary()

    def _load_or_reuse(self) -> None:
        """Takes over what the last object has read, or reads, and keeps it for the next one."""
        settings, last = {**self._read_settings(), "": self.fingerprint()}, Data._last
        if last and last.kind is type(self) and equal_settings(last.settings, settings):
            log.info("the examples are in memory, from the run before")
            vars(self).update(copy_containers(last.content))
            return
        Data._last = last = None  # never two data sets in memory
        self.load()
        Data._last = ReadCache(type(self), settings, self._read_settings())

    def _read_settings(self) -> dict[str, Any]:
        """The attributes that reading depends on, and, after it, those that it has filled."""
        return {name: copy_containers(value) for name, value in vars(self).items() if name not in self.NOT_READ_KEYS}

    def load(self) -> None:
        """Fills `names` and `examples`."""
        try:
            source = self.read()
        except UserError as error:
            if self.may_download:
                raise
            raise UserError(
                f"{error}\nNothing is downloaded to a folder that only the run's config names: to allow it, type "
                "paths.data=... or data.dir=... yourself"
            ) from error
        self.set_names(source.names)
        self.examples = self.encode(self.split(source))

    def set_names(self, names: Sequence[str]) -> None:
        """The names that were read, which have to be those of the run that is gone back to."""
        if self.names and self.names != list(names):
            raise UserError(
                f"{type(self).__name__} has the classes {list(names)}, but the run was trained on {self.names}: "
                "give data with the same classes, in the same order"
            )
        self.names = list(names)

    def log_summary(self) -> None:
        """Log what each split holds."""
        for name, examples in self.examples.items():
            classes = class_counts(examples.targets, self.num_classes)
            per_class = dict(zip(self.names, classes, strict=True)) if classes else {}
            told = f", per class {per_class}" if per_class else ""
            short = f"{name + ':':6} {len(examples):>9,} examples{describe_counts(per_class)}"
            log.info("%s: %d examples%s", name, len(examples), told, extra={"screen": short})
        log_absent_classes(self.names, self.examples)
        if self.refit:
            log.info("data.refit=true: the %d examples of val are in train, too", len(self.examples["val"]))

    def split(self, source: RawDataset) -> dict[SplitName, Examples]:
        """Train, validation and test; official splits are left as they are."""
        rest = Rest(source.train, source.strata, source.groups)
        val, test = source.val, source.test
        if test is None:
            test, rest = rest.cut("test", self.test_fraction, seed=self.split_seed)
        whole = rest.examples
        if self.fold is not None:
            if self.folds > (count := len(rest.examples)):
                raise UserError(
                    f"data.folds={self.folds}: there are {count} examples for data.fold; give {count} or less"
                )
            val, rest = rest.cut_fold(self.folds, fold=self.fold, seed=self.split_seed + 1)
        elif val is None:
            val, rest = rest.cut("val", self.val_fraction, seed=self.split_seed + 1)
        elif self.refit:
            whole = join(whole, val)
        return {"train": whole if self.refit else rest.examples, "val": val, "test": test}

    def train_dataloader(self) -> Loader:
        return self.loader("train", training=True)

    def val_dataloader(self) -> Loader:
        return self.loader("val")

    def test_dataloader(self) -> list[Loader]:
        return [self.loader(name) for name in self.splits]

    def loader(self, name: SplitName, *, training: bool = False) -> Loader:
        """Batches of a split: shuffled and of training size, or in order and of evaluation size."""
        rank, world = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        length = len(self.examples[name])
        if length < world:  # one process would wait for the others for ever
            raise UserError(f"{name} has {length} examples, but {world} processes are to share them: use fewer devices")
        sampler = ShardedBatchSampler(
            length,
            batch_size=self.batch_size if training else self.eval_batch_size,
            shuffle_seed=self.seed if training else None,
            reshuffle=self.shuffle and not getattr(self.trainer, "overfit_batches", False),
            balanced=BalancedOrder(self.examples[name].targets) if training and self.sampler == "balanced" else None,
            lengths=lengths_of(self.examples[name].inputs),
            rank=rank,
            world=world,
        )
        device = self.trainer.strategy.root_device if self.trainer else torch.device("cpu")
        examples = self.examples_on(device, name)
        return Loader(
            examples,
            sampler,
            pin=device.type == "cuda" and first_tensor(examples.inputs).device != device,
            random=training and self.shuffle,
            num_workers=choose_workers(self.num_workers, processes=self.trainer.num_devices if self.trainer else 1),
        )

    def examples_on(self, device: torch.device, name: SplitName) -> Examples:
        """The examples of a split where batches are cut from them: on the model's device, or on the CPU."""
        if not self.fits_on(device):
            return self.examples[name]
        if (name, device) not in self._placed:
            self._placed[name, device] = self.examples[name].to(device)
        return self._placed[name, device]

    def fits_on(self, device: torch.device) -> bool:
        """Whether the examples are to lie on the model's device; settled when it is first asked."""
        if self.on_device is None and device.type == "cuda":
            free, _ = torch.cuda.mem_get_info(device)
            self.on_device = sum(examples.bytes for examples in self.examples.values()) <= free / 2
        return bool(self.on_device) and not any(examples.slow for examples in self.examples.values())

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:  # noqa: ARG002 (Lightning's hook)
        early = device.type != "mps"  # there, the copy would be read before it is complete, as Lightning knows, too
        return move(batch[0], device, non_blocking=early), move(batch[1], device, non_blocking=early)

    def _validate(self) -> None:
        kind = type(self).__name__
        if self.num_classes is not None and len(self.names) != self.num_classes:
            raise UserError(f"data.num_classes={self.num_classes}, but {kind} has {len(self.names)}: {self.names}")
        if self.sampler not in (None, "balanced"):
            raise UserError(f"data.sampler={self.sampler}: give balanced, or null")
        if self.sampler and not is_classes(self.examples["train"].targets):
            raise UserError(f"data.sampler=balanced draws classes equally often, and the targets of {kind} are none")
        for name, examples in self.examples.items():
            if not len(examples):
                raise UserError(f"{kind}: the {name} split is empty; check data.val_fraction, data.fold and the files")


def stack(contents: Sequence[Any]) -> Any:
    """Inputs, tensors or dicts of them, as one batch."""
    return tree_map(lambda *parts: torch.stack(parts), *contents)


def data_dir(path: str | os.PathLike[str]) -> Path:
    """The folder as an absolute path, `~` expanded."""
    return Path(path).expanduser().resolve()
