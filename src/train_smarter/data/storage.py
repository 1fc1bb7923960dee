"""Where examples of known size are held: which of the places has room for them."""

import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from train_smarter.errors import UserError

CACHES = ("memory", "disk", "none")
QUICK_BYTES = 2**30  # up to here, decoding again at each start takes less than half a minute
CGROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Place:
    """Where examples are held, and why, in words.

    cache: one of `CACHES`.
    """

    cache: str
    why: str


def check_cache(given: str | None) -> str | None:
    """Return `given`, one of `CACHES` or None, or raise a UserError."""
    if given not in (None, *CACHES):
        raise UserError(f"data.cache={given}: give {', '.join(CACHES)}, or null: chosen by size")
    return given


def choose_cache(
    given: str | None, *, size: int, missing: int, what: str, folder: Path, copies: int = 1, writable: bool = True
) -> Place:
    """The place for examples; `given`, or one with room for them.

    Args:
        given: one of `CACHES`, or None.
        size: bytes that they take.
        missing: bytes that their cache file still lacks; 0: it is made.
        what: they are, in words.
        folder: of the cache files.
        copies: processes on this machine that would each hold them in memory.
        writable: a cache file may be made.

    Raises:
        UserError: the given place has too little room.
    """
    memory, disk = free_memory(), free_disk(folder)
    fits = memory is None or size * copies <= memory / 2
    if given == "memory" and memory is not None and size * copies > memory:
        raise UserError(
            f"data.cache=memory: {what} take {gigabytes(size)}{f' in each of {copies} processes' * (copies > 1)}, and "
            f"{gigabytes(memory)} of memory are free: type data.cache=disk or none, or a smaller data.size"
        )
    if given == "disk" and writable and missing > disk:
        raise UserError(
            f"data.cache=disk: {what} take {gigabytes(missing)}, and {folder} has {gigabytes(disk)} free: free some "
            "space, or type paths.data=... of a larger disk, data.cache=none, or a smaller data.size"
        )
    if given == "disk" and missing and not writable:
        return Place("memory" if fits else "none", "there is no cache file, and this command makes none")
    if given is not None:
        return Place(given, "")
    if not missing:
        return Place("disk", "their cache file is there")
    if fits and size * copies <= QUICK_BYTES:
        return Place("memory", f"{gigabytes(memory)} of memory are free")
    if writable and missing <= disk / 2 and _can_write(folder):
        return Place("disk", f"{gigabytes(memory)} of memory and {gigabytes(disk)} of {folder} are free")
    if fits:
        return Place("memory", f"{gigabytes(memory)} of memory are free, and {gigabytes(disk)} of {folder}")
    return Place("none", f"{gigabytes(memory)} of memory and {gigabytes(disk)} of {folder} are free: too little")


def _can_write(folder: Path) -> bool:
    return os.access(existing_parent(folder), os.W_OK)


def existing_parent(folder: Path) -> Path:
    """The folder, or the nearest above it that exists."""
    return next(parent for parent in (folder, *folder.absolute().parents) if parent.is_dir())


def free_disk(folder: Path) -> int:
    """Bytes that can be written to a folder, which may not exist yet."""
    return shutil.disk_usage(existing_parent(folder)).free


def free_memory() -> int | None:
    """Bytes that this process may still take, by the machine's memory and by its control group; None: unknown."""
    return min((*_free_on_machine(), *_free_in_cgroup()), default=None)


def _free_on_machine() -> Iterator[int]:
    if sys.platform == "win32":
        yield from _free_on_windows()
        return
    try:
        lines = Path("/proc/meminfo").read_text(encoding="utf8").splitlines()
        yield next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError):
        yield os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")  # a Mac: what of it is free, the system decides


def _free_on_windows() -> Iterator[int]:
    import ctypes

    class Status(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ulong), ("load", ctypes.c_ulong), ("sizes", ctypes.c_ulonglong * 7))

    status = Status(length=ctypes.sizeof(Status))
    if ctypes.windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status)):  # type: ignore[attr-defined, unused-ignore]
        yield int(status.sizes[1])


def _free_in_cgroup(root: Path = CGROUP, own: Path = Path("/proc/self/cgroup")) -> Iterator[int]:
    """What each control group above this process still allows; the page cache within it counts as free."""
    try:
        lines = [line.split(":", 2) for line in own.read_text(encoding="utf8").splitlines()]
    except OSError:
        return
    for _, controllers, path in (line for line in lines if len(line) == 3):
        names = ("memory.max", "memory.current", "inactive_file")
        base = root
        if controllers:
            if "memory" not in controllers.split(","):
                continue
            base, names = root / "memory", ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        for group in (path, *(str(parent) for parent in Path(path).parents)):
            yield from _free_in_group(base / group.lstrip("/"), *names)


def _free_in_group(folder: Path, limit: str, used: str, reclaimable: str) -> Iterator[int]:
    try:
        most, now = (int((folder / name).read_text(encoding="utf8")) for name in (limit, used))
        statistics = dict(line.split() for line in (folder / "memory.stat").read_text(encoding="utf8").splitlines())
        yield max(0, most - now + int(statistics.get(reclaimable, 0)))
    except (OSError, ValueError):  # no such group, or "max": no limit
        return


def gigabytes(size: int | None) -> str:
    """Bytes for a reader, with a unit that suits them."""
    if size is None:
        return "an unknown amount"
    for unit, bytes_of in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if size >= bytes_of:
            return f"{size / bytes_of:.1f} {unit}"
    return f"{size / 1e3:.0f} KB"
