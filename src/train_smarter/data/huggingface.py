"""Data sets that the library `datasets` loads: local files of several formats, folders of images, names on the hub."""

import inspect
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from train_smarter.data.base import Data, data_dir
from train_smarter.data.decoders import ImageDecoder
from train_smarter.data.examples import Examples, RawDataset
from train_smarter.data.file_storage import FileStorage
from train_smarter.data.hub import hub_access, import_extra, official_splits
from train_smarter.data.hub_columns import (
    Targets,
    describe_columns,
    detect_kind,
    input_columns,
    is_image,
    is_number,
    is_text,
    kind_of,
    read_targets,
    target_columns,
)
from train_smarter.data.hub_images import ColumnDecoder
from train_smarter.data.image_data import ImageData
from train_smarter.data.storage import check_cache
from train_smarter.data.table_data import TableData
from train_smarter.data.text_data import TextData
from train_smarter.data.text_files import TextLine
from train_smarter.data.texts import read_text_rows
from train_smarter.errors import UserError

BUILDERS = ("arrow", "csv", "imagefolder", "json", "parquet", "text")  # formats of local files alone


@dataclass(frozen=True)
class Source:
    """What `load_dataset` is given.

    path: one of `BUILDERS`, a folder, or a name on the hub. dir: the data folder; prepared copies go to its folder
    `huggingface`. download: False: nothing is fetched, or written.
    """

    path: str
    dir: str
    name: str | None = None
    data_files: Any = None
    data_dir: str | None = None
    revision: str | None = None
    download: bool = True

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> "Source":
        """By the keys of data's config; other keys are ignored."""
        return cls(**{key: settings[key] for key in cls.__annotations__ if key in settings})

    def load(self) -> dict[str, Any]:
        """The `datasets.Dataset` of each official split, by our names.

        Raises:
            UserError: there is no such data set, it cannot be read, or has no training split.
        """
        return official_splits(self._load(), self.path)

    def _load(self) -> dict[str, Any]:
        datasets = import_extra("datasets", "data=huggingface")
        settings = {"data_files": self.data_files, "data_dir": self.data_dir, "revision": self.revision}
        with hub_access("data.path", self.path, download=self.download, known=BUILDERS):
            if self.download:
                return dict(
                    datasets.load_dataset(
                        self.path, self.name, cache_dir=str(data_dir(self.dir) / "huggingface"), **settings
                    )
                )
            self._reject_addresses()
            with tempfile.TemporaryDirectory() as folder:
                place = folder if self.path in BUILDERS else None
                return dict(
                    datasets.load_dataset(self.path, self.name, cache_dir=place, keep_in_memory=True, **settings)
                )

    def _reject_addresses(self) -> None:
        """Raise a UserError where something could be fetched though nothing may: `datasets` fetches files offline, too.

        A folder may name addresses in its README.md; a name on the hub is looked up in the cache alone.
        """
        values = [self.path, self.name, self.data_dir, self.revision, *_texts(self.data_files)]
        remote = next((value for value in values if value and ("://" in value or "::" in value)), None)
        if remote is None and self.path not in BUILDERS and Path(self.path).expanduser().exists():
            remote = self.path
        if remote is not None:
            raise UserError(
                f"{remote} may lead to the network, and nothing is downloaded that only a run's config names, or under "
                f"data.download=false: type data.path={self.path} yourself"
            )


def _texts(node: Any) -> Iterator[str]:
    if isinstance(node, Mapping):
        node = node.values()
    elif isinstance(node, str):
        yield node
        return
    for value in node or ():
        yield from _texts(value)


# ---- which class reads it


def describe(settings: Mapping[str, Any], task: str) -> dict[str, Any]:
    """What only the data know of a config: its class and its facts; None marks keys of other kinds of data.

    Args:
        settings: the group `data`; arguments of `HuggingFace` among them.
        task: the name of the task's class, "" without one.

    Raises:
        UserError: the data cannot be read, or do not fit the task.
    """
    splits = Source.of(settings).load()
    features = splits["train"].features
    targets = target_columns(features, settings.get("target"), needed=task != "Reconstruction")
    inputs = input_columns(features, settings.get("input"), targets)
    kind = _input_kind(features, inputs)
    facts: dict[str, Any] = {"_target_": f"{__name__}.{kind.__name__}", "input": inputs, "target": targets}
    if targets:
        found = read_targets(splits, targets, kind=kind_of(features, targets, task))
        facts |= {"num_classes": None, "num_targets": None, **found.facts}
    return facts | ({"shape": [len(inputs)]} if kind is HuggingFaceTable else {})


