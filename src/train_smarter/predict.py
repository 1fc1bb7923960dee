"""`predict`: classes and probabilities of a user's images or texts, or of a split, by a past run's checkpoint."""

from __future__ import annotations

import csv
import io
import json
import logging
import os
import sys
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import count, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TextIO

from omegaconf import DictConfig, OmegaConf

from train_smarter import past, process, record
from train_smarter.check import check
from train_smarter.command import command
from train_smarter.error import UserError, nearest
from train_smarter.paths import LOGS
from train_smarter.sanitize import csv_cell, printable

if TYPE_CHECKING:  # heavy: imported when a config has been composed and checked
    import torch

    from train_smarter.data.base import Batch, Data, Input, SplitName
    from train_smarter.model.base import Classifier

log = logging.getLogger(__name__)

# Words of this verb alone, and what they accept; they are checked here.
CHOICES = {
    "split": ("train", "val", "test"),
    "format": ("csv", "jsonl"),
    "device": ("auto", "cpu", "cuda", "mps"),
}
SHOWN = 5  # so few predictions are shown in the terminal as well


def main() -> None:
    """The console script."""
    command("predict", act, words)


def words(typed: Sequence[str]) -> list[str]:
    """The command line as Hydra is to see it."""
    # A text, a file, or what a shell makes of a glob.
    bare = [word for word in typed if "=" not in word and word[:1] != "~"]
    if bare and not any(word.startswith("-") for word in typed):
        shown = f"{' '.join(bare[:3])}{' ...' if len(bare) > 3 else ''}"
        raise UserError(
            f"{shown}: type input=..., with quotes around a text or a glob, 'input=a good film', 'input=photos/*.png'"
        )
    if len(several := [word for word in typed if word.startswith("input=")]) > 1:
        raise UserError(f"{' '.join(several)}: give one input; a folder or a glob in quotes takes many images")
    return past.reading(typed, "predict", LOGS, literal=("input", "output"))


def act(cfg: DictConfig) -> None:
    """Predicts what `input=` or `split=` names with the run that `run=` names.

    Raises:
        SystemExit: with 1, if some of it could not be read; the rest is written.
    """
    folder, own = Path(cfg.run), cfg
    refuse(cfg)
    output, form = target(cfg)
    fill(cfg, folder)
    check(OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key not in CHOICES]))
    cfg = past.as_recorded(cfg, folder, "predict")
    checkpoint = past.checkpoint(folder, str(own.checkpoint))
    process.load()
    from train_smarter.build import build_data, build_model, restore

    process.prepare(cfg.get("threads"))
    device = device_of(own.device)
    data = build_data(cfg)
    sources = None if own.split else data.sources(own.input)
    model = build_model(cfg)
    restore(data, model, folder, checkpoint)
    batches = Inputs(data, sources) if sources is not None else of_split(data, own.split)
    log.info("%s on %s", checkpoint, device)
    began = time.perf_counter()
    with opened(output) as file:
        names = data.names if output else [printable(name) for name in data.names]  # a terminal may read it
        done = write(file, form, predict(data, model, batches, device=device, names=names), names, quiet=output is None)
        if not done:
            raise UserError(nothing(own.input, batches))
    seconds = time.perf_counter() - began
    where = output or "standard output"
    log.info("%s: %d in %.1f s, %.0f a second, written to %s", data.kind, done, seconds, done / seconds, where)
    if isinstance(batches, Inputs) and batches.conclude():
        sys.exit(1)


# ---- what was typed


def refuse(cfg: DictConfig) -> None:
    """Raises a UserError where this verb's own words do not fit."""
    given = [key for key in ("input", "split") if cfg[key] not in (None, "")]
    if len(given) != 1:
        raise UserError(
            f"predict takes {'input= or split=, not both' if given else 'something to predict'}: type input=..., an "
            "image, a folder or a glob, a text or a file of texts, or - for standard input; or type split=test"
        )
    for key in CHOICES:
        if cfg[key] not in CHOICES[key] and (key != "split" or key in given):
            raise UserError(f"{key}={cfg[key]}: give {', '.join(CHOICES[key])}{nearest(str(cfg[key]), CHOICES[key])}")


