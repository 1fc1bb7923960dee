import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from train_smarter.data.examples import SplitName
from train_smarter.data.table_source import count_targets
from train_smarter.data.tables import TableFile, count_numbers
from train_smarter.errors import UserError

CITIES = ["Bonn", "Köln", "Ulm"]


def write(folder: Path, text: str, name: str = "t.csv") -> str:
    (folder / name).write_text(text, encoding="utf8")
    return str(folder / name)


def houses(folder: Path, *, rows: int = 40, **cells: Any) -> str:
    """Rows of a size, a city and a price; `cells`: the content of a cell by column and row, `size_3`."""
    lines = ["size,city,price"]
    for row in range(rows):
        line = {"size": f"{50 + row * row % 37}", "city": CITIES[row % 3], "price": f"{100.5 + row}"}
        lines.append(",".join(cells.get(f"{name}_{row}", cell) for name, cell in line.items()))
    return write(folder, "\n".join(lines))


def ready(file: str, **options: Any) -> TableFile:
    data = TableFile(**{"file": file, "target": "price", **options})
    data.setup()
    return data


def seen(data: TableFile, split: SplitName) -> Any:
    """What a model receives of a split, (N, D)."""
    return data.on_after_batch_transfer((data.examples[split].inputs, None), 0)[0].numpy()


def cells_of(data: TableFile, split: SplitName) -> tuple[Any, list[str]]:
    """Sizes and cities of a split, from its raw examples."""
    size, city = data.examples[split].inputs.T
    return size.numpy()[:, None], [CITIES[int(index)] for index in city]


# ---- what a model receives


def test_numbers_are_standardized_and_categories_one_hot_as_scikit_learn_does_it(tmp_path: Path) -> None:
    data = ready(houses(tmp_path))
    (train_size, train_city), (test_size, test_city) = cells_of(data, "train"), cells_of(data, "test")
    scaler = StandardScaler().fit(train_size)
    hot = OneHotEncoder(sparse_output=False, categories=[CITIES]).fit(np.array(train_city)[:, None])
    for split, size, city in (("train", train_size, train_city), ("test", test_size, test_city)):
        expected = np.hstack([scaler.transform(size), hot.transform(np.array(city)[:, None])])
        np.testing.assert_allclose(seen(data, split), expected, atol=1e-5)  # type: ignore[arg-type]


def test_a_missing_number_is_the_mean_and_marked_where_training_had_one(tmp_path: Path) -> None:
    data = ready(houses(tmp_path, size_0="", size_5="NA"), split_column=None, val_fraction=0.5)
    train = data.examples["train"].inputs
    assert train[:, 0].isnan().any(), "the split has to have one for this test"
    model_sees = seen(data, "train")
    missing = train[:, 0].isnan().numpy()
    assert model_sees.shape[1] == 5  # size, three cities, whether the size is missing
    assert (model_sees[missing, 0] == 0).all()  # the mean, standardized
    assert (model_sees[:, 4] == missing).all()


def test_a_missing_category_is_a_category_of_its_own(tmp_path: Path) -> None:
    data = ready(houses(tmp_path, **dict[str, Any]({f"city_{row}": "" for row in range(0, 40, 3)})))
    empty = data.examples["train"].inputs[:, 1].isnan().numpy()
    model_sees = seen(data, "train")
    assert model_sees.shape[1] == 4  # size, Köln, Ulm, whether it is missing
    assert (model_sees[:, 3] == empty).all()
    assert (model_sees[empty, 1:3] == 0).all()


def test_a_category_that_training_has_once_or_never_is_unknown(tmp_path: Path) -> None:
    file = houses(tmp_path, city_4="Rome")
    data = ready(file)
    column = data.columns[1]
    assert column.values == CITIES
    everything = torch.cat([data.examples[split].inputs for split in data.examples])
    assert (everything[:, 1] == -1).sum() == 1
    assert sum(int((seen(data, split)[:, 1:].sum(1) == 0).sum()) for split in data.examples) == 1