def detect_targets(settings: Mapping[str, Any]) -> tuple[str, str] | None:
    """What the targets are, and the reason, see `detect_kind`; None: no column is named, and none is called label.

    Args:
        settings: the group `data`.
    """
    train = Source.of(settings).load()["train"]
    columns = target_columns(train.features, settings.get("target"), needed=False)
    return detect_kind(train, columns) if columns else None


def unused_keys(target: str) -> tuple[str, ...]:
    """Keys of conf/data/huggingface.yaml that a class of this module does not take."""
    bases: dict[type, type] = {HuggingFaceTexts: TextData, HuggingFaceImages: ImageData, HuggingFaceTable: TableData}
    taken = {kind.__name__: _parameters(kind) | _parameters(base) for kind, base in bases.items()}
    own = taken[target.rpartition(".")[2]] | _parameters(HuggingFace)
    return tuple(sorted(set().union(*taken.values()) - own))


def _parameters(kind: type) -> set[str]:
    given = inspect.signature(kind).parameters.values()
    return {parameter.name for parameter in given if parameter.kind is parameter.KEYWORD_ONLY}


def _input_kind(features: Mapping[str, Any], columns: Sequence[str]) -> "type[HuggingFace]":
    kinds = {HuggingFaceImages: is_image, HuggingFaceTexts: is_text, HuggingFaceTable: is_number}
    for kind, fits in kinds.items():
        if all(fits(features[column]) for column in columns) and (kind is not HuggingFaceImages or len(columns) == 1):
            return kind
    shown = describe_columns({column: features[column] for column in columns})
    raise UserError(
        f"data.input=[{','.join(columns)}]: give a column of images, or columns of texts or of numbers, not {shown}"
    )


# ---- the data sets


class HuggingFace(Data):
    """Columns of a data set that `datasets` loads. The subclasses are for texts, images and numbers.

    Official splits stay as they are; validation and test are cut from train where they are missing.

    Args:
        path, name, data_files, data_dir, revision: see `Source`.
        input: the columns of inputs.
        target: the columns of targets; [] for none.
        dir: the data folder.
    """

    NOT_READ_KEYS = (*Data.NOT_READ_KEYS, "_loaded")

    def __init__(
        self,
        *,
        path: str,
        input: Sequence[str],  # noqa: A002 (the key)
        target: Sequence[str],
        dir: str,  # noqa: A002
        name: str | None = None,
        data_files: Any = None,
        data_dir: str | None = None,
        revision: str | None = None,
        **data: Any,
    ) -> None:
        super().__init__(**data)
        self.settings = {"path": path, "dir": dir, "name": name, "data_files": data_files}
        self.settings |= {"data_dir": data_dir, "revision": revision}
        self.input, self.target = list(input), list(target)
        self._loaded: dict[str, Any] | None = None  # until it is read

    def load_splits(self) -> dict[str, Any]:
        """The `datasets.Dataset` of each official split."""
        if self._loaded is None:
            self._loaded = Source(**self.settings, download=self.may_download).load()
        return self._loaded

    def download(self) -> None:
        self.load_splits()

    def setup(self, stage: str | None = None) -> None:
        super().setup(stage)
        self._loaded = None

    def read(self) -> RawDataset:
        splits = self.load_splits()
        targets = self._read_targets(splits)
        inputs = self.read_inputs(self._used(splits, targets))
        examples = {split: Examples(part, targets.by_split.get(split)) for split, part in inputs.items()}
        return RawDataset(targets.names, examples["train"], examples.get("val"), examples.get("test"))

    def _read_targets(self, splits: Mapping[str, Any]) -> Targets:
        if not self.target:
            return Targets({}, [], {})
        task = "Regression" if self.num_targets is not None else ""
        return read_targets(splits, self.target, kind=kind_of(splits["train"].features, self.target, task))

    def _used(self, splits: Mapping[str, Any], targets: Targets | None = None) -> dict[str, Any]:
        """The splits that are examples: a test split may have no labels."""
        targets = targets or self._read_targets(splits)
        return {name: dataset for name, dataset in splits.items() if name in targets.by_split or not self.target}

    def read_inputs(self, splits: Mapping[str, Any]) -> dict[str, Any]:
        """The inputs of each split."""
        return {split: self.read_split(dataset) for split, dataset in splits.items()}

    def read_split(self, dataset: Any) -> Any:
        """The inputs of a split."""
        raise NotImplementedError


