import io
import json
import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer

from train_smarter.data.examples import Examples, RawDataset
from train_smarter.data.text_data import TextData
from train_smarter.data.tokenizer import build_tokenizer
from train_smarter.errors import UserError

# "the" is in five texts, "was" in four, "film" in three, "good" and "bad" in two, each other word in one.
TRAIN = ["the film was good", "the film was bad", "the film was ok", "the plot was good", "the bad one"]


def examples(texts: Sequence[str]) -> Examples:
    """Labels 0, 1, 0, 1 and so on."""
    return Examples(list(texts), torch.arange(len(texts)) % 2)


class Notes(TextData):
    """A text data set whose source a test writes down; counts how often it is read."""

    version: Any = 1

    def __init__(self, source: RawDataset, **data: Any) -> None:
        settings = {"vocab_size": 7, "max_length": 4, "num_classes": 2, "val_fraction": 0.5} | data
        super().__init__(**settings)
        self.source, self.reads = source, 0

    def read(self) -> RawDataset:
        self.reads += 1
        return self.source

    def fingerprint(self) -> Any:
        return self.version


def split_source(train: Sequence[str] = TRAIN) -> RawDataset:
    """Official splits, so that training has exactly the given texts."""
    val, test = examples(["a good one", "never seen words"]), examples(["good plot", "bad plot"])
    return RawDataset(["negative", "positive"], examples(train), val, test)


def notes(train: Sequence[str] = TRAIN, **data: Any) -> Notes:
    made = Notes(split_source(train), **data)
    made.setup()
    return made


def tokens_of(data: TextData) -> list[list[list[int]]]:
    return [data.examples[name].inputs.tolist() for name in ("train", "val", "test")]


# ---- cleaning and words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Good<br /><br />film", "good film"),
        ("<p class='x'>Good</p> <I>FILM</i>", "good film"),
        ("I <3 it > that", "i 3 it that"),
        ("Tom &amp; Jerry &quot;rock&quot;&nbsp;on &#345;", "tom jerry rock on"),
        ("don&#39;t don&rsquo;t don\u2019t don\u0092t don\u00b4t DON'T", "don't don't don't don't don't don't"),
        ("'quoted' _very_ good--film\u2026 8/10", "quoted very good film 8 10"),
        ("cafe\u0301 CAF\u00c9 \ufb01lm", "caf\u00e9 caf\u00e9 film"),
        ("[PAD] [UNK]", "pad unk"),
        ("\u00a8 ... !", ""),
        ("", ""),
    ],
)
def test_cleaning_leaves_words(text: str, words: str) -> None:
    tokenizer = build_tokenizer(max_length=4, truncation_side="left")
    cleaned = tokenizer.normalizer.normalize_str(text)
    assert [word for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(cleaned)] == words.split()


# ---- vocabulary


def test_the_most_frequent_training_words_get_ids_and_ties_go_by_alphabet() -> None:
    data = notes()  # 7 ids: padding, unknown and five words
    assert data.encode_texts(["the was film bad good", "ok plot"])[:, :4].tolist() == [[3, 4, 5, 6], [1, 1, 0, 0]]
    assert data.encode_texts(["the"])[0, 0] == 2


def test_words_of_validation_and_test_alone_stay_unknown() -> None:
    data = notes(vocab_size=100)
    assert data.encode_texts(["never seen words a"]).tolist() == [[1, 1, 1, 1]]
    assert data.examples["val"].inputs[1].tolist() == [1, 1, 1, 0]


def test_a_corpus_with_fewer_words_than_ids_leaves_the_others_unused() -> None:
    data = notes(vocab_size=100)
    # the was film good bad ok plot one, and padding and unknown
    assert data.tokenizer.get_vocab_size() == 10
    assert data.vocab_size == 100


def test_learning_twice_gives_the_same_tokenizer() -> None:
    assert notes().preprocess() == notes().preprocess()


