"""What the masks hold, counted once for all processes and runs. Imports neither torch nor PIL by itself."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

from train_smarter.data.image_files import stamp
from train_smarter.run.files import atomic_write

if TYPE_CHECKING:
    from train_smarter.data.mask_values import MaskCount

log = logging.getLogger(__name__)

Pairs = Sequence[tuple[Path, Path]]

_LAST: list[tuple[str, MaskCount]] = []  # the last count of this process, by its key: a config needs it a hundred times


def count_masks(pairs: Pairs, folder: Path | None, *, writable: bool) -> MaskCount:
    """The values in the masks of (image, mask) pairs, counted as often as a file changes.

    Args:
        folder: of cache files, where the count is recorded: further processes and later runs read it; None: nowhere.
        writable: a count may be recorded there.
    """
    key = _key(pairs)
    if not _LAST or _LAST[0][0] != key:
        _LAST[:] = [(key, _recorded(pairs, folder and folder / f"mask_values-{key}.json", writable=writable))]
    return _LAST[0][1]


def _key(pairs: Pairs) -> str:
    """By the names, sizes and times of the files."""
    digest = hashlib.sha256(b"1")  # to be raised when the count changes
    for file in (file for pair in pairs for file in pair):
        digest.update(f"{file}\0{stamp(file)}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()[:16]


def _recorded(pairs: Pairs, file: Path | None, *, writable: bool) -> MaskCount:
    from train_smarter.data.mask_values import count_values

    found = _load(file, pairs) if file else None
    if found or not file or not writable:
        return found or count_values(pairs)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(file.with_suffix(".lock")):  # the processes of a run may start together
            if not (found := _load(file, pairs)):
                found = count_values(pairs)
                place = {photo: number for number, (photo, _) in enumerate(pairs)}
                broken = {place[photo]: why for photo, why in found.broken.items()}
                atomic_write(file, json.dumps({"pixels": found.pixels, "broken": broken}))
    except OSError as error:
        log.debug("the count of the masks is not recorded: %s", error)
    return found or count_values(pairs)


def _load(file: Path, pairs: Pairs) -> MaskCount | None:
    """A recorded count; None: there is none, or it is damaged."""
    from train_smarter.data.mask_values import MaskCount

    try:
        content = json.loads(file.read_text(encoding="utf8"))
        pixels = {int(value): int(count) for value, count in content["pixels"].items()}
        return MaskCount(pixels, {pairs[int(place)][0]: str(why) for place, why in content["broken"].items()})
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None