class HuggingFaceTexts(HuggingFace, TextData):
    """Columns of texts, joined by line breaks."""

    def __init__(self, *, dir: str, **text: Any) -> None:  # noqa: A002
        super().__init__(dir=dir, **text)
        self.dir = data_dir(dir)  # of the cache of encoded texts

    def fingerprint(self) -> Any:
        splits = {split: dataset._fingerprint for split, dataset in self.load_splits().items()}
        return [splits, self.input, self.target, self.num_targets]

    def read_split(self, dataset: Any) -> list[str]:
        columns = [dataset[column][:] for column in self.input]
        return ["\n".join(part or "" for part in row) for row in zip(*columns, strict=True)]

    def iter_inputs(self, given: str) -> Iterator[TextLine]:
        """Rows of a file with the columns of `input`, or lines: see `read_texts`."""
        rows = read_text_rows(given, self.input)
        return super().iter_inputs(given) if rows is None else rows


class HuggingFaceTable(HuggingFace, TableData):
    """Columns of numbers."""

    NOT_READ_KEYS = (*TableData.NOT_READ_KEYS, "_loaded")

    def read_split(self, dataset: Any) -> Tensor:
        self.columns = self.input
        rows = dataset.select_columns(self.input).with_format("numpy")[:]
        return torch.stack([torch.as_tensor(rows[column]).double() for column in self.input], 1)


class HuggingFaceImages(HuggingFace, ImageData):
    """A column of images of any size and kind, scaled to `size` x `size` pixels; broken ones are left out.

    Args:
        size: height and width in pixels.
        cache: where the decoded images are held, see `ImageFolder`; a cache file is in the data folder's `cache`.
    """

    NOT_READ_KEYS = (*ImageData.NOT_READ_KEYS, "_loaded", "_broken")

    def __init__(self, *, size: int, cache: str | None = None, **image: Any) -> None:
        super().__init__(**image)
        if type(size) is not int or size < 1:
            raise UserError(f"data.size={size}: give a whole number of pixels, at least 1")
        self.size, self.cache = size, check_cache(cache)
        self._broken: dict[str, set[int]] = {}  # rows of each split, from `read_inputs` on

    def preprocess(self) -> dict[str, Any]:
        return {**super().preprocess(), "size": self.size}

    def download(self) -> None:
        """Makes the cache file, too; the other processes of this machine open it."""
        self._storage(self._used(self.load_splits())).prepare()

    def read(self) -> RawDataset:
        source = super().read()
        val, test = (
            part and self._drop_broken(name, part) for name, part in (("val", source.val), ("test", source.test))
        )
        return replace(source, train=self._drop_broken("train", source.train), val=val, test=test)

    def _drop_broken(self, split: str, examples: Examples) -> Examples:
        if split not in self._broken:
            return examples
        kept = [row for row in range(len(examples)) if row not in self._broken[split]]
        if not kept:
            raise UserError(f"data.input={self.input[0]}: no image of {split} can be read; the log names them")
        return examples.take(torch.tensor(kept))

    def read_inputs(self, splits: Mapping[str, Any]) -> dict[str, Any]:
        opened = dict(zip(splits, self._storage(splits).open(), strict=True))
        self._broken = {
            split: {stored.place[file] for file in stored.broken} for split, stored in opened.items() if stored.broken
        }
        return {split: stored.rows for split, stored in opened.items()}

    def _storage(self, splits: Mapping[str, Any]) -> FileStorage:
        decoders = [self._decoder(split, dataset) for split, dataset in splits.items()]
        return FileStorage(
            [(decoder.files, decoder) for decoder in decoders],
            root=Path(),
            folder=data_dir(str(self.settings["dir"])) / "cache",
            given=self.cache,
            copies=self.trainer.num_devices if self.trainer else 1,
            writable=self.may_download,
        )

    def _decoder(self, split: str, dataset: Any) -> ColumnDecoder:
        column = self.input[0]
        undecoded = type(dataset.features[column])(decode=False)
        channels, height, width = self.stored_shape
        images = ImageDecoder(height, width, channels, resize=self.resize)
        rows = dataset.select_columns([column]).cast_column(column, undecoded)
        return ColumnDecoder(rows, f"{dataset._fingerprint} {column}", f"{self.settings['path']} {split}", images)
