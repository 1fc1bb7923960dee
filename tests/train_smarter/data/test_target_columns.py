from pathlib import Path
from typing import Any

import pytest

from train_smarter.data.table_file import StringTable, read_table
from train_smarter.data.target_columns import Targets, detect_targets, read_targets
from train_smarter.errors import UserError


def detect(folder: Path, columns: dict[str, list[str]]) -> str:
    return detect_targets(read_table(write(folder, columns)), list(columns))[0]


def read(folder: Path, columns: dict[str, list[str]], kind: str | None = None, **options: Any) -> Targets:
    return read_targets(read_table(write(folder, columns)), list(columns), kind=kind, **options)


def write(folder: Path, columns: dict[str, list[str]]) -> str:
    """A file with another column, which no target is."""
    rows = [",".join(["n", *columns]), *(",".join(["7", *row]) for row in zip(*columns.values(), strict=True))]
    (folder / "t.csv").write_text("\n".join(rows), encoding="utf8")
    return str(folder / "t.csv")


@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        (["cat", "dog", "cat"], "classes"),
        (["true", "false", "true"], "classes"),
        (["0", "1"], "classes"),
        (["1.0", "0.0", "", "1.0"], "classes"),
        (["3", "4", "3", "4", "5", "3"], "classes"),
        (["1", "2", "3", "4", "5"], "numbers"),  # more than half of the rows differ
        ([str(number % 21) for number in range(100)], "numbers"),  # 21 different integers
        ([str(number % 20) for number in range(100)], "classes"),
        (["1.5", "2.5", "1.5", "2.5", "1.5"], "numbers"),
        (["00501", "00502", "00501"], "classes"),
    ],
)
def test_the_kind_of_a_target_follows_from_its_cells(tmp_path: Path, cells: list[str], kind: str) -> None:
    assert detect(tmp_path, {"y": cells}) == kind


def test_several_columns_are_labels_if_they_hold_0_and_1_and_numbers_else(tmp_path: Path) -> None:
    assert detect(tmp_path, {"a": ["0", "1", "1"], "b": ["true", "false", ""]}) == "labels"
    assert detect(tmp_path, {"a": ["0", "1", "NA"], "b": ["1", "NaN", "0"]}) == "labels"
    assert detect(tmp_path, {"a": ["0", "1", "1"], "b": ["0", "1", "2"]}) == "numbers"
    with pytest.raises(UserError, match="b holds texts; give one column of classes, or several of numbers"):
        detect(tmp_path, {"a": ["0", "1"], "b": ["x", "y"]})


def test_classes_are_sorted_by_alphabet_and_integers_by_number(tmp_path: Path) -> None:
    texts = read(tmp_path, {"y": ["b", "a", "", "b"]})
    assert (texts.names, texts.values.tolist(), texts.rows.tolist()) == (["a", "b"], [1, 0, 1], [0, 1, 3])
    numbers = read(tmp_path, {"y": ["10.0", "9.0", "NaN", "9.0"]}, kind="classes")
    assert (numbers.names, numbers.values.tolist(), numbers.rows.tolist()) == (["9", "10"], [1, 0, 0], [0, 1, 3])


def test_na_is_a_class_among_texts(tmp_path: Path) -> None:
    assert read(tmp_path, {"y": ["NA", "EU", "NA"]}).names == ["EU", "NA"]


def test_numbers_have_a_column_for_each_target_and_rows_without_one_are_left_out(tmp_path: Path) -> None:
    targets = read(tmp_path, {"a": ["1.5", "", "3"], "b": ["-2", "1", "1e2"]})
    assert (targets.kind, targets.names, targets.rows.tolist()) == ("numbers", ["a", "b"], [0, 2])
    assert targets.values.tolist() == [[1.5, -2.0], [3.0, 100.0]]


def test_labels_are_0_and_1(tmp_path: Path) -> None:
    targets = read(tmp_path, {"a": ["1", "0", "1"], "b": ["false", "true", ""]})
    assert (targets.kind, targets.values.tolist()) == ("labels", [[1.0, 0.0], [0.0, 1.0]])


