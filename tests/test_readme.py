"""The commands of the README and of docs/ work, and the table of results has what was measured."""

import json
import re
import shlex
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig
from PIL import Image

from train_smarter.config.check import check
from train_smarter.history.arguments import choose_task
from train_smarter.paths import CONF, ROOT

Command = Callable[..., subprocess.CompletedProcess[str]]
Compose = Callable[..., DictConfig]
Facts = Callable[[str], list[str]]

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
TEXTS = {page.name: page.read_text(encoding="utf8") for page in PAGES}
TEXT = "\n".join(TEXTS.values())
# Need hardware or a compiler, or are tested in test_runs.py.
ELSEWHERE = ("trainer=gpu", "trainer=ddp", "trainer=mps", "model.compile", "cifar10_fast", "cifar10_best")
VERBS = {"export-model": "export"} | {verb: verb for verb in ("train", "evaluate", "predict", "report")}


def commands(lines: Iterable[str]) -> dict[str, list[str]]:
    """The lines that are commands of ours, without their comments: the words of each."""
    split = [shlex.split(line, comments=True) for line in lines]
    return {" ".join(words): words for words in split if words and words[0] in VERBS}


def code_blocks(text: str) -> list[str]:
    return [line for block in re.findall(r"```bash\n(.*?)```", text, re.DOTALL) for line in block.splitlines()]


def rows() -> list[tuple[str, str]]:
    """Each row with a command in the tables of results: the command, and the row."""
    found = re.finditer(r"^\| `(train[^`]*)` \|.*\|$", TEXTS["results.md"], re.MULTILINE)
    return [(row[1], row[0]) for row in found]


SHOWN = commands([*code_blocks(TEXT), *(typed for typed, _ in rows()), *re.findall(r"`(train experiment=\w+)`", TEXT)])
# What a number in a sentence was measured by: composed here, and too long to be run.
COMMANDS = SHOWN | commands(re.findall(r"`(train [^`.]*experiment=\w+[^`]*)`", TEXT))


@pytest.fixture
def checkpoint(compose: Compose, tmp_path: Path) -> Path:
    """A checkpoint of the default's CNN, for path/to/best.ckpt."""
    from train_smarter.commands.train import run_train

    folder = tmp_path / "earlier"
    run_train(compose("debug=limit", "trainer=cpu", f"paths.run={folder}", "callbacks.progress=null"))
    return folder / "checkpoints" / "best.ckpt"


def write_tables(folder: Path) -> dict[str, Path]:
    """A table and texts with 60 rows, and folders of texts, by their placeholder."""
    rows = [(f"{number * 7 % 31}", "abc"[number % 3], f"{number * 2.5}") for number in range(60)]
    houses = "\n".join(["size,city,price", *(",".join(row) for row in rows)])
    reviews = "\n".join(["text,label", *(f"a {city} film of {size} hours,{city}" for size, city, _ in rows)])
    for name, content in (("houses", houses), ("reviews", reviews)):
        for table in (f"{name}.csv", f"new_{name}.csv"):
            (folder / table).write_text(content, encoding="utf8")
    for number in range(60):
        file = folder / "reviews" / ["neg", "pos"][number % 2] / f"{number}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"a film of {number} hours", encoding="utf8")
    names = ("new_houses.csv", "new_reviews.csv", "houses.csv", "reviews.csv", "reviews")
    return {f"path/to/{name}": folder / name for name in names}