def target(cfg: DictConfig) -> tuple[Path | None, str]:
    """The file to write, None for standard output, and its form, csv or jsonl."""
    if cfg.output == "-":
        return None, cfg.format
    if not cfg.output:
        return Path(cfg.run) / "predict" / f"predictions.{cfg.format}", cfg.format
    path = Path(os.path.abspath(os.path.expanduser(cfg.output)))  # noqa: PTH100, PTH111 (a link stays one; ~nobody, too)
    if path.exists() and not path.is_file():
        raise UserError(f"output={cfg.output} is no file: give the name of one, or - for standard output")
    source = os.path.expanduser(cfg.input or "")  # noqa: PTH111
    if path.exists() and os.path.exists(source) and path.samefile(source):  # noqa: PTH110 (pathlib's fails at a text)
        raise UserError(f"output={cfg.output} is the input, which would be lost: give another name")
    ending = path.suffix.lower().lstrip(".")
    return path, ending if ending in CHOICES["format"] else cfg.format


def fill(cfg: DictConfig, folder: Path) -> None:
    """The classes as the run counted them: their number may hang on a folder of images that is not there any more."""
    kept = record.read_json(folder / "preprocess.json")
    if isinstance(kept, dict) and isinstance(kept.get("names"), list):
        OmegaConf.update(cfg, "data.num_classes", len(kept["names"]), force_add=True)


def device_of(name: str) -> torch.device:
    import torch

    gpus = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    there = [*(gpu for gpu, available in gpus.items() if available), "cpu"]
    if name not in ("auto", *there):
        raise UserError(f"device={name}: this machine has {', '.join(there)}; device=auto takes the first")
    return torch.device(there[0] if name == "auto" else name)


# ---- what is predicted, a batch at a time

Told = list[dict[str, Any]]  # what names each example of a batch in the table


def of_split(data: Data, name: SplitName) -> Iterator[tuple[Told, Batch]]:
    """The examples of a split, in its order, with their true classes."""
    data.prepare_data()
    data.setup()
    index = count()

    def told(labels: torch.Tensor) -> Told:
        return [{"index": next(index), "label": data.names[label]} for label in labels.tolist()]

    return ((told(batch[1]), batch) for batch in data.loader(name))


