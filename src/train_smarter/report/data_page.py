"""What `train debug=data` found, as a page and as lines in the terminal."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from train_smarter.report.formatting import MISSING, Content
from train_smarter.report.html import render, shrink_to_limit
from train_smarter.report.views import render_views
from train_smarter.run import files
from train_smarter.terminal import finding_line, format_table, wrap_words

NAME_WIDTH = 24  # characters of a name in the terminal
MAX_LINES = 12  # rows of a table in the terminal
RANGE = ("min", "max", "mean", "std")


@dataclass(frozen=True)
class DataTable:
    """A table of both: `rows` are texts, and only the first column is none of numbers."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


def write_page(folder: Path, found: Content) -> Path:
    """Write data.html; return where.

    Args:
        found: the content of data.json.
    """
    path = folder / "data.html"
    files.atomic_write(path, shrink_to_limit(lambda most: _render(folder, found, most)))
    return path


def _render(folder: Path, found: Content, most: int) -> str:
    return render(
        "data.html",
        name=folder.name,
        found=found,
        facts=list(_facts(found)),
        views=render_views(found["views"]),
        tables=[DataTable(table.title, table.columns, table.rows[:most]) for table in _tables(found)],
    )


def lines(found: Content) -> list[str]:
    """The same in short, at most 80 characters wide."""
    shown = [f"{found['data']}: {found['kind']}"]
    for table in _tables(found):
        rows = [[_shorten(row[0]), *row[1:]] for row in table.rows[:MAX_LINES]]
        shown += ["", f"{table.title}:", format_table(rows, *table.columns)]
        shown += [f"... and {len(table.rows) - MAX_LINES} more"] if len(table.rows) > MAX_LINES else []
    facts = [f"{name}: {value}" for name, value in _facts(found)]
    lines = [*facts, *map(finding_line, found["findings"])]
    return [*shown, "", *(wrap_words(line, 80) for line in lines)]


def _shorten(name: str) -> str:
    return name if len(name) <= NAME_WIDTH else f"{name[: NAME_WIDTH - 1]}…"


# ---- facts


def _facts(found: Content) -> Iterator[tuple[str, str]]:
    duplicates, loss, time = found["duplicates"], found["loss"], found["time"]
    if duplicates is not None:
        pairs = [_duplicates(pair) for pair in duplicates["pairs"] if pair["count"]]
        yield "same inputs", "; ".join(pairs) or "none"
    if of := found["interactions"]:
        size = f"{of['users']:,} users x {of['items']:,} items"
        yield "interactions", f"{of['interactions']:,}, {of['density']:.2%} of {size}"
        if of["same_time"] is not None:
            yield "same time", f"{of['same_time']:.0%} of the interactions are at the time of another one of their user"
        yield from (("note", note) for note in of["notes"])
    if found["words"]:
        words = found["words"]
        yield "words", f"{words['unknown']:.1%} of val without an id; {words['cut']:.1%} of the training texts fill all"
    if time["seconds"] is not None:
        yield "a batch takes", _time(time)
    if loss is not None:
        chance = "unknown" if loss["chance"] is None else f"{loss['chance']:.4g}"
        yield "loss at initial weights", f"{loss['initial']:.4g} (by chance: {chance})"
        yield "a step of the model", f"{1000 * loss['step_seconds']:.3g} ms, without optimizer"
    elif found["misfit"]:
        yield "loss", f"not measured: {found['misfit'].splitlines()[0]}"


def _duplicates(pair: Content) -> str:
    one, other = pair["splits"]
    where = f"within {one}" if one == other else f"of {other} in {one}"
    return f"{pair['count']:,} {where}"


def _time(time: Mapping[str, Any]) -> str:
    text = f"{1000 * time['seconds']:.3g} ms"
    if time["examples_per_second"]:
        text += f", {time['examples_per_second']:,.0f} examples a second"
    if time["without_augmentation"] is not None:
        text += f"; without augmentation {1000 * time['without_augmentation']:.3g} ms"
    return text


# ---- tables


def _tables(found: Content) -> Iterator[DataTable]:
    if found["splits"]:
        yield DataTable("splits", ("split", "examples", "size", "where"), [_split_row(one) for one in found["splits"]])
    batch = [_batch_row(part) for part in found["batch"]]
    columns = ("part", "type", "shape", *RANGE, "NaN")
    yield DataTable("the first training batch, as the model gets it", columns, batch)
    yield from _interaction_tables(found["interactions"]) if found["interactions"] else ()
    for target in found["targets"]:
        yield _target_table(target, [one["split"] for one in found["splits"]])
    for name, rows in found["columns"].items():
        if len(rows) > 1 or not found["batch"]:
            cells = [[row["name"], *map(_number, (row[key] for key in RANGE)), str(row["nan"])] for row in rows]
            yield DataTable(f"{name} of train, as they are stored", ("column", *RANGE, "NaN"), cells)


def _interaction_tables(found: Content) -> Iterator[DataTable]:
    keys = ("interactions", "users", "items")
    rows = [[one["split"], *(f"{one[key]:,}" for key in keys)] for one in found["splits"]]
    yield DataTable("interactions of each split", ("split", *keys), rows)
    quantiles = list(found["per"]["user"])
    rows = [[name, *(f"{of[key]:.4g}" for key in quantiles)] for name, of in found["per"].items()]
    yield DataTable("interactions of a user, and of an item", ("of a", *quantiles), rows)
    if found["values"]:
        splits = [one["split"] for one in found["splits"]]
        rows = [[name, *(f"{of[split]:,}" for split in splits)] for name, of in found["values"].items()]
        yield DataTable("values of each split", ("value", *splits), rows)


def _split_row(split: Content) -> list[str]:
    count = f"{split['examples']:,}"
    if split["compared"] < split["examples"]:
        count += f" ({split['compared']:,} compared)"
    return [split["split"], count, _size(split["bytes"]), split["where"]]


def _size(count: int) -> str:
    return f"{count / 1e6:,.1f} MB" if count >= 1e6 else f"{count / 1e3:,.1f} kB"


def _batch_row(part: Content) -> list[str]:
    shape = "x".join(map(str, part["shape"])) or "1"
    missing = part["nan"] + part["infinite"]
    return [part["part"], part["dtype"], shape, *(_number(part[key]) for key in RANGE), str(missing)]


def _target_table(target: Content, splits: Sequence[str]) -> DataTable:
    title = {"targets": ""}.get(target["part"], f" ({target['part']})")
    if counts := target.get("counts"):
        kind = {"classes": "class", "labels": "label", "pixels": "pixels of"}[target["kind"]]
        rows = [[name, *(f"{of.get(split, 0):,}" for split in splits)] for name, of in counts.items()]
        return DataTable(f"{target['kind']} of each split{title}", (kind, *splits), rows)
    found: Mapping[str, Mapping[str, Mapping[str, Any]]] = target["quantiles"]
    keys = list(next(iter(next(iter(found.values())).values())))
    rows = [
        [f"{name} {split}" if len(found) > 1 else split, *(_number(numbers[key]) for key in keys)]
        for name, of in found.items()
        for split, numbers in of.items()
    ]
    return DataTable(f"targets of each split{title}", ("target" if len(found) > 1 else "split", *keys), rows)


def _number(value: float | None) -> str:
    return MISSING if value is None else f"{value:.4g}"
