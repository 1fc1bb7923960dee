"""Files from the net: checked by their md5, resumed where they stopped, and never half there."""

import hashlib
import http.client
import logging
import os
import re
import tarfile
import zipfile
import zlib
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from filelock import FileLock
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from train_smarter.errors import FULL, UserError, file_error

log = logging.getLogger(__name__)


CHUNK = 1 << 16  # bytes
TIMEOUT = 30.0  # seconds without an answer, or without a byte
TRIES = 5  # of one URL, as long as each brings something new
INCOMPLETE = (OSError, http.client.HTTPException, ValueError)  # what a dead, broken or misspelt URL raises


def fetch(urls: Sequence[str], dest: Path, *, md5: str, hint: str = "") -> Path:
    """The file `dest`, downloaded from the first of `urls` that delivers it.

    What arrives is kept in `<dest>.part`, from where a later try goes on; it becomes `dest` when it is whole and right.
    Several processes may ask for the same file: one downloads, the others wait for it.

    Args:
        urls: where the file is found, in the order in which they are tried.
        dest: the file; its folder is made.
        md5: of the whole file, in hexadecimal.
        hint: a way to do without it, for example "data=digits needs no download".

    Raises:
        UserError: no URL delivered it, or its folder cannot be written to.
    """
    if _md5_matches(dest, md5):
        return dest
    try:
        dest.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{dest}.lock"):
            failures = [] if _md5_matches(dest, md5) else _download(urls, dest, md5=md5)
    except OSError as error:
        if error.errno in FULL:
            raise file_error(error, path=dest, then="the command again, which continues the download") from error
        raise UserError(f"{dest} cannot be written: {error}; choose another folder with paths.data=...") from error
    if failures:
        raise UserError(_manual_instructions(dest, failures, md5=md5, hint=hint))
    return dest


def unpack(archive: Path, dest: Path) -> Path:
    """The folder `dest` with what an archive holds, .tar.gz or .zip; it appears whole or not at all.

    Where all of the archive lies in one folder, `dest` is that folder, whatever its name.

    Raises:
        UserError: the archive is broken, or cannot be unpacked there.
    """
    try:
        dest.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=dest.parent, prefix=f".{dest.name}-") as scratch:
            content = Path(scratch) / "content"
            content.mkdir()
            _extract(archive, content)
            inner = list(content.iterdir())
            _move_into(inner[0] if len(inner) == 1 and inner[0].is_dir() else content, dest)
    except (OSError, EOFError, tarfile.TarError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"{archive} cannot be unpacked to {dest}: {error}; delete it and start again") from error
    return dest


