"""What fork.py and update.py share: run git, and report a mistake in one message."""

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

# Inside a git hook these name the repository that is being committed to.
HOOK_VARIABLES = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX")
# Line endings as committed, whatever the user's git converts to on checkout.
AS_COMMITTED = ("-c", "core.autocrlf=false", "-c", "core.eol=lf")


class UserError(Exception):
    """One message: what was given, what is accepted, what to type next."""


class Parser(argparse.ArgumentParser):
    """Report a wrong argument in one message, like every other mistake."""

    def error(self, message: str) -> NoReturn:
        print(f"{self.prog}: {message}; {self.prog} --help lists what is accepted", file=sys.stderr)
        sys.exit(2)


def git_bytes(folder: Path, *arguments: str) -> bytes:
    """Return what git prints when run in `folder`; raise UserError with git's own message if it fails."""
    env = {key: value for key, value in os.environ.items() if key not in HOOK_VARIABLES}
    try:
        done = subprocess.run(["git", *arguments], cwd=folder, env={**env, "LC_ALL": "C"}, capture_output=True)
    except FileNotFoundError:
        raise UserError("git is not installed, or not on PATH: install it, then type the command again") from None
    if done.returncode:
        lines = (done.stderr or done.stdout).decode("utf8", "replace").strip().splitlines()
        raise UserError(f"git {_verb(arguments)}: {' / '.join(lines[-3:]) or 'failed'}")
    return done.stdout


def git(folder: Path, *arguments: str) -> str:
    """Return what git prints, as text without the last newline."""
    return git_bytes(folder, *arguments).decode("utf8", "replace").rstrip("\n")


def succeeds(folder: Path, *arguments: str) -> bool:
    """Return whether git ends without an error."""
    try:
        git_bytes(folder, *arguments)
    except UserError:
        return False
    return True


def identity(folder: Path) -> list[str]:
    """Return the options that name an author where the user has configured none."""
    defaults = {"user.name": "Train Smarter", "user.email": "train-smarter@localhost"}
    unset = {key: value for key, value in defaults.items() if not succeeds(folder, "config", key)}
    return [word for key, value in unset.items() for word in ("-c", f"{key}={value}")]


def remove_folder(folder: Path) -> None:
    """Delete a folder with a repository in it."""
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            path.chmod(0o600)  # git's objects are read-only, and Windows does not delete such files
    shutil.rmtree(folder, ignore_errors=True)


def _verb(arguments: tuple[str, ...]) -> str:
    """Return git's subcommand, after its options `-c key=value`."""
    words = list(arguments)
    while words[:1] == ["-c"]:
        del words[:2]
    return words[0] if words else ""
