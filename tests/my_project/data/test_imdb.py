import os
import random
import tarfile
from pathlib import Path
from typing import Any

import pytest

from my_project.data import imdb
from my_project.data.imdb import FOLDERS, IMDB
from train_smarter.errors import UserError

FILES = 4  # reviews in a folder, instead of 12,500


def write_tree(root: Path) -> Path:
    """A tiny official tree; each review says where it stands."""
    for folder in FOLDERS:
        (root / folder).mkdir(parents=True)
        for number in range(FILES):
            text = f"A film<br />of {folder} number{number}"
            (root / folder / f"{number}_7.txt").write_text(text, encoding="utf-8")
    return root


def write_sample(folder: Path) -> list[str]:
    """Write the official layout with 30 reviews in each folder, of random words, for the contract tests."""
    words = [
        "a",
        "the",
        "film",
        "plot",
        "was",
        "good",
        "bad",
        "fine",
        "dull",
        "great",
        "awful<br",
        "/><br",
        "/>and",
        "it",
        "is",
    ]
    generator = random.Random(0)
    for part in FOLDERS:
        (folder / "aclImdb" / part).mkdir(parents=True)
        for number in range(30):
            text = " ".join(generator.choices(words, k=40)) + f" {part} {number}"
            (folder / "aclImdb" / part / f"{number}_1.txt").write_text(text, encoding="utf8")
    return ["data.files_per_folder=30"]


def reviews(home: Path, **data: Any) -> IMDB:
    facts = {"vocab_size": 50, "max_length": 8, "num_classes": 2, "val_fraction": 0.25, "files_per_folder": FILES}
    settings = facts | data
    return IMDB(dir=str(home), urls=["https://example.invalid/reviews.tar.gz"], md5="0", **settings)


def test_the_official_tree_is_read_in_a_fixed_order(tmp_path: Path) -> None:
    write_tree(tmp_path / "aclImdb")
    source = reviews(tmp_path).read()
    assert source.names == ["negative", "positive"]
    assert source.train.inputs[0] == "A film<br />of train/neg number0"
    assert source.train.inputs[-1] == "A film<br />of train/pos number3"
    assert source.train.targets.tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    assert source.test is not None
    assert source.test.inputs[4] == "A film<br />of test/pos number0"


def test_reviews_become_words_and_validation_comes_from_train_alone(tmp_path: Path) -> None:
    write_tree(tmp_path / "aclImdb")
    data = reviews(tmp_path)
    data.prepare_data()
    data.setup()
    # a quarter of 4 in each of two classes is validation
    assert {name: len(examples) for name, examples in data.examples.items()} == {"train": 6, "val": 2, "test": 8}
    assert data.decode(data.examples["val"].inputs[0]).startswith("a film of train neg")
    assert data.decode(data.examples["test"].inputs[0]) == "a film of [UNK] neg number0"


def test_the_cache_follows_the_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write_tree(tmp_path / "aclImdb")
    reviews(tmp_path).setup()
    with monkeypatch.context() as patch:
        patch.setattr(IMDB, "read", lambda _: pytest.fail("read again"))
        reviews(tmp_path).setup()
    (root / "train/neg/0_7.txt").unlink()
    os.utime(root / "train/neg", ns=(1, 1))  # whatever the clock's grain
    with pytest.raises(UserError, match="holds 3 reviews instead of 4"):
        reviews(tmp_path).setup()


@pytest.mark.parametrize("missing", FOLDERS)
def test_half_a_tree_is_refused_with_the_way_out(tmp_path: Path, missing: str) -> None:
    root = write_tree(tmp_path / "aclImdb")
    for file in (root / missing).iterdir():
        file.unlink()
    with pytest.raises(UserError, match=rf"{missing} holds 0 reviews instead of 4: delete {root} and start again"):
        reviews(tmp_path).setup()


def test_a_missing_tree_is_downloaded_and_unpacked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[list[str], str]] = []

    def fetch(urls: list[str], dest: Path, *, md5: str, hint: str) -> Path:
        asked.append((urls, md5))
        assert "data=phrases" in hint
        with tarfile.open(dest, "w:gz") as tar:
            tar.add(write_tree(tmp_path / "elsewhere"), "aclImdb")
        return dest

    monkeypatch.setattr(imdb, "fetch", fetch)
    home = tmp_path / "data"
    home.mkdir()
    for _ in range(2):
        data = reviews(home)
        data.prepare_data()
        assert len(data.examples["test"]) == 2 * FILES
    assert asked == [(["https://example.invalid/reviews.tar.gz"], "0")]


def test_without_download_nothing_is_written_to_the_folder(tmp_path: Path) -> None:
    write_tree(tmp_path / "aclImdb")
    before = sorted(tmp_path.rglob("*"))
    data = reviews(tmp_path, download=False)
    data.prepare_data()
    data.setup()
    assert sorted(tmp_path.rglob("*")) == before
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"type paths\.data=\.\.\. or data\.dir=\.\.\. yourself"):
        reviews(tmp_path / "empty", download=False).prepare_data()
    assert not list((tmp_path / "empty").iterdir())