def test_rare_categories_beyond_the_limit_are_unknown(tmp_path: Path) -> None:
    text = "c,y\n" + "".join(f"{c},{i % 2}\n" for i, c in enumerate("aaaaaaaaaabbbbbbbbcccc" * 3))
    data = ready(write(tmp_path, text), target="y", max_categories=2)
    assert data.columns[0].values == ["a", "b"]
    assert data.width == 2


def test_without_standardization_a_model_receives_the_numbers_and_the_mean_for_a_gap(tmp_path: Path) -> None:
    data = ready(houses(tmp_path, size_0="", size_5=""), standardize=False)
    train = data.examples["train"].inputs[:, 0].numpy()
    np.testing.assert_allclose(seen(data, "train")[:, 0], np.where(np.isnan(train), np.nanmean(train), train))


# ---- which columns, rows and splits


def test_columns_that_cannot_be_of_use_are_left_out_and_named(tmp_path: Path) -> None:
    rows = [
        f"{i},{i + 100},name{i},2024-01-{i + 1:02d},x,,{i * 7 % 5}.5,{i * i % 11},0050{i % 3},{'ab'[i % 2]}"
        for i in range(25)
    ]
    file = write(tmp_path, "\n".join([",id,name,day,same,empty,n,m,code,y", *rows]))
    data = ready(file, target="y")
    assert [column.name for column in data.columns] == ["n", "m", "code"]
    assert data.columns[2].values == ["00500", "00501", "00502"]
    assert (
        "left out: the first column (no name, as pandas writes an index), id (counts the rows), name (25 different "
        "texts), day (dates), same (x in every row), empty (empty); 'data.columns=[...]' names those to use"
    ) in data.notes


@pytest.mark.parametrize(
    ("cells", "shown"),
    [
        ([f"${row}" for row in range(40)], "'$0' in {}, line 2"),
        (["7", *(f"{row} %" for row in range(39))], "'0 %' in {}, line 3"),
        ([f"EUR {row}.123,50" for row in range(40)], "'EUR 0.123,50' in {}, line 2"),
        ([f"{row % 3}%" for row in range(40)], "'0%' in {}, line 2"),
        ([f"1.2.{row}" for row in range(40)], ""),
        ([f"0{row}" for row in range(40)], ""),
        ([f"12:{row}" for row in range(40)], ""),
        ([f"x{row % 3}" for row in range(40)], ""),
    ],
)
def test_numbers_with_other_marks_are_named_with_the_cure(tmp_path: Path, cells: list[str], shown: str) -> None:
    lines = [f'{row % 7}.5,"{cell}",{row % 2}' for row, cell in enumerate(cells)]
    file = write(tmp_path, "\n".join(["x,cost,y", *lines]))
    note = (
        f"cost holds numbers with other marks, {shown.format(file)}, which are read as texts: to use them as numbers, "
        "write each with digits and one point alone, 1234.5; for categories, type 'data.categories=[cost]'"
    )
    assert [each for each in ready(file, target="y").notes if "other marks" in each] == ([note] if shown else [])
    assert not any("other marks" in each for each in ready(file, target="y", categories="cost").notes)


def test_lists_of_json_lines_are_columns_and_predicted_like_them(tmp_path: Path) -> None:
    rows = [{"v": [row % 5, row * row % 7, 1.5], "tags": ["a"], "o": {"b": 1}, "y": row % 2} for row in range(30)]
    file = write(tmp_path, "\n".join(map(json.dumps, rows)), "t.jsonl")
    data = ready(file, target="y")
    assert [column.name for column in data.columns] == ["v.0", "v.1"]
    (note,) = [note for note in data.notes if note.startswith("left out: ")]
    assert note.startswith(
        f"left out: v.2 (1.5 in every row), tags (lists of texts), o ({file}, line 1 holds an object)"
    )
    assert [column.name for column in ready(file, target="y", columns="v", ignore="v.1").columns] == [
        "v.0",
        "v.1",
        "v.2",
    ]
    new = write(tmp_path, json.dumps({"v": [4, 6, 0]}), "new.jsonl")
    (row,) = data.iter_inputs(new)
    assert data.load_input(row).content.tolist() == [4, 6]
    with pytest.raises(UserError, match=r"v.0, v.1 are missing .*; v: .*new.jsonl, line 1 holds an object"):
        list(data.iter_inputs(write(tmp_path, '{"v": {}, "w": 1}', "new.jsonl")))
    with pytest.raises(UserError, match=r"data.columns: tags holds lists of texts, which are no input; leave it out"):
        ready(file, target="y", columns=["tags", "v"])


