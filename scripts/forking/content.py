"""The files of a fork: those of the template that it gets, with the edits that it needs."""

import re
import tomllib
from collections.abc import Callable, Sequence
from itertools import takewhile

from _git import UserError
from forking import pages
from forking.examples import MISSING, Choice, Examples, default_choices
from forking.rename import rename_path, rename_python, rename_text
from forking.template import ENGINE, GROUP, File, Files, Template

# The engine's pages in docs/; the others show our measurements.
DOCS = tuple(f"docs/{page}.md" for page in ("guide", "own_data", "large_data", "huggingface", "diagnosis", "security"))
# Not part of a fork: what measures, tests or presents the template.
LEFT_OUT = (
    *("lab/", "tests/lab/", "docs/", "README.md", "CHANGELOG.md", "tests/test_readme.py"),
    *("scripts/fork.py", "scripts/forking/", "tests/scripts/"),
)
ENGINE_TESTS = f"tests/{ENGINE}/"

ONLY_HERE = "template only"  # marks lines that a fork does not get: one line, or a block from `: begin` to `: end`
BEGIN, END = (rf"^[ ]*(?:#|<!--) {ONLY_HERE}: {edge}(?: -->)?\n" for edge in ("begin", "end"))
BLOCK = re.compile(rf"{BEGIN}(?:(?!{BEGIN}).)*?{END}", re.M | re.S)
LINE = re.compile(rf"^[^\n]*(?:# {ONLY_HERE}|<!-- {ONLY_HERE} -->[ |]*)\n", re.M)
EMPTY_FENCE = re.compile(r"^```\w*\n```\n\n?", re.M)
# A result in the header of a recipe, up to the end of the sentence; a decimal point is not one.
MEASURED = re.compile(
    r"\b(?:Test \w+(?: of [\w ]+)?(?=\s+\d)|Measured\b).*?\.(?=\s)(?:\n# For comparison:.*?\.(?=\s))?", re.S
)


class Content:
    """Make the files of a fork called `name` with the `kept` examples."""

    def __init__(self, template: Template, name: str, examples: Examples, kept: set[Choice]) -> None:
        self.template, self.name, self.examples, self.kept = template, name, examples, kept
        self.dropped = examples.dropped(kept)
        self.engine_tests = False
        self.left_out: dict[str, str] = {}  # a test: the example that it needs

    def make(self, defaults: dict[str, str], *, engine_tests: bool) -> Files:
        old, self.engine_tests = self.template.project, engine_tests
        files = {path: file for path, file in self.template.files.items() if self._belongs(path, engine_tests)}
        files = {rename_path(path, old, self.name): self._edited(path, file, defaults) for path, file in files.items()}
        files["README.md"] = File(pages.readme(self.name).encode())
        if MISSING in defaults.values():
            files["conftest.py"] = File(pages.CONFTEST.encode())
        return files

    def _belongs(self, path: str, engine_tests: bool) -> bool:
        if path.startswith(ENGINE_TESTS) and not engine_tests:
            return False
        if path.startswith(LEFT_OUT) and path not in DOCS:
            return False
        if any(path in (f"conf/{c.group}/{c.name}.yaml", self.examples.modules.get(c)) for c in self.dropped):
            return False
        return not self._tests_what_is_dropped(path)

    def _tests_what_is_dropped(self, path: str) -> bool:
        if not (path.startswith("tests/") and path.endswith(".py")) or path.endswith("conftest.py"):
            return False
        parts = path.removesuffix(".py").split("/")
        own = Choice(parts[-2], parts[-1].removeprefix("test_"))
        if path.startswith(f"tests/{self.template.project}/") and own in self.dropped:
            return True
        if lacking := sorted(choice.name for choice in self.examples.needs(path) & self.dropped):
            self.left_out[path] = ", ".join(lacking)
        return path in self.left_out

    def _edited(self, path: str, file: File, defaults: dict[str, str]) -> File:
        """Return a file with its edits. The engine's files stay the same to the byte, so that edits of them show."""
        if path.startswith((f"src/{ENGINE}/", "requirements.lock")) or b"\0" in file.content:
            return file
        text = self._edit(path)(cut(file.text, path))
        if path == "conf/train.yaml":
            text = set_defaults(text, defaults)
        return File(text.encode(), file.executable)

    def _edit(self, path: str) -> Callable[[str], str]:
        old, new = self.template.project, self.name
        if path == "LICENSE":
            return lambda text: pages.licence(text, new)
        if path == "pyproject.toml":
            return lambda text: project_toml(text, old, new, engine_tests=self.engine_tests)
        if path.endswith(".py"):
            return lambda text: rename_python(text, old, new)
        if path.startswith("conf/"):
            return lambda text: rename_text(self._without_dropped(unmeasured(path, text)), old, new)
        if path in DOCS:
            return lambda text: rename_text(EMPTY_FENCE.sub("", self._without_dropped(text)), old, new)
        return lambda text: rename_text(text, old, new)

    def _without_dropped(self, text: str) -> str:
        """Remove example commands with a choice that is not there: in comments, in a --help text and in a page."""
        command = re.compile(r"\s*(?:#\s*)?train ")
        lines = text.splitlines(keepends=True)
        wrong = [bool(command.match(line)) and bool(self.examples.overridden(line) & self.dropped) for line in lines]
        return "".join(line for line, is_wrong in zip(lines, wrong, strict=True) if not is_wrong)


