"""What cannot be a fork's name or its folder."""

import ast
import contextlib
import importlib.metadata
import importlib.util
import keyword
import re
import sys
from pathlib import Path, PurePosixPath

from _git import UserError
from forking.template import ENGINE, Files, Template

NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
LONGEST = 30  # characters: a longer name breaks lines of the code that fit today
# File names that Windows reserves.
RESERVED = {"con", "prn", "aux", "nul", *(f"{port}{number}" for port in ("com", "lpt") for number in range(10))}


def check_name(name: str, template: Template) -> None:
    """Raise UserError unless `name` can be the package's name."""
    if not NAME.fullmatch(name):
        raise UserError(
            f"--name {name!r} is not a package name: use lower-case letters, digits and single _, as in my_flowers"
        )
    if len(name) > LONGEST:
        raise UserError(f"--name {name} has {len(name)} characters: use {LONGEST} at most")
    reason = _conflict(name, template)
    if reason:
        raise UserError(f"--name {name} {reason}: choose another, such as --name my_{name}")


def _conflict(name: str, template: Template) -> str:
    """Return why a well-formed name does not work, or an empty string."""
    if name in (template.project, ENGINE):
        return "is a package of the template itself"
    if keyword.iskeyword(name) or keyword.issoftkeyword(name):
        return "is a Python keyword"
    if name in RESERVED:
        return "is a file name that Windows reserves"
    if name in _words(template.files):
        return "has a meaning in this project already"
    locked = _locked(template.files)
    if name in {"test", *sys.stdlib_module_names, *_imported(template.files), *locked} or _belongs_to(name, locked):
        return f"would hide the module {name}"
    return ""


def _words(files: Files) -> set[str]:
    """Return the names of the top-level folders and files, of the modules and of the config groups."""
    paths = [PurePosixPath(path) for path in files]
    inner = {part for path in paths if path.parts[0] in ("src", "conf") for part in path.parts}
    return {PurePosixPath(part).stem.lower() for part in inner | {path.parts[0] for path in paths}}


def _imported(files: Files) -> set[str]:
    """Return the top-level modules that the code imports, installed here or not."""
    names: set[str] = set()
    for path, file in files.items():
        with contextlib.suppress(SyntaxError):
            nodes = ast.walk(ast.parse(file.content)) if path.endswith(".py") else iter(())
            names |= {module.partition(".")[0] for node in nodes for module in imported_by(node)}
    return names


def imported_by(node: ast.AST) -> list[str]:
    """Return the modules that an import statement names."""
    if isinstance(node, ast.ImportFrom):
        return [node.module or ""] if not node.level else []
    return [alias.name for alias in node.names] if isinstance(node, ast.Import) else []


def _locked(files: Files) -> set[str]:
    """Return the packages of requirements.lock."""
    lock = files["requirements.lock"].text if "requirements.lock" in files else ""
    return {_normal(name) for name in re.findall(r"^([\w.-]+)==", lock, re.MULTILINE)}


def _belongs_to(module: str, locked: set[str]) -> bool:
    """Return whether a module that is installed here is of a locked package: yaml is of PyYAML."""
    if importlib.util.find_spec(module) is None:  # the next step reads every installed package
        return False
    return bool(locked & {_normal(name) for name in importlib.metadata.packages_distributions().get(module, [])})


def _normal(distribution: str) -> str:
    return re.sub(r"[.-]", "_", distribution).lower()


def check_target(target: Path, *, root: Path) -> None:
    """Raise UserError unless `target` is an empty folder, or nothing, outside the template."""
    if target.is_relative_to(root.resolve()):
        raise UserError(f"{target} is inside the template: choose a folder outside of it, such as ../{target.name}")
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise UserError(f"{target} exists and is not an empty folder: choose another")
    for parent in target.parents:
        if parent.exists() and not parent.is_dir():
            raise UserError(f"{target} cannot be made, as {parent} is a file: choose another folder")
