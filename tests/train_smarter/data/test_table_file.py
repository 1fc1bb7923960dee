import csv
import gzip
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest

from train_smarter.data.table_file import StringTable, expand_files, read_table
from train_smarter.errors import UserError


def write(folder: Path, content: str | bytes, name: str = "table.csv") -> str:
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(folder / name)


def read(folder: Path, content: str | bytes, name: str = "table.csv", **options: Any) -> StringTable:
    return read_table(write(folder, content, name), **options)


def cells(table: StringTable) -> dict[str, list[str | None]]:
    return {name: table.texts(name) for name in table.names}


# ---- every cell is the text that stands there


def test_a_code_with_leading_zeros_stays_text(tmp_path: Path) -> None:
    assert cells(read(tmp_path, "zip,n\n00501,1.50\n")) == {"zip": ["00501"], "n": ["1.50"]}


def test_an_empty_cell_is_none_and_na_is_a_text(tmp_path: Path) -> None:
    assert cells(read(tmp_path, 'a,b\n,NA\n"",  \n')) == {"a": [None, None], "b": ["NA", None]}


def test_spaces_around_names_and_cells_are_left_out(tmp_path: Path) -> None:
    assert cells(read(tmp_path, "age, sex\n39, Male\n")) == {"age": ["39"], "sex": ["Male"]}


def test_a_quoted_cell_may_hold_newlines_quotes_and_delimiters(tmp_path: Path) -> None:
    assert cells(read(tmp_path, 'a,b\n1,"x\ny, ""z"""\n2,u\n')) == {"a": ["1", "2"], "b": ['x\ny, "z"', "u"]}


def test_a_cell_may_be_long_and_other_readers_keep_their_limit(tmp_path: Path) -> None:
    """A limit of the whole process, by which a damaged metrics.csv is found."""
    before, text = csv.field_size_limit(), "x" * 200_000
    assert cells(read(tmp_path, f"a,b\n{text},1\n")) == {"a": [text], "b": ["1"]}
    with pytest.raises(UserError, match=r"line 3: 1 cells, but the header has 2"):
        read(tmp_path, f"a,b\n{text},1\n2\n")
    assert csv.field_size_limit() == before


@pytest.mark.parametrize(("name", "delimiter"), [("t.csv", ";"), ("t.csv", "\t"), ("t.csv", "|"), ("t.tsv", "\t")])
def test_the_delimiter_is_detected(tmp_path: Path, name: str, delimiter: str) -> None:
    content = f"a{delimiter}b\n1,5{delimiter}2\n3{delimiter}4\n"
    assert cells(read(tmp_path, content, name)) == {"a": ["1,5", "3"], "b": ["2", "4"]}


def test_a_typed_delimiter_wins(tmp_path: Path) -> None:
    assert cells(read(tmp_path, "a;b,c\n1;2,3\n", delimiter="semicolon")) == {"a": ["1"], "b,c": ["2,3"]}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_the_encoding_is_detected(tmp_path: Path, encoding: str) -> None:
    assert cells(read(tmp_path, "städt,b\nKöln,2\n".encode(encoding))) == {"städt": ["Köln"], "b": ["2"]}


def test_a_guessed_encoding_is_described_as_such(tmp_path: Path) -> None:
    described = read(tmp_path, "a,b\nKöln,2\n".encode("cp1252")).describe()
    assert described == (
        f"{tmp_path}/table.csv: 1 rows, 2 columns, delimiter ',', encoding cp1252; it is not UTF-8: if letters are "
        "wrong, type data.encoding=..."
    )


def test_a_compressed_file_is_read(tmp_path: Path) -> None:
    assert cells(read(tmp_path, gzip.compress(b"a,b\n1,2\n"), "t.csv.gz")) == {"a": ["1"], "b": ["2"]}


def test_json_lines_give_the_numbers_as_they_are_spelled(tmp_path: Path) -> None:
    content = '{"a": 1.50, "b": "x", "c": null}\n\n{"b": true, "d": 2, "a": "00501"}\n'
    expected = {"a": ["1.50", "00501"], "b": ["x", "true"], "c": [None, None], "d": [None, "2"]}
    assert cells(read(tmp_path, content, "t.jsonl")) == expected


