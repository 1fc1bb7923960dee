"""A file of decoded rows on the disk, made once and shared by runs, jobs and processes."""

import hashlib
import json
import logging
import math
import os
import shlex
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from train_smarter.data.decode_files import CHUNK_BYTES, DecodedFiles, StorageError, run_in_chunks
from train_smarter.data.decoders import Decoder
from train_smarter.data.image_files import stamp
from train_smarter.data.row_file import DiskRows, RowFile
from train_smarter.data.storage import free_disk, gigabytes
from train_smarter.errors import FULL, UserError, file_error
from train_smarter.run.files import atomic_file, read_dict

log = logging.getLogger(__name__)

LEAST_FILES = 64  # that are noted as done together
POSITION = threading.Lock()


@dataclass(frozen=True)
class FileCache:
    """The cache of these files, whether it is made or not.

    The folder holds, for each cache: `<stem>.rows`, one row after the other in the order of `files`; `<stem>.json`, its
    index, with the broken files; while it is made, `<stem>.part` and `<stem>.journal`, from which a later start
    continues; and `<stem>.lock`.

    files: all of them, sorted, each once; root: the folder that they are named from.
    """

    folder: Path
    stem: str
    files: Sequence[Path]
    root: Path
    decoder: Decoder

    @classmethod
    def of(cls, folder: Path, files: Sequence[Path], *, root: Path, decoder: Decoder) -> "FileCache":
        """The cache by the names, sizes and times of the files and the settings of the decoder; no file is read."""
        digest = hashlib.sha256(json.dumps(decoder.settings, sort_keys=True).encode())
        for file in files:
            digest.update(f"{_relative(file, root)}\0{stamp(file)}\n".encode(errors="surrogateescape"))
        return cls(folder, f"{decoder.settings['kind']}-{digest.hexdigest()[:16]}", files, root, decoder)

    @property
    def kind(self) -> str:
        """What the files are."""
        return str(self.decoder.settings["kind"])

    def path(self, suffix: str) -> Path:
        return self.folder / f"{self.stem}.{suffix}"

    @property
    def size(self) -> int:
        """Bytes of its rows."""
        return len(self.files) * math.prod(self.decoder.shape)

    @property
    def missing(self) -> int:
        """Bytes that are still to be written: none where the cache is made."""
        if self.ready:
            return 0
        try:
            return max(0, self.size - 512 * self.path("part").stat().st_blocks)
        except (OSError, AttributeError):  # nothing is begun; Windows
            return self.size

    @property
    def ready(self) -> bool:
        """Whether it is made and whole."""
        rows = self.path("rows")
        return rows.is_file() and rows.stat().st_size == self.size and self.path("json").is_file()

    def open(self) -> DecodedFiles:
        """The rows of `files`.

        Raises:
            UserError: the file is damaged.
        """
        named = read_dict(self.path("json"), {"broken": dict}).get("broken") or {}
        place = {name: number for number, name in enumerate(_relative(file, self.root) for file in self.files)}
        broken = {place[name]: str(why) for name, why in named.items() if name in place}
        try:
            file = RowFile(self.path("rows"), count=len(self.files), shape=self.decoder.shape)
        except OSError as error:
            raise file_error(error, path=self.path("rows")) from error
        return DecodedFiles(DiskRows(file), broken)

    def make(self) -> None:
        """Make the file unless it is there; where another process makes it, wait.

        Raises:
            UserError: it cannot be written; what is done is saved, and the next start continues.
        """
        if self.ready:
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with self._lock():
                if not self.ready:
                    self._build()
        except (OSError, StorageError) as failure:
            error = failure.__cause__ if isinstance(failure, StorageError) else failure
            assert isinstance(error, OSError)
            if error.errno in FULL:
                error.add_note(f"{gigabytes(self.size)} needed")
                raise file_error(error, path=self.path("part"), then="the command again, which continues") from error
            raise UserError(
                f"{self.folder} cannot be written: {error.strerror}; type paths.data=... of another folder, or "
                "data.cache=memory or none"
            ) from error

    @contextmanager
    def _lock(self) -> Iterator[None]:
        lock = FileLock(self.path("lock"))
        try:
            lock.acquire(timeout=0)
        except Timeout:
            log.info("another process makes %s: waiting for it", self.path("rows"))
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    def _build(self) -> None:
        if self.path("rows").is_file():
            log.warning("%s is damaged, and is made again", self.path("rows"))
        part, journal = self.path("part"), self.path("journal")
        done, broken, whole = read_journal(journal) if part.is_file() else (0, {}, 0)
        if journal.is_file():
            os.truncate(journal, whole)  # a note after a torn one, or after those of a lost file, could not be read
        self._log_build(done)
        descriptor = os.open(part, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666)
        try:
            os.truncate(part, self.size)  # the last file may be broken
            broken |= self._fill(descriptor, journal, done)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        content = {"files": len(self.files), "root": str(self.root), "settings": dict(self.decoder.settings)}
        named = {_relative(self.files[place], self.root): why for place, why in broken.items()}
        with atomic_file(self.path("json"), f".{os.getpid()}.part") as temporary:
            temporary.write_text(json.dumps({**content, "broken": named}), encoding="utf8")
        part.replace(self.path("rows"))
        journal.unlink(missing_ok=True)

    def _fill(self, descriptor: int, journal: Path, done: int) -> dict[int, str]:
        """Write the rows from `done` on; note in the journal what is on the disk."""
        row_bytes = self.size // len(self.files)

        def decode(place: int) -> None:
            row = self.decoder(self.files[place])
            try:
                _write_at(descriptor, row.tobytes(), place * row_bytes)
            except OSError as error:
                raise StorageError from error

        broken: dict[int, str] = {}
        chunk = max(LEAST_FILES, CHUNK_BYTES // row_bytes)
        places = range(done, len(self.files))
        with journal.open("a", encoding="utf8") as notes:
            for stop, failed in run_in_chunks(
                decode, places, chunk=chunk, title=f"making {self.stem}", total=len(self.files)
            ):
                os.fsync(descriptor)  # before it is noted
                broken |= failed
                notes.write(json.dumps({"done": stop, "broken": failed}) + "\n")
                notes.flush()
        return broken

    def _log_build(self, done: int) -> None:
        others = [file for file in self.folder.glob(f"{self.kind}-*.*") if file.suffix in (".rows", ".part")]
        others = [file for file in others if file.stem != self.stem]
        log.info(
            "making %s: %d files decoded once, %s; %s are free%s",
            *(self.path("rows"), len(self.files), gigabytes(self.size), gigabytes(free_disk(self.folder))),
            f"; {done} are done already" if done else "",
        )
        if others:
            log.info(
                "%d cache files of other data or settings take %s; to delete one that you no longer need: rm %s",
                *(len(others), gigabytes(sum(file.stat().st_size for file in others))),
                f"{shlex.quote(str(self.folder))}/{others[0].stem}.*",
            )


def read_journal(journal: Path) -> tuple[int, dict[int, str], int]:
    """How many rows an interrupted process has written, which files were broken, and the bytes of its whole notes.

    The last note of a process that was killed may be torn.
    """
    done, broken, whole = 0, dict[int, str](), 0
    try:
        lines = journal.read_bytes().splitlines(keepends=True)
    except FileNotFoundError:
        return done, broken, whole
    for line in lines:
        try:
            note: dict[str, Any] = json.loads(line if line.endswith(b"\n") else b"")
            done, broken = int(note["done"]), broken | {int(k): str(v) for k, v in note["broken"].items()}
        except (ValueError, LookupError, TypeError):
            break
        whole += len(line)
    return done, broken, whole


def _write_at(descriptor: int, content: bytes, offset: int) -> None:
    rest = memoryview(content)
    while len(rest):
        if hasattr(os, "pwrite"):
            written = os.pwrite(descriptor, rest, offset)
        else:  # Windows, where threads share the position in the file
            with POSITION:
                os.lseek(descriptor, offset, os.SEEK_SET)
                written = os.write(descriptor, rest)
        rest, offset = rest[written:], offset + written


def _relative(file: Path, root: Path) -> str:
    try:
        return file.relative_to(root).as_posix()
    except ValueError:
        return file.as_posix()