def test_columns_can_be_named_ignored_and_made_categories(tmp_path: Path) -> None:
    file = write(tmp_path, "a,b,c,y\n" + "".join(f"{i % 3},{i * 5 % 7},{i % 4},{i % 2}\n" for i in range(30)))
    assert [column.name for column in ready(file, target="y", columns=["c", "a"]).columns] == ["c", "a"]
    data = ready(file, target="y", ignore=["b"], categories=["a"])
    assert [(column.name, column.values) for column in data.columns] == [("a", ["0", "1", "2"]), ("c", None)]


def test_rows_with_a_gap_are_dropped_or_refused_if_that_is_typed(tmp_path: Path) -> None:
    file = houses(tmp_path, size_3="", city_7="")
    data = ready(file, missing="drop")
    assert sum(len(examples) for examples in data.examples.values()) == 38
    assert any(note.startswith("2 rows with a missing cell are left out") and "line 5" in note for note in data.notes)
    with pytest.raises(UserError, match=r"line 5, column 'size': this cell is missing; type data.missing=mean"):
        ready(file, missing="error")


def test_rows_without_a_target_are_left_out_and_the_first_is_named(tmp_path: Path) -> None:
    data = ready(houses(tmp_path, price_2="", price_9="NaN"))
    assert sum(len(examples) for examples in data.examples.values()) == 38
    assert any("without a target (price): 2" in note and note.endswith("line 4") for note in data.notes)


def test_files_of_their_own_are_the_splits_in_their_order(tmp_path: Path) -> None:
    parts = {name: "\n".join(["x,y", *(f"{row}.5,{row % 2}" for row in rows)]) for name, rows in PARTS.items()}
    files = {name: write(tmp_path, text, f"{name}.csv") for name, text in parts.items()}
    data = ready(files["train"], val_file=files["val"], test_file=files["test"], target="y")
    for name, rows in PARTS.items():
        assert data.examples[name].inputs[:, 0].tolist() == [row + 0.5 for row in rows]  # type: ignore[index]


PARTS = {"train": [3, 1, 2, 8], "val": [5, 4], "test": [9, 6, 7]}


def test_a_column_says_the_split(tmp_path: Path) -> None:
    words = ["Train", "training", "val", "dev", "TEST", "test"]
    file = write(tmp_path, "x,s,y\n" + "".join(f"{row}.5,{word},{row % 2}\n" for row, word in enumerate(words)))
    data = ready(file, target="y", split_column="s")
    assert {name: each.inputs[:, 0].tolist() for name, each in data.examples.items()} == {
        "train": [0.5, 1.5],
        "val": [2.5, 3.5],
        "test": [4.5, 5.5],
    }