def _extract(archive: Path, folder: Path) -> None:
    """Nothing is written outside of the folder, whatever paths the archive names."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as file:
            file.extractall(folder)
        return
    with tarfile.open(archive, "r:gz") as tar:
        tar.extractall(folder, filter="data")


def published_md5(url: str, *, hint: str = "") -> str:
    """The md5 in the small file at `url`, for an archive that its server replaces from time to time.

    It detects a damaged download, and not a server that is not what it seems.

    Raises:
        UserError: there is no such file, or no md5 in it.
    """
    try:
        with urlopen(Request(url, headers={"User-Agent": "train-smarter"}), timeout=TIMEOUT) as response:
            found = re.search(rb"\b[0-9a-fA-F]{32}\b", response.read(CHUNK))
    except INCOMPLETE as error:
        raise UserError(f"{url}: {error}{f'; or: {hint}' if hint else ''}") from error
    if found is None:
        raise UserError(f"{url} holds no md5{f'; or: {hint}' if hint else ''}")
    return found.group().decode()


def _move_into(folder: Path, dest: Path) -> None:
    try:
        folder.rename(dest)
    except OSError:
        if not dest.is_dir():  # else another process was first
            raise


def _md5_matches(file: Path, md5: str) -> bool:
    if not file.is_file():
        return False
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    return digest == md5.lower()


def _manual_instructions(dest: Path, failures: Sequence[str], *, md5: str, hint: str) -> str:
    lines = [
        f"{dest.name} could not be downloaded:",
        *failures,
        f"download it by hand from one of these, to {dest} (md5 {md5}), and start again",
    ]
    return "\n  ".join([*lines, *([f"or: {hint}"] if hint else [])])


def _download(urls: Sequence[str], dest: Path, *, md5: str) -> list[str]:
    """Tries one URL after the other; returns why each failed, or nothing once the file is there."""
    part = dest.with_name(f"{dest.name}.part")
    failures = []
    for url in urls:
        try:
            if _download_verified(url, part, md5=md5):
                part.replace(dest)
                return []
            failures.append(f"{url}: the file there has another md5")
        except INCOMPLETE as error:
            if isinstance(error, OSError) and error.errno in FULL:  # no other server helps
                raise
            failures.append(f"{url}: {error}")
        log.warning("no download from %s", failures[-1])
    return failures or ["no URL is given"]


class _NoRangesError(OSError):
    """The server sends the whole file, or something else: the login page of a network, say."""


def _download_verified(url: str, part: Path, *, md5: str) -> bool:
    """Whether `part` is the right file once the URL has added what it lacks.

    An earlier beginning is replaced only by the right file, or by a longer beginning: not by another answer.
    """
    whole = part.with_name(f"{part.name}.new")
    _keep_longer(whole, part)  # of a process that was killed
    if before := _size_of(part):
        with suppress(_NoRangesError):
            _resume(url, part)
        if _md5_matches(part, md5):
            return True
        os.truncate(part, before)  # the old beginning may have been at fault, or what was added
    target = whole if before else part
    try:
        sized = _resume(url, target)
    except INCOMPLETE:
        _keep_longer(whole, part)
        raise
    if right := _md5_matches(target, md5):
        target.replace(part)
    elif sized:
        target.unlink()
    else:  # without a length, it may be a beginning
        _keep_longer(whole, part)
    return right


def _keep_longer(one: Path, part: Path) -> None:
    """Leave the longer one of two beginnings as `part`."""
    if _size_of(one) > _size_of(part):
        one.replace(part)
    one.unlink(missing_ok=True)


def _resume(url: str, part: Path) -> bool:
    """Downloads the rest of `part`; where the connection breaks, goes on for as long as that brings something new.

    Returns whether the server gave the length.
    """
    for tries_left in reversed(range(TRIES)):
        before = _size_of(part)
        try:
            return _transfer(url, part)
        except _NoRangesError:
            raise
        except INCOMPLETE:
            if not tries_left or _size_of(part) <= before:
                raise
    raise AssertionError("unreachable")


def _size_of(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0


def _transfer(url: str, part: Path) -> bool:
    """One connection: appends what `part` lacks; returns whether the server gave the length."""
    start = _size_of(part)
    headers = {"User-Agent": "train-smarter"} | ({"Range": f"bytes={start}-"} if start else {})
    try:
        response = urlopen(Request(url, headers=headers), timeout=TIMEOUT)
    except HTTPError as error:
        if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and start:
            return True  # nothing is left to send: the checksum tells whether that is right
        raise
    with response:
        if start and not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
            raise _NoRangesError("the server does not continue a download")
        length = response.headers.get("Content-Length")
        total = None if length is None else start + int(length)
        log.info("downloading %s", url)
        with part.open("ab") as file, _progress() as progress:
            task = progress.add_task(part.stem, total=total, completed=start)
            while chunk := response.read(CHUNK):
                file.write(chunk)
                progress.advance(task, len(chunk))
    if total is not None and _size_of(part) < total:
        raise OSError(f"the connection ended after {_size_of(part):,} of {total:,} bytes")
    return total is not None


def _progress() -> Progress:
    """A bar on a terminal, nothing elsewhere."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    return Progress(*columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal)
