"""What scaffold.py reads from conf/ and from the code: defaults, which model fits which data set, who names a choice.

Reads YAML line by line: the standard library has no YAML, and the environment may not be built yet.
"""

import ast
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path

PLACES = ("README.md", "CONTRIBUTING.md", "Makefile", "conf", "docs", "src", "tests")


class NoDefaultError(Exception):
    """Nothing is left that conf/train.yaml could name as its default."""


class ScaffoldError(Exception):
    """A mistake, in one message: what was given, what is accepted, what to type."""


@dataclass(frozen=True)
class Project:
    """The folders of a project, and its package's name."""

    root: Path
    package: str

    @property
    def conf(self) -> Path:
        return self.root / "conf"

    @property
    def source(self) -> Path:
        return self.root / "src" / self.package

    def config(self, group: str, name: str) -> Path:
        return self.conf / group / f"{name}.yaml"

    def module(self, group: str, name: str) -> Path:
        return self.source / group / f"{name}.py"

    def test(self, group: str, name: str) -> Path:
        return self.root / "tests" / self.package / group / f"test_{name}.py"

    def short(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()


# ---- configs


def read_lines(file: Path) -> list[str]:
    """Return the lines of a YAML file without comments; none if it cannot be read."""
    try:
        text = file.read_text(encoding="utf8")
    except (OSError, UnicodeDecodeError):
        return []
    return [re.sub(r"(^|\s)#.*", "", line).rstrip() for line in text.splitlines()]


def choices(conf: Path, group: str) -> list[str]:
    return sorted(file.stem for file in (conf / group).glob("[!_.]*.yaml"))


def default(conf: Path, group: str) -> str:
    """Return the choice that conf/train.yaml makes for a group, or nothing."""
    found = (re.match(rf"\s*-\s+{group}:\s*([\w-]+)", line) for line in read_lines(conf / "train.yaml"))
    return next((match[1] for match in found if match), "")


def bases(file: Path) -> list[str]:
    """Return the choices of its own group that a config builds on, from its defaults list."""
    text = "\n".join(read_lines(file))
    match = re.search(r"^defaults:[ ]*(\[[^\]]*\]|(?:\n[ ]*-.*)+)", text, re.MULTILINE)
    entries = re.split(r"[,\n]", match[1].strip("[] \n")) if match else []
    names = [entry.strip().removeprefix("- ").strip(" '\"") for entry in entries]
    return [name for name in names if re.fullmatch(r"\w+", name) and name != "_self_"]


def read_chain(conf: Path, group: str, name: str) -> list[str]:
    """Return the lines of a choice and of all that it builds on."""
    lines: list[str] = []
    names, seen = [name], set()
    while names:
        current = names.pop()
        if current not in seen:
            seen.add(current)
            file = conf / group / f"{current}.yaml"
            lines += read_lines(file)
            names += bases(file)
    return lines


def fits(conf: Path, model: str, data: str) -> bool:
    """Whether the data set has every fact that the model needs, and its task the kind of outputs that it returns."""
    network, facts = read_chain(conf, "model", model), read_chain(conf, "data", data)
    wanted = {key for line in network for key in re.findall(r"\$\{data\.(\w+)", line)}
    given = {match[1] for line in facts if (match := re.match(r"(\w+):", line))}
    images = any("${image_shape:" in line for line in network)
    if not wanted <= given or (images and len(first_value(facts, "shape").split(",")) != 3):
        return False
    chosen = [name for line in facts for name in names_in_line(line, "task")]
    task = read_chain(conf, "task", chosen[0] if chosen else default(conf, "task"))
    kinds = {first_value(lines, "output_per") for lines in (network, task)} - {"", "null"}
    return len(kinds) < 2


def first_value(lines: Iterable[str], key: str) -> str:
    """Return the value of a key at the top of a config; the choice's own comes before those of its bases."""
    found = (re.match(rf"{key}:\s*(.+)", line) for line in lines)
    return next((match[1].strip() for match in found if match), "")


def partner(conf: Path, group: str, name: str) -> str:
    """Return `data=` or `model=` with what a new model or data set needs besides the default; nothing if it fits."""
    other = "model" if group == "data" else "data"
    ready = [each for each in choices(conf, other) if each != "none" and not needs_argument(conf, other, each)]
    fitting = [each for each in ready if (fits(conf, each, name) if group == "data" else fits(conf, name, each))]
    fitting.sort(key=lambda each: (each != default(conf, other), other == "data" and needs_download(conf, each)))
    if not fitting:
        return f" {other}=..."
    return "" if fitting[0] == default(conf, other) else f" {other}={fitting[0]}"


def needs_argument(conf: Path, group: str, name: str) -> bool:
    return any(re.search(r":\s*\?\?\?$", line) for line in read_chain(conf, group, name))


def needs_download(conf: Path, name: str) -> bool:
    return any(re.match(r"urls?:", line) for line in read_chain(conf, "data", name))


# ---- who names a choice


def names_in_line(line: str, group: str) -> set[str]:
    """Return the choices of a group in a line such as `- override /data: digits` or `model: choice(cnn, mlp)`."""
    key = rf"\s*(?:-\s+)?(?:override\s+|optional\s+)?/?{group}(?:@[\w.]+)?:\s*([^\s{{].*)$"
    match = re.match(key, line)
    listed = set(re.findall(rf"override\s+/{group}(?:@[\w.]+)?:\s*(\w+)", line))  # in a list on one line
    return listed | (set(re.findall(r"\w+", match[1])) if match else set())


def names(conf: Path, group: str, name: str) -> list[Path]:
    """Return the configs that name a choice, in their defaults or in a search space."""
    found = []
    for file in sorted(conf.rglob("*.yaml")):
        own = file.parent == conf / group and file.stem != name and name in bases(file)
        if own or any(name in names_in_line(line, group) for line in read_lines(file)):
            found.append(file)
    return found


def dependents(conf: Path, kind: str, gone: Mapping[str, set[str]]) -> set[str]:
    """Return the experiments (or searches) that cannot be composed without the choices of `gone`."""
    found: set[str] = set()
    while True:
        gone = {**gone, kind: gone.get(kind, set()) | found}
        files = {file for group, each in gone.items() for name in each for file in names(conf, group, name)}
        new = {file.stem for file in files if file.parent == conf / kind} - found
        if not new:
            return found
        found |= new


# ---- the defaults of conf/train.yaml


def filled_default(conf: Path, group: str, name: str) -> dict[Path, str]:
    """Return conf/train.yaml with `name` where it has no default for a group (`???`); nothing if it has one."""
    file = conf / "train.yaml"
    text = file.read_bytes().decode("utf8")
    filled = re.sub(rf"(?m)^(\s*-\s+{group}:\s*)\?\?\?", rf"\g<1>{name}", text, count=1)
    return {} if filled == text else {file: filled}


def edited_defaults(conf: Path, gone: Mapping[str, set[str]]) -> dict[Path, str]:
    """Return conf/train.yaml with defaults that remain; nothing if it names none of `gone`.

    Raises:
        NoDefaultError: no data set or no model is left that could be the default.
    """
    chosen = {}
    if gone.get("data") or gone.get("model"):
        data, model = best_pair(conf, gone)
        chosen = {"data": data, "model": model}
    file = conf / "train.yaml"
    text = old = file.read_bytes().decode("utf8")
    for group, removed in gone.items():
        if default(conf, group) in removed and group not in chosen:
            chosen[group] = "none"
    for group, name in chosen.items():
        text = re.sub(rf"(?m)^(\s*-\s+{group}:\s*)[\w-]+", rf"\g<1>{name}", text, count=1)
    return {} if text == old else {file: text}


def best_pair(conf: Path, gone: Mapping[str, set[str]]) -> tuple[str, str]:
    """Return a data set and a model that fit: no download if possible, then as few changes as possible.

    Among several models, the one with the shortest code comes first.
    """
    left = {
        group: [name for name in choices(conf, group) if name not in {"none", *gone.get(group, ())}]
        for group in ("data", "model")
    }
    ready = {group: [name for name in left[group] if not needs_argument(conf, group, name)] for group in left}
    for group, noun in (("data", "data set"), ("model", "model")):
        if not ready[group]:
            others = (
                f" ({', '.join(left[group])} cannot be the default: a value has to be typed)" if left[group] else ""
            )
            raise NoDefaultError(f"it is the last {noun}{others}. Add another first: scaffold.py add {group} NAME")
    pairs = [pair for pair in product(ready["data"], ready["model"]) if fits(conf, pair[1], pair[0])]
    if not pairs:
        raise NoDefaultError(
            f"none of the models {', '.join(ready['model'])} fits one of the data sets {', '.join(ready['data'])}. "
            "Add one that does first: scaffold.py add data NAME, or scaffold.py add model NAME"
        )
    now = (default(conf, "data"), default(conf, "model"))

    def cost(pair: tuple[str, str]) -> tuple[object, ...]:
        changes = sum(new != old for new, old in zip(pair, now, strict=True))
        return needs_download(conf, pair[0]), changes, pair[0], len("".join(read_chain(conf, "model", pair[1]))), pair

    return min(pairs, key=cost)


# ---- code


def python_files(folder: Path) -> Iterator[tuple[Path, ast.AST]]:
    for file in sorted(folder.rglob("*.py")):
        try:
            yield file, ast.parse(file.read_bytes())
        except (OSError, SyntaxError, ValueError):
            continue


def imported(root: Path) -> set[str]:
    """Return the top-level modules that the project's code imports, installed or not, and the packages of its lock."""
    lock = root / "requirements.lock"
    text = lock.read_text(encoding="utf8") if lock.is_file() else ""
    found = {re.sub(r"[.-]", "_", name).lower() for name in re.findall(r"^([\w.-]+)==", text, re.MULTILINE)}
    for _, tree in python_files(root / "src"):
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and not node.level:
                found.add((node.module or "").partition(".")[0])
            elif isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
    return found


def importers(project: Project, group: str, name: str) -> list[Path]:
    """Return the files of the project, and of its tests, that import a choice's module."""
    folders = (project.source, project.root / "tests" / project.package)
    wanted = f"{project.package}.{group}.{name}"
    files = [(folder, *each) for folder in folders for each in python_files(folder)]
    return [file for folder, file, tree in files if wanted in set(modules_in(file, folder, project.package, tree))]


def modules_in(file: Path, folder: Path, package: str, tree: ast.AST) -> Iterator[str]:
    """Yield the full names of what a file imports."""
    here = [package, *file.relative_to(folder).parts[:-1]]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = here[: len(here) - node.level + 1] if node.level else []
            module = ".".join([*parents, *([node.module] if node.module else [])])
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def mentions(project: Project, removed: Iterable[tuple[str, str]]) -> list[Path]:
    """Return the texts with a command that types one of the choices, such as `model=cnn,mlp`.

    The engine, its tests and private configs are not read.
    """
    left_out = ("src/train_smarter/", "tests/train_smarter/", "tests/scripts/", "conf/local/")
    typed = (rf"(?<![\w/.]){group}=[\w,\[]*(?<!\w){name}(?!\w)" for group, name in removed)
    found = re.compile("|".join(typed))
    return [file for file in texts(project.root) if not under(file, project.root, left_out) and holds(file, found)]


def texts(root: Path) -> Iterator[Path]:
    for place in PLACES:
        path = root / place
        files: Iterable[Path] = sorted(path.rglob("*")) if path.is_dir() else [path]
        yield from (file for file in files if file.suffix in (".md", ".yaml", ".py", "") and file.is_file())


def under(file: Path, root: Path, folders: Iterable[str]) -> bool:
    return file.relative_to(root).as_posix().startswith(tuple(folders))


def holds(file: Path, found: re.Pattern[str]) -> bool:
    try:
        return bool(found.search(file.read_text(encoding="utf8")))
    except (OSError, UnicodeDecodeError):
        return False
