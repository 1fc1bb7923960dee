"""How scaffold.py changes files: all of them or none, and nothing is lost that git has no copy of."""

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from scaffold_config import ScaffoldError


@dataclass
class Plan:
    """Changes of files that are made all together or not at all."""

    write: dict[Path, str] = field(default_factory=dict)
    edit: dict[Path, str] = field(default_factory=dict)
    delete: list[Path] = field(default_factory=list)


def apply(plan: Plan, *, root: Path) -> None:
    """Write, edit and delete; after a failure, every file is as before."""
    undo = contextlib.ExitStack()
    with make_trash(root) as trash:
        try:
            for file, text in plan.write.items():
                write(file, text, undo)
            for number, file in enumerate([*plan.edit, *plan.delete]):
                file.rename(trash / str(number))
                undo.callback((trash / str(number)).replace, file)
            for number, (file, text) in enumerate(plan.edit.items()):
                write(file, text, undo)
                shutil.copymode(trash / str(number), file)
        except BaseException as error:
            undo.close()
            if isinstance(error, OSError):
                reason = error.strerror or error
                raise ScaffoldError(f"{error.filename or root}: {reason}. Nothing was changed") from None
            raise
    for file in plan.delete:
        remove_stale_bytecode(file)


@contextlib.contextmanager
def make_trash(root: Path) -> Iterator[Path]:
    """Yield a new folder on the same disk, where a file can be moved to and back."""
    try:
        trash = Path(tempfile.mkdtemp(dir=root, prefix=".scaffold-"))
    except OSError as error:
        raise ScaffoldError(f"{root} cannot be written: {error.strerror}. Nothing was changed") from None
    try:
        yield trash
    except BaseException:
        with contextlib.suppress(OSError):
            trash.rmdir()  # empty, unless a file could not be moved back
        raise
    shutil.rmtree(trash, ignore_errors=True)


def write(file: Path, text: str, undo: contextlib.ExitStack) -> None:
    """Write a new file; `undo` deletes it, and its folder if that is new."""
    if not file.parent.exists():
        file.parent.mkdir(parents=True)
        undo.callback(file.parent.rmdir)
    with file.open("xb") as stream:
        undo.callback(file.unlink)
        stream.write(text.encode())


def remove_stale_bytecode(module: Path) -> None:
    for stale in (module.parent / "__pycache__").glob(f"{module.stem}.*.pyc"):
        with contextlib.suppress(OSError):
            stale.unlink()


def equals(file: Path, text: str | None) -> bool:
    return text is not None and file.read_bytes().replace(b"\r\n", b"\n") == text.encode()


def is_committed(root: Path, file: Path) -> bool:
    # Inside a git hook these point at the repository that is being committed to.
    env = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}

    def git(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["git", *words, "--", str(file)], cwd=root, env=env, capture_output=True, text=True)

    try:
        tracked, status = git("ls-files", "--error-unmatch"), git("status", "--porcelain")
    except OSError:
        return False
    return tracked.returncode == status.returncode == 0 and not status.stdout
