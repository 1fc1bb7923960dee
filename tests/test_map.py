"""The map is true: every file lies where the three rules of CONTRIBUTING.md put it, and the README's tree shows it."""

import ast
import re
import subprocess
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

import pytest
from omegaconf import OmegaConf

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "train_smarter"

# Tests of the project as a whole, not of one file.
WHOLE = {PurePosixPath(f"tests/test_{name}.py") for name in ("map", "contract", "readme", "runs", "attacks")}

# Where the README's tree names every folder and file, the files without this suffix.
SUFFIX = {"conf": ".yaml", "src": ".py", "scripts": ".py"}


def git(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, encoding="utf8", check=False)


@pytest.fixture(scope="module")
def files() -> list[PurePosixPath]:
    """The files that git tracks: a note or a first try that is not added yet is nobody's business."""
    try:
        listed = git("ls-files", "-z")
    except FileNotFoundError:
        pytest.skip("git is not installed")
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [PurePosixPath(path) for path in listed.stdout.split("\0") if path and (ROOT / path).is_file()]


def lines(wrong: Iterable[str]) -> str:
    return "\n".join(["", *sorted(wrong)])


# ---- the three rules


def test_a_choice_with_code_of_ours_lies_at_the_path_of_its_code(files: list[PurePosixPath]) -> None:
    astray = []
    for file in files:
        # A leading underscore is a shared part, not a choice; conf/train.yaml is in no group.
        if file.parts[0] == "conf" and file.suffix == ".yaml" and len(file.parts) > 2 and file.name[0] != "_":
            target = target_of(file)
            # Hydra's own groups have one module each: conf/hydra/sweeper/optuna.yaml is sweeper.py's.
            own = file.parts[2:3] if file.parts[1] == "hydra" else file.relative_to("conf").with_suffix("").parts
            module = ".".join([PACKAGE, *own])
            if target.startswith(f"{PACKAGE}.") and not target.startswith(f"{module}."):
                astray.append(f"{file}: its _target_ is {target}, not in {module}")
    assert not astray, lines(astray)


def target_of(file: PurePosixPath) -> str:
    """The `_target_` of a choice: at the top, or under the choice's own name (callbacks, loggers); "" if none."""
    content = OmegaConf.to_container(OmegaConf.load(ROOT / file), resolve=False)
    inner = content.get(file.stem, content) if isinstance(content, dict) else None
    return str(inner.get("_target_", "")) if isinstance(inner, dict) else ""


def test_every_module_has_its_test(files: list[PurePosixPath]) -> None:
    modules = {file: place_of_the_test(file) for file in files if is_code(file) and file.name != "__init__.py"}
    assert modules, "git tracks no module: the check would pass on nothing"
    missing = [f"{file} wants {test}" for file, test in modules.items() if not (ROOT / test).is_file()]
    assert not missing, lines(missing)


def test_every_test_has_its_module(files: list[PurePosixPath]) -> None:
    tested = {place_of_the_test(file) for file in files if is_code(file)} | WHOLE
    tests = {file for file in files if file.parts[0] == "tests" and file.match("test_*.py")}
    assert tests
    astray = [
        f"{file} tests no module; if it tests the project as a whole, name it in WHOLE" for file in tests - tested
    ]
    assert not astray, lines(astray)


def is_code(file: PurePosixPath) -> bool:
    return file.parts[0] in ("src", "scripts") and file.suffix == ".py"


def place_of_the_test(file: PurePosixPath) -> PurePosixPath:
    """src/<package>/model/cnn.py -> tests/model/test_cnn.py; scripts/fork.py -> tests/scripts/test_fork.py."""
    path = file.relative_to(f"src/{PACKAGE}") if file.parts[0] == "src" else file
    return PurePosixPath("tests") / path.with_name(f"test_{path.name}")


# ---- what git sees


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize("path", ["data/x", "logs/x", ".venv/x", "conf/local/x.yaml", "src/x/__pycache__/x.pyc"])
def test_git_ignores_what_a_machine_makes(path: str) -> None:
    assert git("check-ignore", "--no-index", path).returncode == 0


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize(
    "path", [f"src/{PACKAGE}/data/x.py", "conf/data/x.yaml", "tests/data/x.py", "logs/.gitkeep", "conf/local/.gitkeep"]
)
def test_git_does_not_ignore_what_we_write(path: str) -> None:
    assert git("check-ignore", "--no-index", path).returncode == 1


def test_no_file_is_over_a_megabyte(files: list[PurePosixPath]) -> None:
    large = [str(file) for file in files if (ROOT / file).stat().st_size > 1_000_000]
    assert not large, lines(large)


