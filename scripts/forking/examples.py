"""Which examples a fork gets: the names that the user keeps, and everything that these need.

A choice is `(group, name)`: conf/<group>/<name>.yaml. An example is a choice with code in the project's package.
YAML is read as far as needed, by lines: the standard library has no parser for it.
"""

import ast
import contextlib
import difflib
import re
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath
from typing import NamedTuple

from _git import UserError
from forking.checks import imported_by
from forking.template import File, Template

DEFAULT = ("digits", "cnn", "mlp")  # needs no download, and trains in half a minute on a CPU
RECIPES = ("experiment", "search")  # groups whose choices may be named, too: they keep what they need
MISSING = "???"  # Hydra asks for the choice

# An entry of a defaults list: `override /data: cifar10`, `/data@x: cifar10`, `data: cifar10`.
ENTRY = re.compile(r"(?:(?:override|optional)\s+)*(/?[\w/]+)(?:@[\w.]+)?\s*:\s*(.+)")
OVERRIDE = re.compile(r"(?<![\w./])([a-z_/]+)=([\w,]+)")  # data=digits, model=cnn,mlp


class Choice(NamedTuple):
    group: str
    name: str


class Examples:
    """The choices of a template and what each needs."""

    def __init__(self, template: Template) -> None:
        self.files, self.project = template.files, template.project
        self.choices = {_choice(path): path for path in self.files if _is_choice(path)}
        self.modules = {_module_choice(path): path for path in self.files if self._is_module(path)}

    def names(self) -> list[str]:
        return sorted({example.name for example in self.modules})

    def select(self, names: Sequence[str], *, skip_unknown: bool = False) -> set[Choice]:
        """Return the examples with these names, and the examples that those need."""
        known = [*self.modules, *(choice for choice in self.choices if choice.group in RECIPES and self._uses(choice))]
        known += [choice for choice in self.choices if choice.group in {group for group, _ in self.modules}]
        accepted = {choice.name for choice in known}
        unknown = [name for name in names if name not in accepted]
        if unknown and not skip_unknown:
            raise UserError(self._unknown(unknown[0], accepted))
        return self._closure(choice for choice in known if choice.name in names) & set(self.modules)

    def _unknown(self, name: str, accepted: set[str]) -> str:
        near = difflib.get_close_matches(name, accepted, n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        return f"--keep {name!r} is not an example.{hint} There are: {', '.join(self.names())}; all"

    def dropped(self, kept: set[Choice]) -> set[Choice]:
        """Return every choice that a fork with these examples does not get."""
        lost = set(self.modules) - kept
        return lost | {choice for choice in self.choices if self._closure([choice]) & lost}

    def needs(self, path: str) -> set[Choice]:
        """Return the choices that a file names: in its defaults list, as `_target_`, by an import or as an override."""
        file, choice = self.files[path], _choice(path) if _is_choice(path) else None
        if path.endswith(".py"):
            return self._named_in_code(file, typed=path.startswith("tests/"))
        named = {Choice(*pair) for pair in default_choices(file.text, choice.group if choice else "")}
        return named | self._dotted(file.text)

    def _uses(self, choice: Choice) -> bool:
        return bool(self._closure([choice]) & set(self.modules))

    def _closure(self, choices: Iterable[Choice]) -> set[Choice]:
        found: set[Choice] = set()
        waiting = list(choices)
        while waiting:
            choice = waiting.pop()
            if choice not in found:
                found.add(choice)
                paths = [table[choice] for table in (self.choices, self.modules) if choice in table]
                waiting += [need for path in paths for need in self.needs(path)]
        return found

    def _named_in_code(self, file: File, *, typed: bool) -> set[Choice]:
        """Return what a file imports and, if `typed`, the overrides in its strings: a test composes these."""
        with contextlib.suppress(SyntaxError):
            nodes = list(ast.walk(ast.parse(file.content)))
            texts = [node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)]
            named = [self._dotted(text) | (self.overridden(text) if typed else set()) for text in texts]
            return set().union(*named, *(self._dotted(module) for node in nodes for module in _imports(node)))
        return set()

    def _dotted(self, text: str) -> set[Choice]:
        """Return the modules of the project that a text names: my_project.model.cnn.CNN."""
        found = re.findall(rf"(?<![\w.]){self.project}\.(\w+)\.(\w+)", text)
        return {Choice(group, name) for group, name in found} & set(self.modules)

    def overridden(self, text: str) -> set[Choice]:
        """Return the choices that a text names as on the command line: model=cnn,mlp."""
        pairs = [Choice(group, name) for group, names in OVERRIDE.findall(text) for name in names.split(",")]
        return {pair for pair in pairs if pair in self.choices}

    def _is_module(self, path: str) -> bool:
        parts = PurePosixPath(path).parts
        return (
            parts[:2] == ("src", self.project) and len(parts) == 4 and re.match(r"[^_]\w*\.py$", parts[3]) is not None
        )

    def default_pair(self, kept: set[Choice], order: Sequence[str]) -> dict[str, str]:
        """Return the data set and the model that conf/train.yaml names in a fork: today's if both are kept.

        Else those of a kept recipe, else the first that fit each other.
        """
        data, models = (_sorted(kept, group, order) for group in ("data", "model"))
        now = dict(default_choices(self.files["conf/train.yaml"].text, ""))
        pairs = [(now.get("data", ""), now.get("model", "")), *self._recipe_pairs(order)]
        pairs += [(one, other) for one in data for other in models if self._fit(one, other)]
        for pair in pairs:
            if pair[0] in data and pair[1] in models:
                return {"data": pair[0], "model": pair[1]}
        return {"data": MISSING, "model": MISSING}

    def _recipe_pairs(self, order: Sequence[str]) -> list[tuple[str, str]]:
        pairs = []
        for choice, path in sorted(self.choices.items()):
            named = dict(default_choices(self.files[path].text, choice.group))
            if choice.group == "experiment" and {"data", "model"} <= named.keys():
                pairs.append((named["data"], named["model"]))
        return sorted(pairs, key=lambda pair: order.index(pair[0]) if pair[0] in order else len(order))

    def _fit(self, data: str, model: str) -> bool:
        """Return whether the data set's YAML has every fact that the model's takes from it."""
        facts = set(re.findall(r"\$\{data\.(\w+)\}", self._with_bases(Choice("model", model))))
        return facts <= set(re.findall(r"^(\w+):", self._with_bases(Choice("data", data)), re.MULTILINE))

    def _with_bases(self, choice: Choice) -> str:
        text = self.files[path].text if (path := f"conf/{choice.group}/{choice.name}.yaml") in self.files else ""
        bases = [Choice(group, name) for group, name in default_choices(text, choice.group) if group == choice.group]
        return "".join([text, *(self._with_bases(base) for base in bases)])


