"""The engine keeps its own rules: one direction of imports, one public door, no knowledge of the project."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import train_smarter
from train_smarter import paths

ENGINE = paths.ENGINE
TESTS = Path(__file__).parent
MODULES = sorted(ENGINE.rglob("*.py"))
# A package may import those before it, and every module at the top of the engine.
ORDER = (
    "run",
    "trust",
    "data",
    "task",
    "speed",
    "fit",
    "config",
    "history",
    "diagnosis",
    "inspection",
    "report",
    "callbacks",
    "inference",
    "search",
    "commands",
)


def name_of(module: Path) -> str:
    parts = module.relative_to(ENGINE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


NAMES = {name_of(module): module for module in MODULES}


def imports(module: Path) -> Iterator[tuple[int, str]]:
    """The engine's modules that a module imports, anywhere in it, with the line."""
    for node in ast.walk(ast.parse(module.read_bytes())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == paths.NAME:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield node.lineno, inner if inner in NAMES else str(node.module)
        elif isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names if alias.name in NAMES)


def level(name: str) -> int:
    """The place of a module's package in ORDER; -1 for a module at the top."""
    parts = name.split(".")
    return ORDER.index(parts[1]) if len(parts) > 2 or (len(parts) == 2 and parts[1] in ORDER) else -1


def test_every_package_has_a_place_in_the_order() -> None:
    assert {folder.name for folder in ENGINE.iterdir() if (folder / "__init__.py").is_file()} == set(ORDER)


def test_packages_import_in_one_direction() -> None:
    wrong = []
    for name, module in NAMES.items():
        if name == paths.NAME:  # the door
            continue
        wrong += [f"{name}:{line} imports {other}" for line, other in imports(module) if level(other) > level(name)]
    assert not wrong, "\n".join(["", *wrong])


def test_no_modules_import_each_other() -> None:
    graph = {name: {other for _, other in imports(module)} for name, module in NAMES.items() if name != paths.NAME}
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, f"a cycle: {' -> '.join([*path[path.index(name) :], name])}"
        if name not in done:
            for other in sorted(graph.get(name, ())):
                visit(other, (*path, name))
            done.add(name)

    for name in graph:
        visit(name, ())


def test_only_a_data_set_of_texts_loads_the_tokenizers() -> None:
    """So a run on images does not wait for them."""
    own = {f"{paths.NAME}.data.{name}" for name in ("huggingface", "texts")}  # such data sets themselves
    importers = {name for name, module in NAMES.items() for _, other in imports(module) if other.endswith(".text_data")}
    assert importers == {paths.NAME, *own}  # the door, which loads it when a project uses it


@pytest.mark.parametrize("folder", [ENGINE, TESTS], ids=["engine", "tests"])
def test_the_engine_and_its_tests_do_not_know_the_project(folder: Path) -> None:
    """So a project may remove every example, and may have any name: a common word is no match by itself."""
    (name, *_) = paths._named_in(ENGINE.parents[1])
    known = re.compile(rf"\b(from|import) {name}\b|\b{name}\.(data|model|task|callbacks)\b|\bsrc/{name}\b")
    files = [file for file in folder.rglob("*") if file.suffix in (".py", ".yaml", ".toml", ".html")]
    assert files
    assert not [file for file in files if known.search(file.read_text(encoding="utf8"))]


def test_the_tests_use_the_sample_project() -> None:
    assert paths.PROJECTS == [paths.PROJECT] == ["sample_project"]
    assert ENGINE.parents[1] != paths.ROOT


def test_only_paths_knows_where_it_is() -> None:
    wrong = []
    for name, module in NAMES.items():
        for node in ast.walk(ast.parse(module.read_bytes())):
            if isinstance(node, ast.Name) and node.id in ("__file__", "__package__") and name != f"{paths.NAME}.paths":
                wrong.append(f"{name}:{node.lineno}")
    assert not wrong


def test_no_package_has_the_name_of_a_command() -> None:
    """A folder `report/` next to `report.py` would hide it from `python -m`."""
    commands = {module.stem for module in (ENGINE / "commands").glob("[!_]*.py")}
    assert not commands & {module.stem for module in ENGINE.glob("[!_]*.py")}


# ---- the public door


def test_every_public_name_is_there() -> None:
    for name in train_smarter.__all__:
        assert getattr(train_smarter, name) is not None
    assert set(train_smarter.__all__) == {*train_smarter._MODULES, "load"}


def test_no_public_name_is_a_modules_name() -> None:
    """`from train_smarter import data` would be one or the other, depending on what was imported before."""
    assert not set(train_smarter.__all__) & {name.split(".")[1] for name in NAMES if "." in name}


def test_a_name_that_is_not_public_is_refused() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Clasifier'"):
        train_smarter.Clasifier  # type: ignore[attr-defined]  # noqa: B018


# ---- size


def test_no_function_is_over_sixty_lines() -> None:
    long = []
    for name, module in NAMES.items():
        for node in ast.walk(ast.parse(module.read_bytes())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno is not None:
                length = node.end_lineno - node.lineno + 1
                long += [f"{name}:{node.lineno} {node.name}: {length} lines"] if length > 60 else []
    assert not long


def test_no_file_is_over_350_lines() -> None:
    long = {name: len(module.read_text(encoding="utf8").splitlines()) for name, module in NAMES.items()}
    assert not {name: lines for name, lines in long.items() if lines > 350}