@pytest.mark.parametrize(("side", "kept"), [("right", [2, 4, 3, 6]), ("left", [4, 3, 6, 5])])
def test_the_end_that_is_kept_of_a_long_text_is_a_choice(side: str, kept: list[int]) -> None:
    # the=2, was=3, film=4, bad=5, good=6
    assert notes(truncation_side=side).encode_texts(["the film was good bad"]).tolist() == [kept]


def test_short_texts_are_padded_on_the_right_and_an_empty_one_is_all_padding() -> None:
    data = notes()
    assert data.encode_texts(["the", ""]).tolist() == [[2, 0, 0, 0], [0, 0, 0, 0]]
    assert data.encode_texts([]).shape == (0, 4)


def test_ids_read_back_as_words() -> None:
    data = notes()
    assert data.decode(data.encode_texts(["The FILM, unheard!"])[0]) == "the film [UNK]"


@pytest.mark.parametrize(("vocab_size", "dtype"), [(32_768, torch.int16), (32_769, torch.int32)])
def test_ids_are_kept_small_and_delivered_as_int64(vocab_size: int, dtype: torch.dtype) -> None:
    data = notes(vocab_size=vocab_size)
    assert data.examples["train"].inputs.dtype == dtype
    tokens, labels = data.on_after_batch_transfer(next(iter(data.loader("test"))), 0)
    assert (tokens.dtype, labels.dtype) == (torch.int64, torch.int64)


# ---- duplicates


def test_texts_that_stand_in_test_or_stood_before_are_left_out_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    train = ["Good<br /><br />film", "a", "A", "b", "c", "d", "e"]
    data = Notes(
        RawDataset(["no", "yes"], examples(train), test=examples(["good film", "good film", "b"])), max_length=2
    )
    with caplog.at_level(logging.INFO):
        data.setup()
    seen = {name: {data.decode(tokens) for tokens in data.examples[name].inputs} for name in ("train", "val")}
    assert not seen["train"] & seen["val"]
    # "a", "c", "d" and "e" are left: labels 1, 0, 1, 0, half of each class is validation.
    assert (len(data.examples["train"]), len(data.examples["val"]), len(data.examples["test"])) == (2, 2, 3)
    assert "2 in test, 1 repeated" in caplog.text


def test_an_official_validation_split_loses_what_stands_in_train_or_test() -> None:
    source = split_source()
    val = examples(["the bad one", "good plot", "new", "newer"])
    data = Notes(RawDataset(source.names, source.train, val, source.test))
    data.setup()
    assert len(data.examples["train"]) == len(TRAIN)
    assert data.examples["val"].targets.tolist() == [0, 1]
    assert data.num_removed == {"in test": 1, "repeated": 1}


def test_without_a_test_split_repetitions_cannot_fall_into_two_splits() -> None:
    texts = [f"text {i // 2}" for i in range(40)]  # each twice, with labels 0 and 1
    labels = torch.arange(40) // 2 % 2
    data = Notes(RawDataset(["no", "yes"], Examples(texts, labels)), vocab_size=30)
    kept = data.split(data.source)
    everything = [text for split in kept.values() for text in split.inputs]
    assert sorted(everything) == sorted(set(texts))


# ---- what a run keeps


def test_a_later_setup_with_the_recorded_tokenizer_gives_the_same_tokens() -> None:
    first = notes()
    recorded = json.loads(json.dumps(first.preprocess()))
    later = Notes(split_source(["entirely other words", "stand here now"]), max_length=9, truncation_side="right")
    later.load_preprocess(recorded)
    assert torch.equal(later.encode_texts(TRAIN), first.examples["train"].inputs.long())
    later.setup()
    assert later.examples["test"].inputs.tolist() == first.examples["test"].inputs.tolist()
    assert later.preprocess() == recorded
    assert recorded["names"] == ["negative", "positive"]
    assert (recorded["max_length"], recorded["truncation_side"]) == (4, "left")