def write_targets(folder: Path, images: Path) -> dict[str, Path]:
    """A table with a label for each image, and a mask for each, by their placeholder."""
    files = sorted(images.rglob("*.png"))
    rows = [f"{file},{file.parent.name}" for file in files]
    (folder / "labels.csv").write_text("\n".join(["path,label", *rows]), encoding="utf8")
    for file in files:
        mask = folder / "masks" / file.relative_to(images)
        mask.parent.mkdir(parents=True, exist_ok=True)
        with Image.open(file) as image:
            painted = Image.new("L", image.size)
        painted.paste(1, (0, 0, painted.width, painted.height // 2))
        painted.save(mask)
    return {"path/to/labels.csv": folder / "labels.csv", "path/to/masks": folder / "masks", "path/to/photos": images}


def filled(words: list[str], images: Path, checkpoint: Path) -> list[str]:
    """A command with its placeholders filled in."""
    there = {"path/to/folder": images, "path/to/best.ckpt": checkpoint, "path/to/last.ckpt": checkpoint}
    there["path/to/texts.txt"] = images / "texts.txt"
    there["path/to/interactions.csv"] = images.parent / "interactions.csv"
    if any("houses" in word or "reviews" in word for word in words):
        there = write_tables(checkpoint.parent) | there
    if any("labels.csv" in word or "masks" in word for word in words):
        there |= write_targets(checkpoint.parent, images)
    return [re.sub("|".join(there), lambda name: str(there[name[0]]), word) for word in words]


@pytest.mark.parametrize(
    "typed",
    [
        pytest.param(typed, marks=[pytest.mark.slow] * (typed not in commands(code_blocks(TEXTS["README.md"]))))
        for typed, words in COMMANDS.items()
        if words[0] == "train"
    ],
)
def test_every_train_command_of_the_pages_composes_and_passes_the_check(
    compose: Compose, data_folder: Path, tmp_path: Path, typed: str
) -> None:
    (tmp_path / "best.ckpt").touch()
    words = filled(COMMANDS[typed], data_folder / "images", tmp_path / "best.ckpt")
    overrides = [word for word in words[1:] if not word.startswith("-") and word != "job"]
    jobs: list[list[str]] = [["hydra.mode=MULTIRUN"] if "-m" in words else []]
    for override in overrides:  # each job of a multirun; of a search, one with the lowest value of each interval
        key, _, values = override.partition("=")
        lowest = re.sub(r"tag\(log,(.*)\)", r"\1", values)
        lowest = re.sub(r"interval\((.*),.*\)", r"\1", lowest)
        lowest = re.sub(r"choice\((.*)\)", r"\1", lowest)
        several = [override] if "[" in values else [f"{key}={value}" for value in lowest.split(",")]
        jobs = [[*job, choice] for job in jobs for choice in several]
    for job in jobs:
        check(compose(*choose_task(job)))


@pytest.mark.slow
@pytest.mark.parametrize("typed", [typed for typed in SHOWN if not any(word in typed for word in ELSEWHERE)])
def test_every_command_of_the_pages_runs(
    command: Command, data_folder: Path, facts: Facts, checkpoint: Path, tmp_path: Path, typed: str
) -> None:
    verb, *words = filled(COMMANDS[typed], data_folder / "images", checkpoint)
    data = next(
        (word.split("=")[1].split("_")[0] for word in words if word.startswith(("data=", "experiment=", "search="))),
        "digits",
    )
    past = verb != "train" or any(key in typed for key in ("resume=", "rerun=", "refit="))
    if past:
        tables = "houses" in typed or "reviews" in typed
        _runs_before(command, typed, tmp_path, write_tables(checkpoint.parent) if tables else {})
    short = [] if past or "debug=" in typed or "--help" in words else ["debug=limit"]
    short += ["hydra.sweeper.n_trials=2"] if "search=" in typed else []
    done = command(VERBS[verb], *words, *short, *([] if past else facts(data)))
    assert done.returncode == 0, done.stderr
    answered = {"--help", "--cfg"} & set(words)  # and no run was made
    assert bool(list((tmp_path / "train").rglob("results.json"))) != bool(answered)


def _runs_before(command: Command, typed: str, logs: Path, tables: dict[str, Path]) -> None:
    """The runs that a command goes back to."""
    if tables:
        houses = ["data=table", f"data.file={tables['path/to/houses.csv']}", "data.target=price", "model=mlp"]
        reviews = ["data=texts", f"data.file={tables['path/to/reviews.csv']}", "model=lstm"]
        assert command("train", "debug=limit", *(reviews if "reviews" in typed else houses)).returncode == 0
        return
    texts = "texts.txt" in typed or "input=a " in typed
    words = ["-m", "seed=1,2"] if "-m" in typed.split() or "multirun" in typed else []
    if other := re.search(r"compare_to=(\S+)", typed):
        assert command("train", "debug=limit", f"hydra.run.dir={logs}/train/runs/{other[1]}").returncode == 0
    assert command("train", "debug=limit", *(["experiment=phrases_lstm"] if texts else []), *words).returncode == 0


def shown() -> list[str]:
    """The experiments that the pages show; an added one may stay out of them."""
    words = {word for words in COMMANDS.values() for word in words if word.startswith("experiment=")}
    return sorted(word.removeprefix("experiment=") for word in words)


def test_the_pages_show_experiments_that_exist() -> None:
    assert shown()
    assert set(shown()) <= {path.stem for path in (CONF / "experiment").glob("*.yaml")}


def test_the_table_and_the_experiments_state_what_was_measured() -> None:
    measured = rows()
    assert measured
    assert all(re.search(r"\| ([01]\.\d{4}|\w+ \d+\.\d{4}) \| [\d a-z]+ \|$", row) for _, row in measured)
    for file in [CONF / "experiment" / f"{name}.yaml" for name in shown()]:
        head = file.read_text(encoding="utf8")
        header = (
            r"^# Test (accuracy [01]\.\d{4}|\w+ \d+\.\d{4}); .* on two CPU cores\.$|^# Not measured yet: needs a GPU\.$"
        )
        assert re.search(header, head, re.MULTILINE), file
        assert f"#   train experiment={file.stem}\n" in head


@pytest.mark.slow
def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cells = json.loads((ROOT / "docs" / "notebook.ipynb").read_text(encoding="utf8"))["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    assert len(code) >= 5
    monkeypatch.chdir(tmp_path)
    scope: dict[str, Any] = {}
    for cell in code:
        exec(cell.replace("WORDS = [", f"WORDS = ['paths.logs={tmp_path}', "), scope)
    assert len(scope["rows"]) == 3