def default_choices(text: str, group: str) -> list[tuple[str, str]]:
    """Return the (group, choice) pairs of a config's defaults list; `group` is the config's own."""
    pairs = []
    for entry in _defaults(text):
        if match := ENTRY.fullmatch(entry):
            key, names = match[1], re.findall(r"[\w-]+", match[2])
            absolute = key.startswith(("/", "hydra/")) or not group
            pairs += [(key.strip("/") if absolute else f"{group}/{key}", name) for name in names]
        elif re.fullmatch(r"[\w-]+", entry) and entry != "_self_":
            pairs.append((group, entry))
    return pairs


def _defaults(text: str) -> list[str]:
    """Return the entries of a config's defaults list, of either YAML form."""
    match = re.search(r"^defaults:[ ]*(\[[^\]]*\]|(?:#.*)?(?:\n[ ]*(?:-.*|#.*|(?=\n)))*)", text, re.MULTILINE)
    if not match:
        return []
    block = re.sub(r"(^|\s)#.*", "", match[1])
    entries = block.strip("[]").split(",") if block.startswith("[") else re.findall(r"^\s*-(.*)", block, re.MULTILINE)
    return [entry.strip().strip("'\"") for entry in entries if entry.strip()]


def _imports(node: ast.AST) -> list[str]:
    """Return the modules that an import names, and the names that may be modules."""
    names = [f"{node.module}.{alias.name}" for alias in node.names] if isinstance(node, ast.ImportFrom) else []
    return [*imported_by(node), *names]


def _is_choice(path: str) -> bool:
    return path.startswith("conf/") and path.endswith(".yaml") and path.count("/") > 1


def _choice(path: str) -> Choice:
    inner = PurePosixPath(path).relative_to("conf")
    return Choice(inner.parent.as_posix(), inner.stem)


def _module_choice(path: str) -> Choice:
    return Choice(PurePosixPath(path).parts[2], PurePosixPath(path).stem)


def _sorted(kept: set[Choice], group: str, order: Sequence[str]) -> list[str]:
    names = [choice.name for choice in kept if choice.group == group]
    return sorted(names, key=lambda name: (order.index(name) if name in order else len(order), name))