def test_the_recorded_json_alone_reproduces_the_tokens() -> None:
    data = notes()
    alone = Tokenizer.from_str(data.preprocess()["tokenizer"])
    text = "So<br />the FILM &amp; the good"
    assert alone.encode(text).ids == data.encode_texts([text])[0].tolist()


def test_a_recorded_vocabulary_larger_than_the_embedding_is_refused() -> None:
    with pytest.raises(UserError, match=r"data.vocab_size=6, .* knows 7 ids"):
        Notes(split_source(), vocab_size=6).load_preprocess(notes().preprocess())


# ---- a user's own texts


def given(words: str) -> list[tuple[int, str]]:
    """Number and text of each line."""
    data = notes()
    read = [data.load_input(line) for line in data.iter_inputs(words)]
    assert all(one.content == one.id_columns["input"] for one in read)
    return [(one.id_columns["line"], one.content) for one in read]


@pytest.mark.parametrize(
    ("content", "texts"),
    [
        (b"good film\n\n bad plot\t\n", ["good film", "", " bad plot\t"]),
        (b"good film\r\nbad plot", ["good film", "bad plot"]),
        (b"\xef\xbb\xbfgood\n\xef\xbb\xbfbad", ["good", "\ufeffbad"]),  # a byte order mark is one at the start alone
        ("caf\u00e9\u2028\u0085!\n".encode(), ["caf\u00e9\u2028\u0085!"]),
        (b"", []),
    ],
)
def test_a_file_has_a_text_a_line_numbered_as_an_editor_does(tmp_path: Path, content: bytes, texts: list[str]) -> None:
    (tmp_path / "texts").write_bytes(content)
    assert given(str(tmp_path / "texts")) == list(enumerate(texts, start=1))


def test_standard_input_has_a_text_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b"good film\n\nbad")))
    assert given("-") == [(1, "good film"), (2, ""), (3, "bad")]


@pytest.mark.parametrize(
    "text", ["good", "10/10, see it / twice", "the film.\nThe plot", "ends in a.txt, or not", "good " * 1000, "a\0b"]
)
def test_what_names_no_file_is_a_text(text: str) -> None:
    assert given(text) == [(1, text)]


def test_texts_are_treated_like_the_examples() -> None:
    data = notes()
    batch = data.collate([text for _, text in given("the film was bad")])
    tokens, _ = data.on_after_batch_transfer(batch, 0)
    assert batch[0].dtype == data.examples["train"].inputs.dtype
    assert tokens.tolist() == data.encode_texts(["the film was bad"]).tolist() == [[2, 4, 3, 5]]


@pytest.mark.parametrize("name", ["none.txt", "my texts.TXT", "reviews/*", "none/here"])
def test_what_looks_like_a_file_that_is_not_there_is_refused_at_once(name: str) -> None:
    with pytest.raises(UserError, match="there is no such file; give one with a text a line"):
        notes().iter_inputs(name)


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is a folder: give a file with a text a line"):
        notes().iter_inputs(str(tmp_path))


def test_a_file_that_may_not_be_read_is_refused_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "texts.txt").touch()
    monkeypatch.setattr(os, "access", lambda *_: False)  # as root, every file may be read
    with pytest.raises(UserError, match="this file may not be read"):
        notes().iter_inputs(str(tmp_path / "texts.txt"))


def test_a_line_that_is_no_utf_8_is_broken(tmp_path: Path) -> None:
    (tmp_path / "texts").write_bytes("good\ncaf\u00e9\n".encode("latin1"))
    data = notes()
    good, cafe = data.iter_inputs(str(tmp_path / "texts"))
    assert data.load_input(good).content == "good"
    assert str(cafe) == "line 2"
    with pytest.raises(ValueError, match="not UTF-8 from byte 4 on"):
        data.load_input(cafe)


# ---- the cache