@pytest.mark.parametrize("block", [1, 2, 20])
def test_a_list_of_numbers_is_a_column_for_each_place(
    tmp_path: Path, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("train_smarter.data.json_rows.JSON_BLOCK", block)
    rows = '{"x": null, "t": ["p"]}\n{"x": [1, 2.50], "t": []}\n{"x": [null, 3], "t": ["é", "p"]}\n'
    table = read(tmp_path, rows, "t.jsonl")
    expected = {"x.0": [None, "1", None], "x.1": [None, "2.50", "3"], "t": ['["p"]', "[]", '["é", "p"]']}
    assert cells(table) == expected
    assert table.expand(["t", "x"]) == ["t", "x.0", "x.1"]
    assert cells(read_table(str(tmp_path / "t.jsonl"), columns=["x.1"])) == {
        part: expected[part] for part in ("x.0", "x.1")
    }
    with pytest.raises(UserError, match=r"data.group=x holds lists of numbers: give one of their places, x.0, x.1$"):
        table.require(["x"], "data.group")


@pytest.mark.parametrize("block", [1, 20])
@pytest.mark.parametrize(
    ("first", "second", "problem"),
    [
        ("[1, 2]", "[1]", "holds a list of 1 number, but {file}, line 1 a list of 2 numbers: give every row a list of"),
        ("[]", "[1, 2]", "holds a list of 2 numbers, but {file}, line 1 a list of texts, or an empty one: give every"),
        ('"a"', '["a"]', "holds a list of texts, or an empty one, but {file}, line 1 one value: give every row a list"),
        ("null", '["a", 1]', "holds a list of different things"),
        ("[1]", "[[1]]", "holds a list of different things"),
        ("null", '{"b": 1}', "holds an object"),
    ],
)
def test_cells_that_are_no_columns_are_left_out_and_named(
    tmp_path: Path, block: int, monkeypatch: pytest.MonkeyPatch, first: str, second: str, problem: str
) -> None:
    monkeypatch.setattr("train_smarter.data.json_rows.JSON_BLOCK", block)
    rows = "".join(f'{{"a": 1, "x": {cell}}}\n' for cell in (first, second))
    table = read(tmp_path, rows, "t.jsonl")
    file = tmp_path / "t.jsonl"
    assert cells(table) == {"a": ["1", "1"]}
    with pytest.raises(UserError) as caught:
        table.require(["x"], "data.target")
    start = f"data.target=x cannot be used: {file}, line 2 {problem.format(file=file)}"
    assert str(caught.value).startswith(start)


def test_a_list_of_another_length_in_a_later_file_is_named(tmp_path: Path) -> None:
    for number, row in enumerate(('{"a": 1, "x": [1, 2]}', '{"a": 1, "x": [1]}')):
        (tmp_path / f"{number}.jsonl").write_text(row)
    table = read_table(str(tmp_path / "*.jsonl"))
    assert (table.names, len(table)) == (["a"], 2)
    assert table.columns.unusable["x"].startswith(
        f"{tmp_path}/1.jsonl, line 1 holds a list of 1 number, but {tmp_path}/0."
    )


def test_a_file_whose_only_column_cannot_be_used_says_why(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^x: .*t\.jsonl, line 1 holds an object$"):
        read(tmp_path, '{"x": {}}', "t.jsonl")


def test_a_json_list_of_objects_is_read(tmp_path: Path) -> None:
    assert cells(read(tmp_path, '[{"a": 1},\n {"a": 2}]', "t.json")) == {"a": ["1", "2"]}


def test_parquet_gives_the_shortest_spelling_of_a_number(tmp_path: Path) -> None:
    columns = {"n": [0.1, None], "i": [7, 8], "t": ["00501", ""], "f": [True, False]}
    pa.parquet.write_table(pa.table(columns), tmp_path / "t.parquet")
    expected = {"n": ["0.1", None], "i": ["7", "8"], "t": ["00501", None], "f": ["true", "false"]}
    assert cells(read_table(str(tmp_path / "t.parquet"))) == expected


def test_nested_columns_of_a_parquet_file_are_left_out_by_name(tmp_path: Path) -> None:
    pa.parquet.write_table(pa.table({"a": [1], "image": [{"bytes": b"x"}]}), tmp_path / "t.parquet")
    table = read_table(str(tmp_path / "t.parquet"))
    assert table.names == ["a"]
    assert table.columns.unusable == {"image": "it holds lists or objects"}


def test_only_the_columns_that_are_asked_for_are_read(tmp_path: Path) -> None:
    assert read(tmp_path, "a, b,c\n1,2,3\n", columns=["b", "z"]).names == ["b"]


# ---- several files


def test_files_of_a_glob_follow_each_other_by_name(tmp_path: Path) -> None:
    write(tmp_path, "a,b\n3,4\n", "2.csv")
    write(tmp_path, "b;a\n2;1\n", "1.csv")
    table = read_table(str(tmp_path / "*.csv"))
    assert cells(table) == {"b": ["2", "4"], "a": ["1", "3"]}
    assert table.place(1) == f"{tmp_path}/2.csv, line 2"


def test_files_with_other_columns_are_refused(tmp_path: Path) -> None:
    files = [write(tmp_path, "a,b\n1,2\n", "1.csv"), write(tmp_path, "a,c\n1,2\n", "2.csv")]
    with pytest.raises(UserError, match=r"2\.csv lacks b: .*1\.csv has the columns a, b"):
        read_table(files)


# ---- the line of a row


def test_a_row_is_found_by_its_line_in_spite_of_newlines_in_cells(tmp_path: Path) -> None:
    table = read(tmp_path, 'a,b\n1,"x\ny\nz"\n\n2,u\n3,v\n')
    assert [table.place(row).rpartition(", ")[2] for row in range(3)] == ["line 2", "line 6", "line 7"]


def test_a_row_is_found_by_its_line_in_json(tmp_path: Path) -> None:
    assert read(tmp_path, '{"a": 1}\n\n{"a": 2}\n', "t.jsonl").place(1) == f"{tmp_path}/t.jsonl, line 3"


# ---- refused


def test_lines_that_end_with_a_carriage_return_alone_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"table\.csv: a line ends with a carriage return alone: save it with line feeds"
    ):
        read(tmp_path, "a,b\r1,2\r3,4\r")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a,b\n1,2\n1\n3,4\n", r"table\.csv, line 3: 1 cells, but the header has 2"),
        ("a,b\n1,2\n\n1,5,2\n", r"line 4: 3 cells, but the header has 2; a cell that holds ',' needs quotation marks"),
        ('a,b\n1,2\n"1,5\n6,7\n', r"line 3: 1 cells, .* a cell begins with a quotation mark"),
        ('a,b\n1,2\n1,"5\n6,7\n', r'line 3: a quotation mark \("\) is opened and not closed'),
        ("a,b,a\n1,2,3\n", r"line 1: several columns have the name 'a'"),
        ("", r"table\.csv is empty: its first line has to name the columns"),
        ("a,b\n", r"table\.csv has no row after its header"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\r", r"table\.csv is no text file; give CSV, TSV, JSONL or Parquet"),
        (b"a,b\n1,\x81\n", r"table\.csv is neither UTF-8 nor cp1252: type data\.encoding="),
    ],
)
def test_a_damaged_file_is_refused_with_its_line(tmp_path: Path, content: str | bytes, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read(tmp_path, content)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.jsonl", '{"a": 1}\n{"a": \n', r"t\.jsonl, line 2: no JSON object a line"),
        ("t.jsonl", "3\n", r"t\.jsonl, line 1: no JSON object, .* but a number"),
        ("t.parquet", "a,b", r"t\.parquet is no Parquet file that can be read"),
        ("t.csv.gz", "a,b\n1,2\n", r"t\.csv\.gz is no complete gzip file"),
        ("t.xlsx", "x", r"t\.xlsx: CSV, TSV, JSONL or Parquet are read; save it as CSV"),
        ("t.bin", "x", r"its name has to end in \.csv"),
    ],
)
def test_other_kinds_are_refused(tmp_path: Path, name: str, content: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read(tmp_path, content, name)


def test_a_missing_file_and_a_folder_name_what_is_there(tmp_path: Path) -> None:
    write(tmp_path, "a\n1\n", "houses.csv")
    with pytest.raises(UserError, match=r"there is no such file; did you mean 'houses.csv'\?"):
        expand_files(str(tmp_path / "house.csv"))
    with pytest.raises(UserError, match=r"is a folder: give one of its files, houses\.csv, or a glob"):
        expand_files(str(tmp_path))


def test_a_missing_column_names_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data\.target=prise: .* no such column; did you mean 'price'\?.*price, rooms"):
        read(tmp_path, "price,rooms\n1,2\n").require(["prise"], "data.target")
    with pytest.raises(UserError, match="the first line of the file has to name the columns"):
        read(tmp_path, "5.1,setosa\n4.9,setosa\n").require(["species"], "data.target")
