import os
from pathlib import Path
from typing import Any

import pytest
import torch

from train_smarter.data.texts import TextFile
from train_smarter.errors import UserError

WORDS = ["red", "green", "blue", "plain", "round", "flat", "cold", "warm"]


def write(folder: Path, text: str, name: str = "t.csv") -> str:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text, encoding="utf8")
    return str(folder / name)


def reviews(folder: Path, *, rows: int = 40, **cells: str) -> str:
    """Rows of a title, a text and a label, of which no two are equal."""
    lines = ["title,text,label,user"]
    for row in range(rows):
        text = f"{WORDS[row % 8]} {WORDS[row // 8]} thing number{row}"
        line = {"title": f"t{row}", "text": text, "label": ["good", "bad"][row % 2], "user": f"u{row // 4}"}
        lines.append(",".join(cells.get(f"{name}_{row}", cell) for name, cell in line.items()))
    return write(folder, "\n".join(lines))


def ready(file: str, **options: Any) -> TextFile:
    data = TextFile(**{"file": file, "target": "label", "vocab_size": 200, "max_length": 8, **options})
    data.setup()
    return data


def texts_of(data: TextFile) -> dict[str, list[str]]:
    return {name: [data.decode(tokens.long()) for tokens in each.inputs] for name, each in data.examples.items()}


def test_each_text_has_the_class_of_its_row(tmp_path: Path) -> None:
    data = ready(reviews(tmp_path), test_fraction=0.25, vocab_size=1000)
    assert data.names == ["bad", "good"]
    train = data.examples["train"]
    for text, label in zip(texts_of(data)["train"], train.targets.tolist(), strict=True):
        assert label == 1 - int(text.rpartition("number")[2]) % 2  # even rows are good


def test_several_columns_are_joined(tmp_path: Path) -> None:
    data = ready(reviews(tmp_path, title_0=""), input=["title", "text"])
    everything = sorted(text for part in texts_of(data).values() for text in part)
    assert len(everything) == 40
    assert all(text.startswith(("t", "red red thing")) for text in everything if "[UNK]" not in text)


def test_rows_without_a_text_or_a_target_are_left_out_and_named(tmp_path: Path) -> None:
    data = ready(reviews(tmp_path, text_3="", label_5=""))
    assert sum(len(each) for each in data.examples.values()) == 38
    assert any("without a target (label): 1" in note and note.endswith("line 7") for note in data.notes)
    assert any("without a text (text): 1" in note and note.endswith("line 5") for note in data.notes)


def test_groups_stay_whole_where_repeated_texts_are_left_out(tmp_path: Path) -> None:
    repeated = {f"text_{row}": "the same words" for row in range(12)}
    data = ready(reviews(tmp_path, rows=60, **repeated), group="user", vocab_size=1000)
    users = [
        {int(text.rpartition("number")[2]) // 4 for text in part if "number" in text}
        for part in texts_of(data).values()
    ]
    assert sum(len(part) for part in users) == len(set.union(*users))


def test_numbers_are_targets_of_a_regression(tmp_path: Path) -> None:
    file = write(tmp_path, "text,label\n" + "".join(f"word number{i},{i / 4}\n" for i in range(40)))
    targets = ready(file).examples["train"].targets
    assert (targets.dtype, targets.shape[1]) == (torch.float32, 1)


def test_encoded_texts_are_cached_until_the_file_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = reviews(tmp_path)
    first = ready(file, dir=str(tmp_path))
    with monkeypatch.context() as patch:
        patch.setattr(TextFile, "read", lambda _: pytest.fail("it was read again"))
        again = ready(file, dir=str(tmp_path))
    assert torch.equal(first.examples["train"].inputs, again.examples["train"].inputs)
    assert again.names == ["bad", "good"]
    os.utime(file, ns=(1, 1))
    with monkeypatch.context() as patch:
        patch.setattr(TextFile, "read", lambda _: (_ for _ in ()).throw(UserError("it was read again")))
        with pytest.raises(UserError, match="it was read again"):
            ready(file, dir=str(tmp_path))


# ---- folders


def folders(home: Path) -> str:
    for row in range(20):
        write(home, f"{WORDS[row % 8]} thing number{row}", f"{['neg', 'pos'][row % 2]}/{row:02d}.txt")
    write(home, "not a text", "neg/notes.md")
    write(home, "no class", "readme.txt")
    return str(home)


def test_a_folder_of_texts_for_each_class_is_read(tmp_path: Path) -> None:
    data = ready(folders(tmp_path / "reviews"), vocab_size=1000)
    assert data.names == ["neg", "pos"]
    train = data.examples["train"]
    for text, label in zip(texts_of(data)["train"], train.targets.tolist(), strict=True):
        assert label == int(text.rpartition("number")[2]) % 2
    assert sum(len(each) for each in data.examples.values()) == 20


def test_a_text_of_another_encoding_names_its_file(tmp_path: Path) -> None:
    home = folders(tmp_path / "reviews")
    (tmp_path / "reviews/pos/01.txt").write_bytes("Köln".encode("cp1252"))
    with pytest.raises(UserError, match=r"pos/01\.txt is not UTF-8: type another data\.encoding="):
        ready(home)
    assert ready(home, encoding="cp1252").names == ["neg", "pos"]


# ---- a user's own input


def inputs(data: TextFile, given: str) -> list[str]:
    return [data.load_input(source).content for source in data.iter_inputs(given)]


def test_an_input_is_a_file_with_the_column_or_a_text_a_line_or_a_text(tmp_path: Path) -> None:
    data = ready(reviews(tmp_path))
    assert inputs(data, write(tmp_path, 'id,text\n1,"a good, long\nfilm"\n2,b\n', "new.csv")) == [
        "a good, long\nfilm",
        "b",
    ]
    assert inputs(data, write(tmp_path, "id,text\none line\n", "new.txt")) == ["id,text", "one line"]
    assert inputs(data, "a good film") == ["a good film"]
    with pytest.raises(UserError, match=r"has no column text, but review; for a text a line, .* ends in \.txt"):
        inputs(data, write(tmp_path, "review\nx\n", "new.csv"))
    with pytest.raises(ValueError, match="the text is empty"):
        inputs(data, write(tmp_path, 'id,text\n1,""\n', "new.csv"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"input": "review"}, r"data.input=review: .* no such column. It has title, text, label, user"),
        ({"input": None}, "type the column of the texts"),
        ({"target": "labels"}, r"data.target=labels: .* did you mean 'label'\?"),
    ],
)
def test_columns_that_are_missing_are_named(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        ready(reviews(tmp_path), **options)