def test_groups_are_never_divided(tmp_path: Path) -> None:
    file = write(tmp_path, "x,patient,y\n" + "".join(f"{i}.5,p{i // 3},{i % 2}\n" for i in range(60)))
    data = ready(file, target="y", group="patient")
    groups = [{int(x) // 3 for x in each.inputs[:, 0].tolist()} for each in data.examples.values()]
    assert [len(part) for part in groups] == [14, 2, 4]
    assert len(set.union(*groups)) == 20


def test_a_group_that_is_in_two_files_is_refused(tmp_path: Path) -> None:
    file = write(tmp_path, "x,patient,y\n" + "".join(f"{i}.5,p{i // 3},{i % 2}\n" for i in range(30)))
    test = write(tmp_path, "x,patient,y\n1,p11,0\n2,p3,1\n", "test.csv")
    with pytest.raises(UserError, match=r"test\.csv, line 3, column 'patient': 'p3' is in test, and in train, too"):
        ready(file, test_file=test, target="y", group="patient")


def test_the_latest_rows_are_test_and_equal_times_stay_together(tmp_path: Path) -> None:
    days = [f"2024-{1 + i // 2:02d}-01" for i in range(20)]
    order = [7, 3, 19, 0, 12, 5, 18, 1, 2, 4, 6, 8, 9, 10, 11, 13, 14, 15, 16, 17]
    file = write(tmp_path, "x,day,y\n" + "".join(f"{i}.5,{days[i]},{i % 2}\n" for i in order))
    data = ready(file, target="y", time="day", test_fraction=0.25, val_fraction=0.2)
    held = {name: sorted(int(x) for x in each.inputs[:, 0].tolist()) for name, each in data.examples.items()}
    # A quarter of 20 are 5, of which the earliest shares its day with a sixth; a fifth of the other 14 are 3, so 4.
    assert held == {"train": [*range(10)], "val": [10, 11, 12, 13], "test": [14, 15, 16, 17, 18, 19]}
    assert {"test: the rows from day 2024-08-01 on", "val: the rows from day 2024-06-01 on"} <= {*data.notes}


# ---- what a run records


def test_new_rows_are_treated_as_in_training(tmp_path: Path) -> None:
    data = ready(houses(tmp_path, size_0="", size_5=""))
    later = TableFile(file="gone.csv", target="price", shape=[data.width])
    later.load_preprocess(data.preprocess())
    file = write(tmp_path, "extra,city,size\n1,Ulm,60\n2,Rome,\n3,,x\n", "new.csv")
    sources = list(later.iter_inputs(file))
    first, second = (later.load_input(source) for source in sources[:2])
    assert first.content.tolist() == [60.0, 2.0]
    assert math.isnan(second.content[0])
    assert second.content[1] == -1
    assert second.conversions == ["with an unknown city"]
    with pytest.raises(ValueError, match="column 'size' is 'x' and no number"):
        later.load_input(sources[2])
    row = torch.stack([first.content, second.content])
    for table in (data, later):
        received = table.on_after_batch_transfer((row, None), 0)[0]
        assert received[0, 0] == pytest.approx((60 - data.columns[0].mean) / data.columns[0].std)
        assert received[:, 1:].tolist() == [[0, 0, 1, 0], [0, 0, 0, 1]]


def test_an_input_without_a_column_is_refused(tmp_path: Path) -> None:
    data = ready(houses(tmp_path))
    with pytest.raises(UserError, match=r"needs the columns size, city; city is missing"):
        list(data.iter_inputs(write(tmp_path, "size,town\n1,2\n", "new.csv")))
    with pytest.raises(UserError, match=r"needs the columns size, city; size, city are missing"):
        list(data.iter_inputs(write(tmp_path, "60,Ulm\n61,Ulm\n", "new.csv")))


def test_a_past_runs_columns_read_the_file_again_whatever_has_been_added_to_it(tmp_path: Path) -> None:
    recorded = ready(houses(tmp_path)).preprocess()
    again = TableFile(file=houses(tmp_path, rows=44, city_41="Rome"), target="price")
    again.load_preprocess(recorded)
    again.setup()
    assert again.preprocess() == recorded
    assert sum(len(examples) for examples in again.examples.values()) == 44


def test_a_resumed_run_refuses_a_file_that_has_changed(tmp_path: Path) -> None:
    recorded = ready(houses(tmp_path)).state_dict()
    ready(houses(tmp_path)).load_state_dict(recorded)
    with pytest.raises(UserError, match="the file has changed; start again"):
        ready(houses(tmp_path, rows=50)).load_state_dict(recorded)


# ---- what a config counts


def test_what_a_model_receives_is_counted_and_the_file_is_then_not_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings: dict[str, Any] = {"file": houses(tmp_path), "target": "price"}
    assert count_numbers(settings) == 4
    monkeypatch.setattr(TableFile, "read", lambda _: pytest.fail("it was read again"))
    data = TableFile(**settings, shape=[4], batch_size=8)
    data.setup()
    assert seen(data, "train").shape[1] == 4


def test_a_file_that_has_changed_is_counted_again(tmp_path: Path) -> None:
    settings = {"file": houses(tmp_path), "target": "price"}
    assert count_numbers(settings) == 4
    os.utime(houses(tmp_path, size_0="", size_5=""), ns=(1, 1))
    assert count_numbers(settings) == 5
    assert count_targets(settings) == {"num_classes": None, "num_targets": 1}
    assert count_targets({**settings, "target": "city"}) == {"num_classes": 3, "num_targets": None}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"missing": "zero"}, "data.missing=zero: give one of mean, drop, error"),
        ({"max_categories": -1}, "data.max_categories=-1 must be at least 1"),
        ({"columns": ["size", "size"]}, "data.columns names size twice"),
        ({"columns": ["price", "size"]}, "data.columns: price is the target"),
        ({"columns": ["sise"]}, r"data.columns=sise: .* no such column; did you mean 'size'\?"),
        ({"ignore": ["size", "city"]}, "no column is left for the input: there is none but the target"),
        ({"split_column": "city"}, r"line 2, column 'city': 'Bonn' is no split: give train, val or test"),
        ({"time": "city"}, r"line 2, column 'city': 'Bonn' is neither a number nor a date like 2024-12-31"),
        ({"time": "size", "group": "city"}, "data.time and data.group exclude each other"),
        ({"time": "size", "fold": 0}, "data.fold and data.time exclude each other"),
        ({"time": "size", "split_column": "city"}, "both say which rows are which split"),
        ({"target": None, "target_type": "classes"}, "data.target=null, but the task needs classes"),
        ({"shape": [9]}, r"data.shape=\[9\], but the columns have 4 numbers"),
    ],
)
def test_settings_that_do_not_fit_are_refused(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        ready(houses(tmp_path), **options)


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ({"size_4": "unknown"}, r"line 6, column 'size': 'unknown' is no number, but 39 of 40 cells are"),
        ({"size_4": "inf"}, r"line 6, column 'size': 'inf' is no finite number"),
        ({"size_4": "1e39"}, r"line 6, column 'size': '1e39' is too large for float32"),
        ({"price_4": "-1e39"}, r"line 6, column 'price': '-1e39' is too large for float32"),
        ({"size_4": '"1,5"'}, r"line 6, column 'size': '1,5' has a comma: type data.decimal_comma=true"),
    ],
)
def test_a_cell_that_does_not_fit_its_column_is_named(tmp_path: Path, cells: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        ready(houses(tmp_path, **cells))


def test_a_file_of_two_splits_is_refused(tmp_path: Path) -> None:
    file = houses(tmp_path)
    with pytest.raises(UserError, match=r"t\.csv is named twice, for data\.file and data\.test_file"):
        ready(str(tmp_path / "*.csv"), test_file=file)


def test_a_class_that_only_the_test_file_has_is_refused(tmp_path: Path) -> None:
    train, test = write(tmp_path, "x,y\n1,a\n2,b\n3,a\n"), write(tmp_path, "x,y\n5,a\n4,c\n", "test.csv")
    with pytest.raises(UserError, match=r"test\.csv, line 3, column 'y': 'c' is no class of any row of train"):
        ready(train, test_file=test, target="y")


def test_decimal_commas_are_read_if_that_is_typed(tmp_path: Path) -> None:
    file = write(tmp_path, "x;y\n" + "".join(f"{i},5;{i % 2}\n" for i in range(20)))
    data = ready(file, target="y", decimal_comma=True)
    assert sorted(torch.cat([each.inputs for each in data.examples.values()])[:, 0].tolist()) == [
        i + 0.5 for i in range(20)
    ]
