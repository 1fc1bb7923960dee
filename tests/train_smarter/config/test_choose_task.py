import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from train_smarter import paths
from train_smarter.config.choose_task import task_by_target
from train_smarter.errors import UserError
from train_smarter.history.arguments import argv_for_train


@pytest.fixture
def table(tmp_path: Path) -> str:
    """A file with targets of each kind."""
    rows = [f"{i};{i},5;{'ab'[i % 2]};{i % 2};{(i + 1) % 2}" for i in range(30)]
    (tmp_path / "t.csv").write_text("\n".join(["x;number;text;one;two", *rows]), encoding="utf8")
    return f"data.file={tmp_path}/t.csv"


@pytest.mark.parametrize(
    ("target", "task"),
    [
        ("data.target=text", "task=classification"),
        ("data.target=x", "task=regression"),
        ("data.target=[one,two]", "task=multilabel"),
        ("data.target=[x,one]", "task=regression"),
    ],
)
@pytest.mark.parametrize("data", ["table", "texts"])
def test_the_target_column_chooses_the_task(table: str, data: str, target: str, task: str) -> None:
    found = task_by_target([f"data={data}", table, target, "seed=2"])
    assert found is not None
    assert found[0] == task


def test_masks_choose_a_segmentation_and_nothing_is_read() -> None:
    words = ["data=images", "data.dir=nowhere", "data.masks=nowhere"]
    assert task_by_target(words) == ("task=segmentation", "data.masks has a class for each pixel")
    assert task_by_target([*words, "task=reconstruction"]) is None


def test_settings_of_the_file_count(table: str) -> None:
    with pytest.raises(UserError, match=r"data\.decimal_comma=true"):
        task_by_target(["data=table", table, "data.target=number"])
    found = task_by_target(["data=table", table, "data.target=number", "data.decimal_comma=true"])
    assert found == ("task=regression", "number holds numbers")


@pytest.mark.parametrize(
    "words",
    [
        ["task=regression"],
        ["+task=regression"],
        ["task@_global_.task=regression"],
        ["--help"],
        ["data.target=text,number"],  # a sweep
        ["data.target=null"],
        ["data=numbers"],  # the last one counts
        ["~data"],
    ],
)
def test_a_typed_task_wins_and_where_no_single_target_is_typed_nothing_is_read(
    table: str, words: Sequence[str]
) -> None:
    more = [] if any("target" in word for word in words) else ["data.target=text"]
    typed = ["data=table", table, *more, *words]
    if "~data" in words:
        typed = [table, *more, *words]
    assert task_by_target(typed) is None


def test_a_config_file_may_name_the_file_and_a_task_of_its_own(table: str) -> None:
    home = paths.CONF / "data"
    file = table.partition("=")[2]
    (home / "houses.yaml").write_text(f"defaults: [table, _self_]\nfile: {file}\ntarget: x\n")
    (home / "chosen.yaml").write_text("defaults: [houses, override /task@_global_.task: multilabel, _self_]\n")
    try:
        assert task_by_target(["data=houses"]) == ("task=regression", "x holds numbers")
        assert task_by_target(["data=houses", "data.target=text"]) == ("task=classification", "text holds texts")
        assert task_by_target(["data=chosen"]) is None
    finally:
        (home / "houses.yaml").unlink()
        (home / "chosen.yaml").unlink()


def test_a_command_says_which_task_it_has_chosen(
    table: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["data=table", table, "data.target=x"]
    assert argv_for_train(words, tmp_path) == [*words, "task=regression"]
    assert capsys.readouterr().out == "x holds numbers: task=regression\n"
    assert argv_for_train([*words, "task=regression"], tmp_path) == [*words, "task=regression"]
    assert capsys.readouterr().out == ""


def test_a_missing_column_is_answered_before_anything_is_composed(table: str) -> None:
    with pytest.raises(UserError, match=r"data.target=tekst: .* did you mean 'text'\?"):
        task_by_target(["data=table", table, "data.target=tekst"])


@pytest.fixture
def rows_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Words that name JSON lines with targets of each type."""
    pytest.importorskip("datasets", reason="the extra hf is not installed")
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "elsewhere")
    rows = [
        {"text": f"film {i}", "label": "ab"[i % 2], "stars": i / 2, "kind": i % 3, "size": i, "flag": i % 2 == 0}
        | {"one": i % 2, "tags": ["x", "y"][: i % 3], "point": [i / 2, 1.5]}
        for i in range(30)
    ]
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return ["data=huggingface", "data.path=json", f"data.data_files={tmp_path}/t.jsonl", f"paths.data={tmp_path}/data"]


def test_the_type_of_a_target_chooses_the_task_of_data_of_the_hub(rows_of_the_hub: list[str]) -> None:
    found = {
        target: task_by_target([*rows_of_the_hub, *([f"data.target={target}"] if target else [])])
        for target in ("", "stars", "kind", "size", "flag", "tags", "point", "[one,flag]", "[one,size]")
    }
    assert found == {
        "": ("task=classification", "data.target=label is of the type string"),
        "stars": ("task=regression", "data.target=stars is of the type float64"),
        "kind": ("task=classification", "kind holds 3 different integers"),
        "size": ("task=regression", "size holds 30 different integers"),
        "flag": ("task=classification", "data.target=flag is of the type bool"),
        "tags": ("task=multilabel", "data.target=tags is of the type List"),
        "point": ("task=regression", "data.target=point is of the type List"),
        "[one,flag]": ("task=multilabel", "one, flag hold 0 and 1"),
        "[one,size]": ("task=regression", "one, size hold numbers"),
    }


def test_a_typed_task_reads_no_data_of_the_hub(rows_of_the_hub: list[str], tmp_path: Path) -> None:
    assert task_by_target([*rows_of_the_hub, "task=regression"]) is None
    assert task_by_target(["data=huggingface"]) is None
    assert not (tmp_path / "data").exists()