def test_a_second_setup_loads_what_the_first_one_made(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    first = Notes(split_source(), dir=str(tmp_path))
    first.prepare_data()
    second = Notes(split_source(), dir=str(tmp_path))
    with caplog.at_level(logging.INFO):
        second.setup()
    assert (first.reads, second.reads) == (1, 0)
    assert tokens_of(second) == tokens_of(first)
    assert second.preprocess() == first.preprocess()
    assert "train: 5 examples, per class {'negative': 3, 'positive': 2}" in caplog.text
    assert [file.suffix for file in (tmp_path / "cache").iterdir()] == [".pt"]  # nothing half is left behind


@pytest.mark.parametrize(
    "other",
    [
        {"vocab_size": 6},
        {"max_length": 3},
        {"truncation_side": "right"},
        {"val_fraction": 0.4},
        {"test_fraction": 0.3},
        {"fold": 1},
        {"folds": 3},
        {"split_seed": 1},
    ],
)
def test_other_settings_do_not_find_the_cache(tmp_path: Path, other: dict[str, Any]) -> None:
    notes(dir=str(tmp_path))
    assert notes(dir=str(tmp_path)).reads == 0
    assert not any(file.exists() for file in Notes(split_source(), dir=str(tmp_path), **other)._cache_files())


def test_changed_texts_do_not_find_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notes(dir=str(tmp_path))
    monkeypatch.setattr(Notes, "version", 2)
    assert notes(dir=str(tmp_path)).reads == 1


def test_another_order_or_batch_size_finds_the_cache(tmp_path: Path) -> None:
    notes(dir=str(tmp_path))
    assert notes(dir=str(tmp_path), seed=5, batch_size=2).reads == 0


@pytest.mark.parametrize(
    "damage",
    [lambda whole: whole[:100], lambda whole: b"", lambda whole: whole[:-200] + bytes(200)],  # noqa: ARG005
    ids=["cut", "empty", "overwritten"],
)
def test_a_damaged_cache_file_is_made_anew(
    tmp_path: Path, damage: Callable[[bytes], bytes], caplog: pytest.LogCaptureFixture
) -> None:
    whole = notes(dir=str(tmp_path))
    (file,) = (tmp_path / "cache").iterdir()
    file.write_bytes(damage(file.read_bytes()))
    again = notes(dir=str(tmp_path))
    assert again.reads == 1
    assert tokens_of(again) == tokens_of(whole)
    assert f"{file} cannot be read" in caplog.text
    assert notes(dir=str(tmp_path)).reads == 0


def test_a_cache_file_of_another_make_is_made_anew(tmp_path: Path) -> None:
    notes(dir=str(tmp_path))
    (file,) = (tmp_path / "cache").iterdir()
    torch.save({"names": []}, file)
    assert notes(dir=str(tmp_path)).reads == 1


def test_a_folder_that_cannot_be_written_costs_the_cache_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    assert len(notes(dir=str(tmp_path)).examples["train"]) == len(TRAIN)
    assert "could not be cached" in caplog.text


def test_a_recorded_tokenizer_takes_the_cache_of_the_same_vocabulary_and_no_other(tmp_path: Path) -> None:
    made = notes(dir=str(tmp_path))
    same = Notes(split_source(), dir=str(tmp_path))
    same.load_preprocess(made.preprocess())
    same.setup()
    assert same.reads == 0

    other = Notes(split_source(), dir=str(tmp_path))
    other.load_preprocess(notes(["plot", "one", "ok"]).preprocess())
    other.setup()
    assert other.reads == 1
    assert tokens_of(other) != tokens_of(made)
    assert tokens_of(notes(dir=str(tmp_path))) == tokens_of(made)  # a run that learns is not given the recorded one


# ---- settings


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"truncation_side": "middle"}, "data.truncation_side=middle is none of left, right"),
        ({"vocab_size": 2}, "data.vocab_size=2 must be at least 3"),
        ({"max_length": 0}, "data.max_length=0"),
    ],
)
def test_impossible_settings_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        notes(**wrong)
