"""What a report shows of a run's predictions, as JSON: each view has a kind, and the report knows how to draw it.

A task of your own may return these views, too. The kinds are scatter, lines, histogram, table, images, texts and
examples.
"""

import textwrap
from base64 import b64encode
from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import Any

import numpy as np
import torch
from torch import Tensor

from train_smarter.data.token_rows import is_tokens

View = dict[str, Any]
SIDE = 128  # pixels, the longer side of an image
MAX_TEXT = 4000  # characters kept of a text
BINS = 30  # of a histogram
# Colours of masks, by class: 0 is usually the background.
PALETTE = ("#30363d", "#3a86c8", "#d9730d", "#2a9d6f", "#b565a7", "#b8860b", "#5f6fd0", "#c0504d", "#4aa3a3", "#8fbc3f")
IGNORED = "#ffffff"  # pixels that do not count


def scatter(title: str, points: Sequence[tuple[float, float]], *, x: str, y: str) -> View:
    """Points around the diagonal, on which y is equal to x."""
    rows = [[_round(a), _round(b)] for a, b in points]
    return {"kind": "scatter", "title": title, "x": x, "y": y, "points": rows}


def lines(title: str, series: Mapping[str, Sequence[tuple[float, float]]], *, x: str, y: str) -> View:
    """A line through the points of each of `series`."""
    content = [{"name": name, "points": [[_round(a), _round(b)] for a, b in of]} for name, of in series.items()]
    return {"kind": "lines", "title": title, "x": x, "y": y, "series": content}


def histogram(title: str, values: Sequence[float], *, x: str) -> View:
    """How often values occur, in bins of equal width."""
    counts, edges = np.histogram(values, bins=BINS)
    return {
        "kind": "histogram",
        "title": title,
        "x": x,
        "edges": [_round(edge) for edge in edges],
        "counts": counts.tolist(),
    }


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> View:
    """Rows of texts and numbers."""
    content = [[_round(cell) if isinstance(cell, float) else cell for cell in row] for row in rows]
    return {"kind": "table", "title": title, "columns": list(columns), "rows": content}


def images(title: str, items: Sequence[tuple[Sequence[str], str]], *, legend: Sequence[tuple[str, str]] = ()) -> View:
    """Images side by side, each row with a caption.

    Args:
        title: names the images of a row, too.
        items: images, as `png` returns them, and their caption.
        legend: (name, "#rrggbb") of the colours of masks.
    """
    content = [{"images": list(pictures), "caption": caption} for pictures, caption in items]
    return {"kind": "images", "title": title, "items": content, "legend": [list(entry) for entry in legend]}


def texts(title: str, items: Sequence[tuple[str, str]]) -> View:
    """Texts, each with a caption: items are (caption, text)."""
    content = [{"caption": caption, "text": text} for caption, text in items]
    return {"kind": "texts", "title": title, "items": content}


def _round(value: float) -> float:
    """Six digits: as exact as anyone reads it."""
    return float(f"{float(value):.6g}")


# ---- images


def png(image: Any, *, nearest: bool = False) -> str:
    """Pixels in 0..1, (H, W) or (H, W, 3) -> a PNG file in base64, of `SIDE` pixels at most.

    nearest: no new colours arise where the image is made smaller.
    """
    from PIL import Image

    picture = Image.fromarray((image * 255).round().astype("uint8"))
    picture.thumbnail((SIDE, SIDE), *([Image.Resampling.NEAREST] if nearest else []))
    file = BytesIO()
    picture.save(file, "PNG", optimize=True)
    return b64encode(file.getvalue()).decode()


def to_visible(image: Tensor, mean: Any, std: Any) -> Any:
    """Normalised (C, H, W) -> pixels in 0..1: (H, W, 3) where there are three channels or more, else (H, W)."""
    mean, std = (torch.tensor(value, dtype=torch.float).view(-1, 1, 1) for value in (mean, std))
    shown = (image.float() * std + mean).clamp(0, 1)
    return (shown[:3].permute(1, 2, 0) if len(shown) >= 3 else shown[0]).numpy()


def image_png(image: Tensor, data: Any) -> str:
    """A normalized image (C, H, W) as a PNG file in base64."""
    return png(to_visible(image, **normalization(data, len(image))))


def normalization(data: Any, channels: int) -> dict[str, Any]:
    """A number per channel, as the images were normalized by."""
    found = {"mean": getattr(data, "mean", None), "std": getattr(data, "std", None)}
    if any(value is None or len(value) not in (1, channels) for value in found.values()):
        return {"mean": [0.0], "std": [1.0]}
    return found


def image_of(inputs: Any, ndim: int = 4) -> Tensor | None:
    """The images (B, C, H, W) among inputs: the tensor itself, or of several the one called image, else the first.

    ndim: 3 for the image (C, H, W) of one example.
    """
    parts: list[Any] = [inputs]
    if isinstance(inputs, Mapping):
        parts = [inputs.get("image"), *inputs.values()]
    elif isinstance(inputs, tuple | list):
        parts = list(inputs)
    return next((part for part in parts if isinstance(part, Tensor) and part.ndim == ndim), None)


def mask_png(mask: Tensor, num_classes: int) -> str:
    """Classes (H, W) in the colours of `mask_color`, as a PNG file in base64."""
    return png(mask_pixels(mask, num_classes), nearest=True)


def mask_pixels(mask: Tensor, num_classes: int) -> Any:
    """Classes (H, W) -> the colours of `mask_color` in 0..1, (H, W, 3)."""
    colors = [mask_color(k) for k in range(num_classes)] + [IGNORED]
    table = np.array([[int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)] for color in colors])
    return table[np.where((mask.numpy() >= 0) & (mask.numpy() < num_classes), mask.numpy(), num_classes)]


def mask_color(place: int) -> str:
    return PALETTE[place % len(PALETTE)]


# ---- names and texts


def names_of(data: Any, count: int) -> list[str]:
    """The names of classes, labels or targets; their numbers where the data have no such names."""
    names = [str(name) for name in getattr(data, "names", None) or ()]
    return names if len(names) == count else [str(place) for place in range(count)]


def text_of(data: Any, tokens: Tensor) -> str | None:
    """Tokens (T,) as a text, of data that have `decode` or a name for each token."""
    if hasattr(data, "decode"):
        return str(data.decode(tokens))
    names = [str(name) for name in getattr(data, "names", None) or ()]
    if tokens.is_floating_point() or not names or int(tokens.max()) >= len(names) or int(tokens.min()) < 0:
        return None
    return ("" if all(len(name) == 1 for name in names) else " ").join(names[token] for token in tokens.tolist())


def input_entry(inputs: Any, data: Any) -> dict[str, str]:
    """The input of one example as an image or a text; empty for other inputs."""
    if (isinstance(inputs, Tensor) or is_tokens(inputs)) and hasattr(data, "decode"):
        return {"text": textwrap.shorten(str(data.decode(inputs)), MAX_TEXT, placeholder=" …")}
    image = image_of(inputs, 3)
    return {} if image is None else {"image": image_png(image, data)}
