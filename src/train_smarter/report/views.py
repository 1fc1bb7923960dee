"""Sections of a run's page about its predictions: the views of samples.json, and the tables of results.json.

The files may be a stranger's: what a page shows of them is a number, a cut text, or base64.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from train_smarter.report import view_plots
from train_smarter.report.figures import columns_of, views_of
from train_smarter.report.formatting import MISSING, Content
from train_smarter.report.html import MAX_NAME, MAX_TEXT, truncate
from train_smarter.report.runs import DAMAGE
from train_smarter.run import files
from train_smarter.terminal import format_metric

MAX_IMAGES = 800_000  # characters of examples in all
MAX_VIEWS = 30
MAX_ROWS = 100  # of a table of examples
MAX_POINTS = 2000
NOT_METRICS = ("confusion",)  # kinds of details that have a section of their own


def embed_image(text: Any) -> Markup:
    """Base64, to be left as it is, however long."""
    if not re.fullmatch(r"[A-Za-z0-9+/=]*", text):
        raise ValueError("an image is not in base64")
    return Markup(text)


def examples_section(path: Path) -> Content:
    """Examples that are right and examples that are mistaken, with their probability."""
    examples, room = [], MAX_IMAGES
    for one in files.read_json(path):
        image, text = embed_image(one.get("image") or ""), truncate(str(one.get("text") or ""), MAX_TEXT)
        room -= len(image) + len(text)
        if room < 0:
            break
        said = {key: truncate(str(one[key]), MAX_NAME) for key in ("split", "true", "predicted")}
        probability = f"{float(one['probability']):.1%}"
        examples.append({**said, "probability": probability, "right": bool(one["right"]), "image": image, "text": text})
    if not any(one["image"] or one["text"] for one in examples):
        return {"missing": "The inputs are neither images nor texts, or no sample was saved.", "again": ""}
    mistakes, hits = ([one for one in examples if one["right"] == right] for right in (False, True))
    return {"split": examples[0]["split"], "mistakes": mistakes, "hits": hits}


def predictions_section(path: Path) -> Content:
    """The views of samples.json."""
    content = files.read_json(path)
    shown = render_views(views_of(content))
    if not shown["plots"] and not shown["views"]:
        return {"missing": f"{path.name} holds nothing that can be shown.", "again": ""}
    return {"split": truncate(str(content["split"]), MAX_NAME), **shown}


def render_views(views: Sequence[Mapping[str, Any]]) -> Content:
    """What a page shows of views: its plots, and the others."""
    room, shown = MAX_IMAGES, []
    for place, view in enumerate(views[:MAX_VIEWS]):
        one, used = _render_view(view, f"view-{place}", room)
        room -= used
        shown += [one] if one else []
    plots = [one for one in shown if one["kind"] == "plot"]
    return {"plots": plots, "views": [one for one in shown if one["kind"] != "plot"]}


def _render_view(view: Mapping[str, Any], name: str, room: int) -> tuple[Content | None, int]:
    """What the page shows of a view, and the characters of its images and texts; None: of a kind that is not known."""
    kind, title = str(view["kind"]), truncate(str(view.get("title") or ""), MAX_NAME)
    if kind in view_plots.SVG:
        known = {**view, "title": title, "points": (view.get("points") or [])[:MAX_POINTS]}
        known |= {axis: truncate(str(view.get(axis) or ""), MAX_NAME) for axis in ("x", "y")}
        return {"kind": "plot", "plot": view_plots.SVG[kind](known, name=name, alt=title)}, 0
    if kind == "table":
        rows = [[_format_cell(cell) for cell in row] for row in view["rows"][:MAX_ROWS]]
        return {"kind": kind, "title": title, "columns": _columns(view["columns"]), "rows": rows}, 0
    if kind in ("images", "texts"):
        items, used = _render_items(view["items"], room)
        legend = [(truncate(str(text), MAX_NAME), _color(color)) for text, color in view.get("legend") or []]
        return ({"kind": kind, "title": title, "items": items, "legend": legend}, used) if items else (None, 0)
    return None, 0


def _render_items(items: Sequence[Mapping[str, Any]], room: int) -> tuple[list[Content], int]:
    shown, used = [], 0
    for item in items:
        images = [embed_image(image) for image in item.get("images") or []]
        text = truncate(str(item.get("text") or ""), MAX_TEXT)
        used += sum(map(len, images)) + len(text)
        if used > room:
            break
        shown.append({"images": images, "text": text, "caption": truncate(str(item.get("caption") or ""), MAX_NAME)})
    return shown, used


def _color(value: Any) -> str:
    if not re.fullmatch("#[0-9a-f]{6}", str(value)):
        raise ValueError("a colour is not of the form #rrggbb")
    return str(value)


def _columns(names: Sequence[Any]) -> list[str]:
    return [truncate(str(name), MAX_NAME) for name in names]


def _format_cell(value: Any) -> tuple[str, bool]:
    """A text, and whether it is a number."""
    if value is None:
        return MISSING, True
    if isinstance(value, int | float) and not isinstance(value, bool):
        return (format_metric(value) if isinstance(value, float) else str(value)), True
    return truncate(str(value), MAX_NAME), False


# ---- tables of results.json


def has_details(results: Mapping[str, Any]) -> bool:
    """Whether the task's metrics have left a table."""
    return bool(_details(results))


def details_section(path: Path, most: int) -> Content:
    """A table for each kind of details, of the last split: a row for each class, label or target."""
    tables = []
    for kind, (split, columns) in _details(files.read_json(path)).items():
        count = len(next(iter(columns.values())))
        rows = zip(names_of(path.parent, count), *map(_format_column, columns.values()), strict=True)
        head = {"kind": truncate(kind, MAX_NAME), "split": truncate(split, MAX_NAME), "count": count}
        tables.append({**head, "columns": _columns([*columns]), "rows": [*rows][:most]})
    if not tables:
        return {"missing": f"{path.name} holds no table of the task's metrics: the run was not tested.", "again": ""}
    return {"tables": tables}


def _details(results: Mapping[str, Any]) -> dict[str, tuple[str, dict[str, list[Any]]]]:
    """By kind, the last split and its columns of equal length."""
    found = {}
    for kind, splits in results.items():
        if kind not in NOT_METRICS and isinstance(splits, Mapping) and splits:
            split, content = list(splits.items())[-1]
            if columns := columns_of(content):
                found[str(kind)] = str(split), columns
    return found


def _format_column(values: Sequence[Any]) -> list[str]:
    """Numbers of a column, counts without decimals."""
    known = [float(value) for value in values if value is not None]
    counts = any(value > 1 for value in known) and all(value.is_integer() for value in known)
    return [
        MISSING if value is None else f"{int(value)}" if counts else format_metric(float(value)) for value in values
    ]


def names_of(folder: Path, count: int) -> list[str]:
    """Of classes, labels or targets; their numbers where preprocess.json is missing or does not fit."""
    try:
        names = [truncate(str(name), MAX_NAME) for name in files.read_json(folder / "preprocess.json")["names"]]
    except DAMAGE:
        names = []
    return names if len(names) == count else list(map(str, range(count)))
