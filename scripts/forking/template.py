"""The template: its committed files, its packages, and where it comes from."""

import io
import re
import tarfile
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from _git import AS_COMMITTED, UserError, git, git_bytes, succeeds

ENGINE = "train_smarter"  # keeps its name in every fork
GROUP = f"{ENGINE}.project"  # the entry point group that names the project's package


class File(NamedTuple):
    content: bytes
    executable: bool = False

    @property
    def text(self) -> str:
        return self.content.decode("utf8")


Files = dict[str, File]  # by path relative to the root, with forward slashes


@dataclass(frozen=True)
class Template:
    files: Files
    project: str  # the project's package
    origin: str  # URL or absolute path from which git can clone the commit
    commit: str


def read(root: Path) -> Template:
    """Read the template that is committed in `root`.

    The commit, not the folder: `update.py` has to be able to make the same fork again.
    """
    top = git(root, "rev-parse", "--show-toplevel") if succeeds(root, "rev-parse", "--verify", "HEAD") else ""
    if not top or Path(top).resolve() != root.resolve():
        git(root, "--version")  # reports a missing git first
        raise UserError(f"{root} is not a git checkout with a commit: git clone the template, and fork the clone")
    files = _committed(root)
    commit = git(root, "rev-parse", "HEAD")
    return Template(files, _project(files), _origin(root, commit), commit)


def uncommitted(root: Path) -> list[str]:
    """Return the files whose state on disk is not in the commit."""
    listed = git(root, "status", "--porcelain", "-z", "--no-renames").split("\0")
    return [line[3:] for line in listed if line]


def _committed(root: Path) -> Files:
    archive = git_bytes(root, *AS_COMMITTED, "archive", "--format=tar", "HEAD")
    files: Files = {}
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        for member in tar:
            if content := tar.extractfile(member) if member.isfile() else None:
                files[member.name] = File(content.read(), bool(member.mode & 0o100))
    return files


def _project(files: Files) -> str:
    """Return the project's package, from pyproject.toml."""
    try:
        content = tomllib.loads(files["pyproject.toml"].text)
        return str(next(iter(content["project"]["entry-points"][GROUP].values())))
    except (KeyError, StopIteration, tomllib.TOMLDecodeError):
        raise UserError(f'pyproject.toml names no package in [project.entry-points."{GROUP}"]: it is needed') from None


def _origin(root: Path, commit: str) -> str:
    """Return the remote's URL if the commit was pushed there, else the path of this checkout."""
    pushed = git(root, "branch", "--remotes", "--contains", commit, "--format=%(refname)")
    if "refs/remotes/origin/" in pushed:
        url = git(root, "remote", "get-url", "origin")
        local = (root / url).resolve() if "://" not in url else None
        return str(local) if local and local.exists() else without_credentials(url)
    return str(root.resolve())


def without_credentials(url: str) -> str:
    """Remove user name and password or token from an HTTP address: it is recorded in a committed file."""
    return re.sub(r"^(https?://)[^/@]*@", r"\1", url)