def test_classes_of_a_past_run_keep_their_places(tmp_path: Path) -> None:
    assert read(tmp_path, {"y": ["dog", "cat"]}, names=["owl", "dog", "cat"]).values.tolist() == [1, 2]
    with pytest.raises(UserError, match=r"line 3, column 'y': 'cat' is none of the classes of the run, owl, dog"):
        read(tmp_path, {"y": ["dog", "cat"]}, names=["owl", "dog"])


@pytest.mark.parametrize(
    ("cells", "kind", "message"),
    [
        (["a", "a"], None, "every row of .* has 'a'; a classification needs two classes"),
        (["2.5", "2.5"], "numbers", "every row of .* has 2.5; nothing can be learned"),
        (["", ""], None, "this column of .* is empty in every row"),
        ([f"n{number}" for number in range(60)], None, "60 different values in 60 rows are no classes"),
        (
            [f"n{number % 1001}" for number in range(3000)],
            None,
            "1001 different values .* at most 1000 classes, which repeat",
        ),
        ([f"{number}.5" for number in range(60)], "classes", "type task=regression to predict numbers"),
        (["1", "x", "3"], "numbers", r"line 3, column 'y': 'x' is no number; task=regression needs numbers"),
        (
            [f"${number}" for number in range(60)],
            None,
            r"no classes; y holds numbers .*'\$0' in .*line 2.*write each with",
        ),
        (["1", "inf", "3"], "numbers", r"line 3, column 'y': 'inf' is no finite number"),
        (["1", "2"], "labels", r"line 3, column 'y': '2' is neither 0 nor 1, which task=multilabel needs"),
        (["1", "2", "3", "4", "oops"], None, r"line 6, column 'y': 'oops' is no number, but 4 of 5 cells are"),
        (["1", "2"], "nothing", "data.target_type=nothing: give one of classes, numbers, labels"),
    ],
)
def test_targets_that_do_not_fit_are_refused(tmp_path: Path, cells: list[str], kind: str | None, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read(tmp_path, {"y": cells}, kind=kind)


LISTS = '{"x": 1.5, "tags": ["red", "round"], "point": [1, 2.5]}\n{"x": 2.5, "tags": null, "point": [3, 4]}\n' + (
    '{"x": 3.5, "tags": [], "point": [5, null]}\n{"x": 4.5, "tags": ["round"], "point": [7, 8]}\n'
)


def lists(folder: Path) -> StringTable:
    (folder / "t.jsonl").write_text(LISTS)
    return read_table(str(folder / "t.jsonl"))


def test_lists_of_texts_are_labels_and_lists_of_numbers_are_numbers(tmp_path: Path) -> None:
    table = lists(tmp_path)
    assert detect_targets(table, ["tags"]) == ("labels", "tags holds lists of labels")
    labels = read_targets(table, ["tags"])
    assert (labels.kind, labels.names, labels.rows.tolist()) == ("labels", ["red", "round"], [0, 2, 3])
    assert labels.values.tolist() == [[1, 1], [0, 0], [0, 1]]
    assert detect_targets(table, ["point"])[0] == "numbers"
    numbers = read_targets(table, ["point", "x"])
    assert (numbers.names, numbers.rows.tolist()) == (["point.0", "point.1", "x"], [0, 1, 3])
    assert numbers.values.tolist() == [[1, 2.5, 1.5], [3, 4, 2.5], [7, 8, 4.5]]


@pytest.mark.parametrize(
    ("columns", "options", "message"),
    [
        (["tags", "x"], {}, r"data.target=\[tags,x\]: tags holds lists of labels; give it alone"),
        (["tags"], {"kind": "numbers"}, "tags holds lists of labels, but the task needs numbers: type task=multilabel"),
        (
            ["tags"],
            {"names": ["red"]},
            r"t.jsonl, line 1, column 'tags': 'round' is none of the labels of the run, red",
        ),
    ],
)
def test_lists_of_labels_that_do_not_fit_are_refused(
    tmp_path: Path, columns: list[str], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        read_targets(lists(tmp_path), columns, **options)
