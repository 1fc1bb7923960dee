import io
import logging
import os
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest

from train_smarter.data.image_files import describe_ignored, expand_input, list_images
from train_smarter.errors import UserError


def make(root: Path, *files: str) -> Path:
    """Empty files under `root`."""
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).touch()
    return root


def test_links_to_folders_are_followed_and_circles_end(tmp_path: Path) -> None:
    make(tmp_path, "cat/a.png", "cat/b/c.png", "elsewhere/d.png")
    (tmp_path / "cat" / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "cat" / "b" / "circle").symlink_to(tmp_path / "cat")
    files = list_images(tmp_path / "cat", Counter())
    assert [file.relative_to(tmp_path).as_posix() for file in files] == [
        *("cat/a.png", "cat/b/c.png", "cat/linked/d.png"),
    ]


def test_folders_that_archives_and_drives_add_are_skipped(tmp_path: Path) -> None:
    make(tmp_path, "cat/a.png", "cat/__MACOSX/a.png", "cat/@eaDir/a.png")
    assert [file.name for file in list_images(tmp_path, Counter())] == ["a.png"]


def test_a_hint_says_what_reads_heic_files() -> None:
    assert describe_ignored({".heic": 2, ".HEIF": 0, ".txt": 1}) == (
        "files that are no known images, by kind: {'.heic': 2, '.HEIF': 0, '.txt': 1}; "
        "to read the 2 HEIC files, type uv pip install -e '.[heic]'"
    )
    assert describe_ignored({".txt": 1}) == "files that are no known images, by kind: {'.txt': 1}"


# ---- by what a user types


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three images at three depths, beside what is none; the working directory is above them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    files = ("b.png", "a.JPG", "z/c.gif", "z/y/[d].png", "notes.txt", ".hidden.png", ".hidden/e.png")
    return make(tmp_path / "photos", *files).parent


def given(words: str) -> list[str]:
    return [file.as_posix() for file in expand_input(words)]


@pytest.mark.usefixtures("photos")
@pytest.mark.parametrize(
    ("words", "files"),
    [
        ("photos/b.png", ["photos/b.png"]),
        ("photos", ["photos/a.JPG", "photos/b.png", "photos/z/c.gif", "photos/z/y/[d].png"]),
        ("photos/z/", ["photos/z/c.gif", "photos/z/y/[d].png"]),
        ("photos/*.*", ["photos/a.JPG", "photos/b.png", "photos/notes.txt"]),  # what a glob names is taken
        ("photos/*", ["photos/a.JPG", "photos/b.png", "photos/notes.txt"]),
        ("photos/**/*.[gp][in][fg]", ["photos/b.png", "photos/z/c.gif", "photos/z/y/[d].png"]),
        ("photos/z/y/[d].png", ["photos/z/y/[d].png"]),  # a file is no glob
        ("photos/*.tif", []),
    ],
)
def test_a_file_a_folder_and_a_glob_name_images(words: str, files: list[str]) -> None:
    assert given(words) == files


def test_a_tilde_is_the_home_folder(photos: Path) -> None:
    assert given("~/photos/b.png") == [f"{photos.as_posix()}/photos/b.png"]


def test_files_of_a_folder_that_are_no_images_are_told(photos: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        given(str(photos / "photos"))
    assert "files that are no known images, by kind: {'.txt': 1}" in caplog.text


def test_standard_input_is_a_path_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = b"photos/b.png\r\n\n a b.png\nphotos/\xff.png"
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(lines)))
    assert list(expand_input("-")) == [Path("photos/b.png"), Path(" a b.png"), Path(os.fsdecode(b"photos/\xff.png"))]


def test_a_folder_is_listed_no_further_than_it_is_asked_for(photos: Path) -> None:
    files = expand_input(str(photos / "photos"))
    assert next(files).name == "a.JPG"
    make(photos / "photos", "z/new.png")
    assert [file.name for file in files] == ["b.png", "c.gif", "new.png", "[d].png"]


@pytest.mark.usefixtures("photos")
@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("photos/c.png", "there is no such image; .*; did you mean 'b.png'"),
        ("phots", "did you mean 'photos'"),
        ("photos/b.png/c.png", "there is no such image"),
        ("a fine film" * 100, "there is no such image"),
        ("a\0b", "there is no such image"),
        ("~nobody/b.png", "there is no such image"),
    ],
)
def test_what_is_not_there_is_refused_at_once(words: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        expand_input(words)


def test_a_folder_that_may_not_be_read_is_named(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scandir = os.scandir

    def locked(folder: str) -> object:
        if folder.endswith("z"):
            raise PermissionError(13, "Permission denied", folder)
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", locked)
    with pytest.raises(UserError, match="z cannot be read: Permission denied"):
        given(str(photos / "photos"))
