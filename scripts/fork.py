"""Starts a project of your own: a copy of this one under a new name, in a git repository of its own.

    python scripts/fork.py ../my_project --name my_project

Copies the files that git tracks, as they are on disk, and renames package, distribution and title in paths and texts.
Needs git and Python alone; what they are called now is read from pyproject.toml, so a fork can be forked.
"""

import argparse
import ast
import contextlib
import importlib.util
import keyword
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).resolve().parents[1]
NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
NEXT = """{title}: {count} files in {target}, committed.
Next:
  cd {folder}
  make test   # builds its environment first
  make train"""


class ForkError(Exception):
    """A mistake, in one line: what was given, and what would do."""


def main(argv: Sequence[str] | None = None, *, root: Path = ROOT) -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(description="Copies this project under a new name, ready for a first change.")
    parser.add_argument("target", help="the new project's folder: empty, or not there yet")
    parser.add_argument("--name", help="the new package, e.g. my_project; the folder's name if not given")
    args = parser.parse_args(argv)
    target = Path(args.target).expanduser().resolve()
    name = args.name or target.name
    try:
        count = fork(root, target, name=name)
    except ForkError as refusal:
        print(f"fork.py: {refusal}", file=sys.stderr)
        return 2
    if left := git(root, "ls-files", "--others", "--exclude-standard").splitlines():
        print(f"Left behind, as git does not track it: {', '.join(left)}")
    print(NEXT.format(title=title(name), count=count, target=target, folder=shlex.quote(args.target)))
    return 0


def fork(root: Path, target: Path, *, name: str) -> int:
    """Copies the project in `root` to `target` as package `name` and commits it; returns the number of files.

    Raises:
        ForkError: if the name or the target will not do, or git fails; nothing is left behind.
    """
    files = tracked(root)
    check_name(name, root=root, files=files)
    check_target(target, root=root)
    try:
        copy(root, target, files=files, rename=renamer(package(root), name))
        found_licence(target, name=name)
        found_changelog(target, origin=origin(root))
        tidy(root, target)
        commit(target, message=f"Start from {origin(root)}")
    except (OSError, ForkError) as error:
        remove(target)
        if isinstance(error, ForkError):
            raise
        raise ForkError(f"cannot copy to {target}: {error}") from error
    return len(files)


# ---- what this project is


def tracked(root: Path) -> list[PurePosixPath]:
    """The files of git's index that are on disk, relative to `root`."""
    try:
        listed = git(root, "ls-files", "-z").split("\0")
    except ForkError as refusal:
        raise ForkError(f"{root} is no git checkout that can be read, clone the project ({refusal})") from None
    files = [PurePosixPath(path) for path in listed if path and ((root / path).is_file() or (root / path).is_symlink())]
    if not files:
        raise ForkError(f"git tracks no file in {root}: add and commit the project first")
    return files


def package(root: Path) -> str:
    """The name of the package, from pyproject.toml."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf8"))["project"]
    return str(project["name"]).replace("-", "_")


def origin(root: Path) -> str:
    """Title, version and commit, as far as there are any."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf8"))["project"]
    try:
        revision = f"commit {git(root, 'rev-parse', '--short', 'HEAD').strip()}"
    except ForkError:
        revision = "before its first commit"
    return f"{title(package(root))} {project.get('version', '')} ({revision})"


def title(name: str) -> str:
    """my_project -> My Project."""
    return " ".join(word.capitalize() for word in name.split("_"))


# ---- what is refused


def check_name(name: str, *, root: Path, files: Sequence[PurePosixPath]) -> None:
    """Raises ForkError unless `name` can be the package's."""
    if not NAME.fullmatch(name):
        raise ForkError(f"--name {name!r} is no package name: small letters, digits and single _, as in my_project")
    if name == package(root):
        raise ForkError(f"--name {name} is this project's own name: choose another")
    if keyword.iskeyword(name) or keyword.issoftkeyword(name):
        raise ForkError(f"--name {name} is a word of Python's own: choose another, such as my_{name}")
    if name in words(files):
        raise ForkError(f"--name {name} has a meaning in this project already: choose another, such as my_{name}")
    if name in {"test", *sys.stdlib_module_names, *imported(root, files)} or importlib.util.find_spec(name):
        raise ForkError(f"--name {name} would hide the module {name}: choose another, such as my_{name}")


def words(files: Sequence[PurePosixPath]) -> set[str]:
    """The names of the project's top-level folders and files, of its modules and of its config groups."""
    top = {file.parts[0] for file in files}
    inner = {part for file in files if file.parts[0] in ("src", "conf") for part in file.parts}
    return {PurePosixPath(part).stem.lower() for part in top | inner}


def imported(root: Path, files: Sequence[PurePosixPath]) -> set[str]:
    """The top-level modules that the project imports, installed here or not, and the packages of its lock."""
    lock = root / "requirements.lock"
    locked = re.findall(r"^([\w.-]+)==", lock.read_text(encoding="utf8") if lock.is_file() else "", re.MULTILINE)
    names = {re.sub(r"[.-]", "_", name).lower() for name in locked}
    for file in files:
        with contextlib.suppress(SyntaxError):  # a template, say
            nodes = ast.walk(ast.parse((root / file).read_bytes())) if file.suffix == ".py" else []
            names |= {module.partition(".")[0] for node in nodes for module in modules(node)}
    return names