def cut(text: str, path: str) -> str:
    """Remove the lines that are marked as the template's own."""
    text = LINE.sub("", BLOCK.sub("", text))
    if re.search(f"{BEGIN}|{END}", text, re.M):
        raise UserError(f'{path} in the template has a "{ONLY_HERE}: begin" or "{ONLY_HERE}: end" without the other')
    return text


def set_defaults(text: str, defaults: dict[str, str]) -> str:
    """Set the choices of a config's defaults list."""
    for group, name in defaults.items():
        text = re.sub(rf"^(\s*- {group}: )(?:\S+)", rf"\g<1>{name}", text, count=1, flags=re.M)
    found = dict(default_choices(text, ""))
    if any(found.get(group, MISSING) != name.strip("?") and name != MISSING for group, name in defaults.items()):
        raise UserError(f"conf/train.yaml in the template has no defaults list with {' and '.join(defaults)}")
    return text


def unmeasured(path: str, text: str) -> str:
    """Replace the result in the header of an experiment or a search: it is the template's, not the fork's."""
    if not path.startswith(("conf/experiment/", "conf/search/")):
        return text
    header = "".join(takewhile(lambda line: line.startswith("#"), text.splitlines(keepends=True)))
    return MEASURED.sub("Not measured yet.", header, count=1) + text[len(header) :]


def project_toml(text: str, old: str, new: str, *, engine_tests: bool = False) -> str:
    """Edit pyproject.toml: name, entry point, wheel, and the folders that a fork does not have."""
    title = pages.title(new)
    head, section, rest = text.partition("[project]\n")
    for key, value in (
        ("name", f'"{new.replace("_", "-")}"'),
        ("version", '"0.1.0"'),
        ("description", f'"{title}: a deep learning project."'),
        ("authors", f'[{{ name = "The {title} authors" }}]'),
    ):
        rest = re.sub(rf"^{key} = .*$", f"{key} = {value}", rest, count=1, flags=re.M)
    text = head + section + rest
    text = re.sub(rf'"((?:src/)?){old}(?=["/])', rf'"\g<1>{new}', text)
    text = re.sub(r', "lab"|"lab", ', "", text)
    text = re.sub(r":lab(?=[:\"])", "", text)
    if not engine_tests:
        text = re.sub(rf', "{ENGINE_TESTS}[^"]*"|:{ENGINE_TESTS}[^":]*(?=[:"])', "", text)
    _verify(text, old, new)
    return text


def _verify(text: str, old: str, new: str) -> None:
    """Raise UserError unless pyproject.toml is the fork's in every value."""
    try:
        content = tomllib.loads(text)
        named = list(content["project"]["entry-points"][GROUP].values())
    except (tomllib.TOMLDecodeError, KeyError) as error:
        raise UserError(f"pyproject.toml of the template cannot be edited: {error}") from error
    wrong = [value for value in _strings(content) if re.search(rf"(?<!\w){old}(?!\w)|(?<![\w/])lab(?![\w-])", value)]
    if wrong or named != [new]:
        raise UserError(f"pyproject.toml of the template has a value that is not edited yet: {(wrong or named)[0]!r}")


def _strings(node: object) -> Sequence[str]:
    if isinstance(node, dict):
        return [text for pair in node.items() for part in pair for text in _strings(part)]
    if isinstance(node, list):
        return [text for part in node for text in _strings(part)]
    return [node] if isinstance(node, str) else []
