"""Finds image files: in a folder, or by what a user types. Imports neither torch nor PIL."""

import glob
import importlib.util
import logging
import os
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import groupby
from pathlib import Path
from typing import NoReturn

from train_smarter.errors import UserError, did_you_mean

log = logging.getLogger(__name__)

# What Pillow opens, and people keep photos and drawings in.
SUFFIXES = [".avif", ".bmp", ".gif", ".jfif", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"]
HEIF_SUFFIXES = [".heic", ".heif", ".hif"]  # what the extra adds
HAS_HEIF = importlib.util.find_spec("pillow_heif") is not None
JUNK_FOLDERS = ("__MACOSX", "@eaDir", "$RECYCLE.BIN", "lost+found")  # of archives, network drives and file systems


def is_image(file: Path) -> bool:
    """Whether the suffix is that of an image that can be read here."""
    suffix = file.suffix.lower()
    return suffix in SUFFIXES or (HAS_HEIF and suffix in HEIF_SUFFIXES)


def list_images(folder: Path, ignored: Counter[str]) -> Iterator[Path]:
    """The image files at any depth, sorted folder by folder; hidden files and folders are skipped.

    Links to folders are followed; a folder that is reached a second time, by a link in a circle, is not listed again.

    Args:
        ignored: counts the files of other kinds, by suffix.
    """
    seen: set[tuple[int, int]] = set()
    for where, folders, files in os.walk(folder, onerror=_raise_error, followlinks=True):
        status = Path(where).stat()
        if (here := (status.st_dev, status.st_ino)) in seen:
            folders.clear()
            continue
        seen.add(here)
        folders[:] = sorted(filter(_is_content, folders))
        for file in (Path(where, name) for name in sorted(files) if not name.startswith(".")):
            if is_image(file):
                yield file
            else:
                ignored[file.suffix.lower()] += 1


def list_folders(folder: Path) -> list[Path]:
    """The folders in a folder, sorted; hidden ones and those that a system makes by itself are skipped."""
    try:
        with os.scandir(folder) as entries:
            return sorted(folder / entry.name for entry in entries if _is_content(entry.name) and _is_folder(entry))
    except (NotADirectoryError, FileNotFoundError):
        return []
    except OSError as error:
        _raise_error(error)


def has_images(folder: Path) -> bool:
    """Whether an image is in a folder itself."""
    with os.scandir(folder) as entries:
        return any(is_image(Path(entry.name)) and not entry.name.startswith(".") for entry in entries)


def stamp(file: Path) -> str:
    """Size and time of the last change; of a file that is not there, neither."""
    try:
        about = file.stat()
    except OSError:
        return "-"
    return f"{about.st_size} {about.st_mtime_ns}"


def describe_ignored(ignored: Mapping[str, int]) -> str:
    """How many files of each kind are no images, with the remedy where there is one."""
    heif = sum(ignored.get(suffix, 0) for suffix in HEIF_SUFFIXES)
    hint = f"; to read the {heif} HEIC files, type uv pip install -e '.[heic]'" if heif else ""
    return f"files that are no known images, by kind: {dict(ignored)}{hint}"


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether it is a folder or a link to one; a link to itself is none."""
    return Path(entry).is_dir() if entry.is_symlink() else entry.is_dir()


def _is_content(folder: str) -> bool:
    return not folder.startswith(".") and folder not in JUNK_FOLDERS


def _raise_error(error: OSError) -> NoReturn:
    raise UserError(f"{error.filename} cannot be read: {error.strerror}") from error


# ---- by what a user types


def expand_input(given: str) -> Iterator[Path]:
    """Image files, listed one folder at a time, as they are requested.

    Args:
        given: a file; a folder, of which all images at any depth are used; a glob, of which all files are; or `-` for
            standard input, a path a line.

    Raises:
        UserError: there is no such file or folder.
    """
    path = os.path.expanduser(given)  # noqa: PTH111 (pathlib's fails at ~nobody)
    if given == "-":
        return (Path(os.fsdecode(line.rstrip(b"\r\n"))) for line in sys.stdin.buffer if line.strip())
    if os.path.isdir(path):  # noqa: PTH112 (pathlib's fails at a name that is too long)
        return _files_within(Path(path))
    if os.path.exists(path):  # noqa: PTH110
        return iter([Path(path)])
    if glob.has_magic(path):
        return _files_matching(path)
    parent, name = os.path.split(path)
    beside = os.listdir(parent or ".") if os.path.isdir(parent or ".") else []  # noqa: PTH112, PTH208
    raise UserError(
        f"input={given}: there is no such image; give a file, a folder, a glob in quotes, or - for standard input, a "
        f"path a line{did_you_mean(name, beside)}"
    )


def _files_within(folder: Path) -> Iterator[Path]:
    ignored = Counter[str]()
    yield from list_images(folder, ignored)
    if ignored:
        log.warning("%s: %s", folder, describe_ignored(ignored))


def _files_matching(pattern: str) -> Iterator[Path]:
    for _, paths in groupby(glob.iglob(pattern, recursive=True), key=os.path.dirname):  # noqa: PTH207 (takes a whole path)
        yield from (Path(path) for path in sorted(paths) if not os.path.isdir(path))  # noqa: PTH112