def modules(node: ast.AST) -> list[str]:
    """What an import statement names."""
    if isinstance(node, ast.ImportFrom):
        return [node.module or ""] if not node.level else []
    return [alias.name for alias in node.names] if isinstance(node, ast.Import) else []


def check_target(target: Path, *, root: Path) -> None:
    """Raises ForkError unless `target` is an empty folder, or nothing, outside the project."""
    if target.is_relative_to(root.resolve()):
        raise ForkError(f"{target} lies inside this project: choose a folder beside it, such as ../{target.name}")
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise ForkError(f"{target} exists and is not an empty folder: choose another")


# ---- the copy


def renamer(old: str, new: str) -> Callable[[bytes], bytes]:
    """A function that replaces every spelling of the package's name, as whole words.

    train_smarter, train-smarter, Train Smarter, TrainSmarter and TRAIN_SMARTER each become the new name's.
    """
    spellings: dict[bytes, bytes] = {}
    for given, wanted in zip(spelt(old), spelt(new), strict=True):
        spellings.setdefault(given.encode(), wanted.encode())  # of one word, several spellings are the same
    found = re.compile(rb"(?<![A-Za-z0-9])(%s)(?![A-Za-z0-9])" % b"|".join(map(re.escape, spellings)))
    return lambda content: found.sub(lambda match: spellings[match[0]], content)


def spelt(name: str) -> list[str]:
    return [name, name.replace("_", "-"), title(name), title(name).replace(" ", ""), name.upper()]


def copy(root: Path, target: Path, *, files: Sequence[PurePosixPath], rename: Callable[[bytes], bytes]) -> None:
    """Copies `files`, renamed in path and text; what holds a zero byte is no text, and kept as it is."""
    for file in files:
        source, new = root / file, target / rename(str(file).encode()).decode()
        new.parent.mkdir(parents=True, exist_ok=True)
        if source.is_symlink():
            new.symlink_to(rename(str(source.readlink()).encode()).decode())
            continue
        content = source.read_bytes()
        # The licence keeps whose work this is.
        new.write_bytes(content if b"\0" in content or file.name == "LICENSE" else rename(content))
        shutil.copymode(source, new)


def found_licence(target: Path, *, name: str) -> None:
    """Adds the new authors below those whose notice the licence requires to be kept."""
    licence = target / "LICENSE"
    if licence.is_file():
        notice = f"Copyright (c) {date.today().year} The {title(name)} authors\n"
        text = licence.read_text(encoding="utf8")
        licence.write_text(re.sub(r"^(Copyright .*\n)(?!Copyright)", rf"\1{notice}", text, count=1, flags=re.M), "utf8")


def found_changelog(target: Path, *, origin: str) -> None:
    """Begins the changelog anew: its head, and where the project comes from."""
    changelog = target / "CHANGELOG.md"
    if changelog.is_file():
        head = changelog.read_text(encoding="utf8").partition("\n## ")[0]
        changelog.write_text(f"{head}\n## [Unreleased]\n\n### Added\n\n- The project, from {origin}.\n", "utf8")


def tidy(root: Path, target: Path) -> None:
    """Formats the code, where ruff is at hand: lines have become longer or shorter."""
    places = (Path(sys.executable).parent, root / ".venv" / "bin", root / ".venv" / "Scripts")
    if ruff := shutil.which("ruff", path=os.pathsep.join(map(str, places))):
        subprocess.run([ruff, "format", "--quiet", "--no-cache", "."], cwd=target, check=False)


def commit(target: Path, *, message: str) -> None:
    """Makes a repository with one commit; git's user is the configured one, if there is one."""
    git(target, "init", "--quiet", "--initial-branch=main")
    git(target, "add", "--all", "--force")  # --force: what is tracked here although it is ignored
    user = []
    for key, value in (("user.name", "fork.py"), ("user.email", "fork.py@localhost")):
        try:
            git(target, "config", key)
        except ForkError:
            user += ["-c", f"{key}={value}"]
    git(target, *user, "commit", "--quiet", f"--message={message}")


def remove(folder: Path) -> None:
    """Deletes what was copied, as far as it can."""
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            path.chmod(0o600)  # git's objects are read-only, and Windows does not delete such files
    shutil.rmtree(folder, ignore_errors=True)


def git(folder: Path, *words: str) -> str:
    """What git prints, run in `folder`; raises ForkError with git's own complaint."""
    # Inside a git hook these point at the repository that is being committed to.
    env = {key: value for key, value in os.environ.items() if key not in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE")}
    try:
        done = subprocess.run(["git", *words], cwd=folder, env=env, capture_output=True, text=True, encoding="utf8")
    except FileNotFoundError:
        raise ForkError("git is not installed, or not on PATH") from None
    if done.returncode:
        raise ForkError(f"git: {(done.stderr.strip().splitlines() or ['failed'])[-1]}")
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