def test_no_function_is_over_sixty_lines(files: list[PurePosixPath]) -> None:
    long = []
    for file in filter(is_code, files):
        for node in ast.walk(ast.parse((ROOT / file).read_bytes())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno is not None:
                length = node.end_lineno - node.lineno + 1
                long += [f"{file}:{node.lineno} {node.name}: {length} lines"] if length > 60 else []
    assert not long, lines(long)


# ---- the tree in the README
#
# A ```text block under "## Map". A line is a folder, the names in it and a comment:
#
#     ./                Makefile README.md       # the files of the root, as they are
#     conf/data/        cifar10 digits mnist     # in conf, src and scripts: every folder, every file, without suffix
#                       images                   # a line that begins with a space goes on with the names above
#     docs/                                      # elsewhere: a line for each folder of the root; names are optional
#
# Shared parts (_base) and hidden files are not named, except in the root.


def test_the_tree_in_the_readme_is_what_lies_on_the_disk(files: list[PurePosixPath]) -> None:
    wrong = differences(tree((ROOT / "README.md").read_text(encoding="utf8")), contents(files))
    assert not wrong, lines(wrong)


def tree(readme: str) -> dict[str, list[str]]:
    """Folder -> names, as the README tells it."""
    block = re.search(r"^## Map\n.*?^```text\n(.*?)^```", readme, re.MULTILINE | re.DOTALL)
    assert block, "the README has no ```text block under ## Map"
    told: dict[str, list[str]] = {}
    folder = ""
    for line in block[1].splitlines():
        words = line.partition("#")[0].split()
        if line[:1].strip():
            folder, *words = words
        told.setdefault(folder, []).extend(words)
    return told


def contents(files: list[PurePosixPath]) -> dict[str, set[str]]:
    """Folder -> names, as they are on the disk; a folder that holds folders alone has no names."""
    real: dict[str, set[str]] = {"./": set()}
    for file in files:
        for parent in list(file.parents)[:-1]:
            real.setdefault(f"{parent}/", set())
        folder = "./" if len(file.parts) == 1 else f"{file.parent}/"
        if folder == "./" or (file.name[0] not in "._" and file.name != "py.typed"):
            real[folder].add(file.name.removesuffix(SUFFIX.get(file.parts[0], "")))
    return real


def differences(told: dict[str, list[str]], real: dict[str, set[str]]) -> list[str]:
    """What is wrong with the tree, a line each."""
    wrong = []
    for folder, names in real.items():
        top = folder.partition("/")[0]
        line_of_its_own = folder.count("/") == 1 or top in SUFFIX
        above = not names and any(other.startswith(folder) for other in told)  # told by the folders in it
        if line_of_its_own and not above and folder not in told:
            wrong.append(f"it lacks {folder}    {' '.join(sorted(names))}")
        elif folder in told and (told[folder] or top in SUFFIX or folder == "./"):
            wrong += [f"{folder} lacks {name}" for name in sorted(names - set(told[folder]))]
            wrong += [f"{folder} names {name}, which is not there" for name in sorted(set(told[folder]) - names)]
    ignored = [
        folder for folder in told if git("check-ignore", f"{folder}x").returncode == 0
    ]  # data/, logs/: made later
    return wrong + [f"{folder} is not there" for folder in told if folder not in real and folder not in ignored]


TREE = """# A project
## Map
Text.
```text
./               LICENSE         # a word
conf/            train
conf/data/       digits mnist
                 imdb            # goes on
docs/
data/                            # ignored
```
"""


def test_the_reader_of_the_tree_reads_continued_lines_and_skips_comments() -> None:
    assert tree(TREE) == {
        "./": ["LICENSE"],
        "conf/": ["train"],
        "conf/data/": ["digits", "mnist", "imdb"],
        "docs/": [],
        "data/": [],
    }


def test_the_reader_of_the_disk_leaves_shared_parts_and_hidden_files_out() -> None:
    paths = ["LICENSE", "conf/train.yaml", "conf/data/_base.yaml", "conf/data/digits.yaml", "conf/local/.gitkeep"]
    assert contents([PurePosixPath(path) for path in paths]) == {
        "./": {"LICENSE"},
        "conf/": {"train"},
        "conf/data/": {"digits"},
        "conf/local/": set(),
    }


@pytest.mark.usefixtures("files")
def test_each_difference_between_tree_and_disk_is_told() -> None:
    real = {
        "./": {"LICENSE", "Makefile"},
        "conf/": {"train"},
        "conf/data/": {"digits", "mnist", "cifar10"},
        "conf/model/": {"cnn"},
        "docs/": {"picture.png"},
        "src/": set[str](),
        "tests/": {"test_map.py"},
    }
    assert differences(tree(TREE) | {"gone/": []}, real) == [
        "./ lacks Makefile",
        "conf/data/ lacks cifar10",
        "conf/data/ names imdb, which is not there",
        "it lacks conf/model/    cnn",
        "it lacks src/    ",
        "it lacks tests/    test_map.py",
        "gone/ is not there",
    ]
