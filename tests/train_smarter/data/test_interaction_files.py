from pathlib import Path
from typing import Any

import pytest

from train_smarter.data.interaction_files import count_names, pop_files, read_files
from train_smarter.data.interaction_table import InteractionTable
from train_smarter.data.interactions import Interactions
from train_smarter.data.table_file import StringTable, read_table
from train_smarter.errors import UserError

CSV = "userId,movieId,rating,timestamp\n007,a,3,100\n7,b,4.5,90\n007,b,1,80\n"


def write(folder: Path, content: str = CSV, name: str = "own.csv") -> Path:
    (folder / name).write_text(content, encoding="utf8")
    return folder / name


def read(path: Path, **settings: Any) -> tuple[Interactions, list[str]]:
    return pop_files({"file": str(path), **settings}).read()


def values(data: Interactions) -> list[float]:
    assert data.values is not None
    return data.values.tolist()


def times(data: Interactions) -> list[float]:
    assert data.times is not None
    return data.times.tolist()


def test_usual_names_of_columns_are_found_and_ids_stay_texts(tmp_path: Path) -> None:
    data, notes = read(write(tmp_path))
    assert list(data.user_names) == ["007", "7"]
    assert list(data.item_names) == ["a", "b"]
    assert data.users.tolist() == [0, 1, 0]
    assert data.items.tolist() == [0, 1, 1]
    assert values(data) == [3.0, 4.5, 1.0]
    assert times(data) == [100.0, 90.0, 80.0]
    assert "user: column 'userId', item: column 'movieId', value: column 'rating', time: column 'timestamp'" in notes


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("own.tsv", "user_id:token\titem_id:token\trating:float\ttimestamp:float\n007\ta\t3\t100\n"),
        ("own.jsonl", '{"user": "007", "item": "a", "rating": 3, "timestamp": 100}\n'),
    ],
)
def test_other_formats_are_read(tmp_path: Path, name: str, content: str) -> None:
    data, _ = read(write(tmp_path, content, name))
    assert (list(data.user_names), list(data.item_names), values(data), times(data)) == (["007"], ["a"], [3.0], [100.0])


def test_named_columns_are_used_and_none_means_no_column(tmp_path: Path) -> None:
    path = write(tmp_path, "who,what,rating,when,timestamp\nx,y,2,5,9\n")
    data, _ = read(path, user="who", item="what", value="none", time="when")
    assert data.values is None
    assert times(data) == [5.0]


def test_dates_are_seconds(tmp_path: Path) -> None:
    path = write(tmp_path, "user,item,date\na,x,1970-01-02\na,y,1970-01-01T00:01:00Z\n")
    assert times(read(path)[0]) == [86400.0, 60.0]


def test_rows_with_an_empty_cell_are_left_out_and_counted(tmp_path: Path) -> None:
    data, notes = read(write(tmp_path, f"{CSV}8,,5,1\n9,a,NA,1\n9,a,2,\n"))
    assert list(data.user_names) == ["007", "7"]
    assert "3 rows with an empty cell are left out: movieId 1, rating 1, timestamp 1" in notes


def test_items_have_the_first_title_of_their_rows(tmp_path: Path) -> None:
    data, _ = read(write(tmp_path, "user,item,title\na,1,\na,2,Two\nb,1,One\nb,3,\n"))
    assert data.item_titles == ["One", "Two", "3"]


@pytest.mark.parametrize(
    ("content", "settings", "message"),
    [
        ("who,item\na,b\n", {}, "no column has a usual name for the user: type data.user=<column>; it has who, item"),
        ("1,2\n3,4\n", {}, "for the user and the item: type data.user=<column> data.item=<column>"),
        (CSV, {"user": "userID"}, "data.user=userID: .* has no such column; did you mean 'userId'"),
        (CSV, {"user": "movieId", "item": "movieId"}, "data.user and data.item are both the column 'movieId'"),
        ("user,item,rating\na,b,good\n", {}, "line 2, column 'rating': 'good' is no number"),
        ("user,item,date\na,b,2024-01-01\na,c,soon\n", {}, "line 3, column 'date': 'soon' is no date"),
        ("user,item,rating\na,b,\n", {}, "each row has an empty cell"),
        ("user,item\n", {}, "has no row after its header"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused(
    tmp_path: Path, content: str, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        read(write(tmp_path, content), **settings)


def test_a_file_that_was_counted_is_not_read_again_until_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[Any] = []

    def counted(*given: Any, **settings: Any) -> StringTable:
        reads.append(given)
        return read_table(*given, **settings)

    monkeypatch.setattr("train_smarter.data.interaction_files.read_table", counted)
    path = write(tmp_path)
    assert count_names({"file": str(path), "split": "random"}) == {"num_users": 2, "num_items": 2}
    read_files(pop_files({"file": str(path)}))
    assert len(reads) == 1
    write(tmp_path, f"{CSV}new,c,1,1\n")
    assert count_names({"file": str(path)}) == {"num_users": 3, "num_items": 3}


def test_a_file_without_a_value_is_refused_with_what_to_type() -> None:
    with pytest.raises(UserError, match=r"data\.file has no value yet: type data\.file="):
        InteractionTable()


def test_own_files_are_split_into_ratings(tmp_path: Path) -> None:
    rows = [f"u{number % 10},i{number // 10},{number % 5}" for number in range(200)]
    data = InteractionTable(file=str(write(tmp_path, "\n".join(["user,item,rating", *rows]))))
    data.setup()
    assert {name: len(of) for name, of in data.examples.items()} == {"train": 160, "val": 20, "test": 20}
    assert any("own.csv: 200 rows, 3 columns" in note for note in data.notes)