class Inputs:
    """A user's inputs in their order, read in threads, about two batches ahead; the broken ones are left out.

    Attributes:
        whole, broken: how many could be read, and how many not.
        reason: why the latest could not.
        changes: how many were changed in each way.
    """

    def __init__(self, data: Data, sources: Iterator[Any]) -> None:
        self.data, self.sources = data, sources
        self.whole, self.broken, self.reason = 0, 0, ""
        self.changes: Counter[str] = Counter()

    def __iter__(self) -> Iterator[tuple[Told, Batch]]:
        whole = self._whole()
        while batch := list(islice(whole, self.data.eval_batch_size)):
            yield [one.told for one in batch], self.data.batch([one.content for one in batch])

    def _whole(self) -> Iterator[Input]:
        for source, read in self._read():
            if isinstance(read, Exception):
                self.broken, self.reason = self.broken + 1, f"{printable(source)}: {printable(read)}"
                log.warning("%s (left out)", self.reason)
            else:
                self.whole += 1
                self.changes.update(read.changes)
                yield read

    def _read(self) -> Iterator[tuple[Any, Input | Exception]]:
        """Each source with what is in it."""
        threads = os.cpu_count() or 1
        share = -(-self.data.eval_batch_size // threads)
        waiting: deque[Future[list[tuple[Any, Input | Exception]]]] = deque()
        with ThreadPoolExecutor(threads) as pool:
            while part := list(islice(self.sources, share)):
                waiting.append(pool.submit(self._tried, part))
                if len(waiting) > threads:  # a batch: the threads are busy while the model is
                    yield from waiting.popleft().result()
            while waiting:
                yield from waiting.popleft().result()

    def _tried(self, sources: Sequence[Any]) -> list[tuple[Any, Input | Exception]]:
        read: list[tuple[Any, Input | Exception]] = []
        for source in sources:
            try:
                read.append((source, self.data.example(source)))
            except Exception as error:  # a broken file fails in any way
                read.append((source, error))
        return read

    def conclude(self) -> bool:
        """Says what had to be done to the inputs, and whether some could not be read."""
        if ways := [f"{number} {way}" for way, number in self.changes.most_common()]:
            log.info("of %d %s: %s", self.whole, self.data.kind, ", ".join(ways))
        if self.broken:
            log.warning("%d of %d %s could not be read", self.broken, self.whole + self.broken, self.data.kind)
        return bool(self.broken)


def nothing(given: str | None, batches: Any) -> str:
    if isinstance(batches, Inputs) and batches.broken:
        return (
            f"input={given}: none of {batches.broken} {batches.data.kind} could be read; the last is {batches.reason}"
        )
    return f"input={given}: nothing is there to predict"


# ---- predicting


class Prediction(NamedTuple):
    """told: what names the example, by column; name: the most probable class; probability: its own."""

    told: dict[str, Any]
    name: str
    probability: float
    probabilities: list[float]


def predict(
    data: Data,
    model: Classifier,
    batches: Iterable[tuple[Told, Batch]],
    *,
    device: torch.device,
    names: Sequence[str] | None = None,
) -> Iterator[list[Prediction]]:
    """The predictions of each batch, as they are asked for; the model is set to evaluation.

    `names`: of the classes; None: the data's.

    Raises:
        UserError: the model gives no numbers.
    """
    model.to(device)
    names = data.names if names is None else names
    for told, batch in batches:
        classes, rows = _outputs(data, model, batch, device)
        yield [
            Prediction(name, names[label], row[label], row)
            for name, label, row in zip(told, classes, rows, strict=True)
        ]


def _outputs(data: Data, model: Classifier, batch: Batch, device: torch.device) -> tuple[list[int], list[list[float]]]:
    """The most probable class of each example, and the probabilities of all."""
    import torch

    with torch.inference_mode():
        inputs, _ = data.on_after_batch_transfer(data.transfer_batch_to_device(batch, device, 0), 0)
        logits = model(inputs)  # (B, K) or (B, 1)
        if logits.isnan().any():
            raise UserError("the model's outputs are no numbers (NaN): its training broke down; give another run")
        return model.predicted(logits).tolist(), model.probabilities(logits).tolist()


# ---- writing


class CSVTable:
    """A row for each prediction, under the names of the columns; no cell is a spreadsheet's formula."""

    def __init__(self, file: TextIO, names: Sequence[str]) -> None:
        self.writer, self.names, self.begun = csv.writer(file, lineterminator="\n"), names, False

    def add(self, predictions: Sequence[Prediction]) -> None:
        if not self.begun:
            columns = [*predictions[0].told, "prediction", "probability"]
            names = [csv_cell(f"p({name})" if name in columns else name) for name in self.names]
            self.writer.writerow(columns + names)
            self.begun = True
        self.writer.writerows(
            [
                *map(csv_cell, one.told.values()),
                csv_cell(one.name),
                f"{one.probability:.7g}",
                *(f"{p:.7g}" for p in one.probabilities),
            ]
            for one in predictions
        )


class JSONLines:
    """An object for each prediction, on a line of its own."""

    def __init__(self, file: TextIO, names: Sequence[str]) -> None:
        self.file, self.names = file, names

    def add(self, predictions: Sequence[Prediction]) -> None:
        for one in predictions:
            of_classes = {name: _short(p) for name, p in zip(self.names, one.probabilities, strict=True)}
            row = {"prediction": one.name, "probability": _short(one.probability), "probabilities": of_classes}
            self.file.write(json.dumps(one.told | row, ensure_ascii=False) + "\n")


def _short(probability: float) -> float:
    """As many digits as 32 bits hold."""
    return float(f"{probability:.7g}")


TABLES: dict[str, type[CSVTable] | type[JSONLines]] = {"csv": CSVTable, "jsonl": JSONLines}


def write(
    file: TextIO, form: str, predictions: Iterable[list[Prediction]], names: Sequence[str], *, quiet: bool
) -> int:
    """Writes batch after batch and returns how many predictions there were; unless `quiet`, a few are shown."""
    from rich.console import Console
    from rich.progress import track

    from train_smarter.screen import show

    console, table = Console(stderr=True), TABLES[form](file, names)
    done, few = 0, list[Prediction]()
    hidden = quiet or not console.is_terminal
    for batch in track(predictions, "predicting", console=console, transient=True, disable=hidden):
        table.add(batch)
        file.flush()
        done, few = done + len(batch), [*few, *batch][: SHOWN + 1]
    if not quiet and len(few) <= SHOWN:
        for one in few:
            show(printable(f"{one.name}  {one.probability:.4f}  {' '.join(map(str, one.told.values()))}"))
    return done


@contextmanager
def opened(output: Path | None) -> Iterator[TextIO]:
    """The file to write, which stands under its name when it is whole; or standard output.

    Raises:
        UserError: it cannot be written.
    """
    if output is None:
        with _standard_output() as file:
            yield file
        return
    part = output.with_name(f"{output.name}.part")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with part.open("w", encoding="utf8", errors="backslashreplace", newline="") as file:
            yield file
        part.replace(output)
    except OSError as error:
        raise UserError(f"{output} cannot be written: {error}") from error
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


@contextmanager
def _standard_output() -> Iterator[TextIO]:
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf8", errors="backslashreplace", newline="")
    try:
        yield sys.stdout
    except BrokenPipeError:  # whoever reads has read enough (`| head`)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nothing is left to be written at the end
        sys.exit(141)  # as of a program that this has stopped


if __name__ == "__main__":
    main()
