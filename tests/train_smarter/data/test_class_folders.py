import io
import logging
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest

from train_smarter.data.class_folders import class_names, expand_input, list_folder
from train_smarter.errors import UserError


def make(root: Path, *files: str) -> Path:
    """Empty files under `root`; a name that ends with / is a folder."""
    for file in files:
        path = root / file
        (path if file.endswith("/") else path.parent).mkdir(parents=True, exist_ok=True)
        if not file.endswith("/"):
            path.touch()
    return root


def found(root: Path) -> dict[str, list[tuple[str, int]]]:
    splits = list_folder(root).splits
    return {
        split: [
            (file.relative_to(root).as_posix(), label)
            for file, label in zip(examples.files, examples.targets, strict=True)
        ]
        for split, examples in splits.items()
    }


def test_each_folder_is_a_class_in_the_order_of_its_name(tmp_path: Path) -> None:
    make(tmp_path, "dog/b.jpg", "dog/a.PNG", "cat/1.jpeg", "readme.jpg")
    assert class_names(tmp_path) == ["cat", "dog"]
    assert found(tmp_path) == {"train": [("cat/1.jpeg", 0), ("dog/a.PNG", 1), ("dog/b.jpg", 1)]}


def test_images_are_found_at_any_depth(tmp_path: Path) -> None:
    make(tmp_path, "cat/one/a.jpg", "cat/b.jpg", "dog/c.jpg")
    assert found(tmp_path) == {"train": [("cat/b.jpg", 0), ("cat/one/a.jpg", 0), ("dog/c.jpg", 1)]}


@pytest.mark.parametrize("validation", ["val", "valid", "validation"])
def test_folders_of_splits_are_taken_as_such(tmp_path: Path, validation: str) -> None:
    make(tmp_path, "train/cat/a.jpg", "train/dog/b.jpg", f"{validation}/dog/c.jpg", "test/cat/d.jpg", "test/dog/e.jpg")
    assert class_names(tmp_path) == ["cat", "dog"]
    assert found(tmp_path) == {
        "train": [("train/cat/a.jpg", 0), ("train/dog/b.jpg", 1)],
        "val": [(f"{validation}/dog/c.jpg", 1)],
        "test": [("test/cat/d.jpg", 0), ("test/dog/e.jpg", 1)],
    }


def test_a_test_folder_alone_leaves_validation_to_be_cut(tmp_path: Path) -> None:
    make(tmp_path, "train/cat/a.jpg", "train/dog/b.jpg", "test/cat/c.jpg", "val/")
    assert list(found(tmp_path)) == ["train", "test"]


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    make(tmp_path, "train/a.jpg", "bus/b.jpg")
    assert class_names(tmp_path) == ["bus", "train"]


def test_hidden_files_and_folders_are_passed_over(tmp_path: Path) -> None:
    make(tmp_path, "cat/a.jpg", "cat/._a.jpg", "cat/.thumbs/a.jpg", "dog/b.jpg", ".cache/c.jpg")
    assert found(tmp_path) == {"train": [("cat/a.jpg", 0), ("dog/b.jpg", 1)]}


def test_files_of_other_kinds_are_counted(tmp_path: Path) -> None:
    make(tmp_path, "cat/a.jpg", "cat/b.heic", "cat/c.HEIC", "dog/d.jpg", "dog/notes.txt")
    assert list_folder(tmp_path).ignored == {".heic": 2, ".txt": 1}


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([], "data.dir={root} needs a folder of images for each of at least two classes, not []"),
        (["a.jpg", "b.jpg"], "data.dir={root} needs a folder of images for each of at least two classes, not []"),
        (["cat/a.jpg"], "data.dir={root} needs a folder of images for each of at least two classes, not ['cat']"),
        (
            ["cat/", "dog/a.txt"],
            "{root} holds no image (.avif .bmp .gif .jfif .jpeg .jpg .pbm .pgm .png .ppm .tif .tiff .webp) "
            "in the folders of its classes",
        ),
        (["cat/a.jpg", "dog/"], "{root}: no image in ['dog']; fill or remove what is no class"),
        (
            ["train/cat/a.jpg", "train/dog/", "test/dog/a.jpg"],
            "{train}: no image in ['dog']; fill or remove what is no class",
        ),
        (
            ["train/cat/a.jpg", "train/dog/b.jpg", "val/dogs/c.jpg"],
            "{val} has classes that train lacks: ['dogs']; train has ['cat', 'dog']",
        ),
        (
            ["train/cat/a.jpg", "train/dog/b.jpg", "val/dog/c.jpg", "valid/dog/c.jpg"],
            "{root} has several validation folders, ['val', 'valid']: keep one of them",
        ),
    ],
    ids=["empty", "no classes", "one class", "no image", "an empty class", "missing in train", "unknown", "two val"],
)
def test_a_folder_that_cannot_be_learned_from_is_refused_in_one_line(
    tmp_path: Path, files: Sequence[str], message: str
) -> None:
    with pytest.raises(UserError) as refused:
        list_folder(make(tmp_path, *files))
    assert str(refused.value) == message.format(root=tmp_path, train=tmp_path / "train", val=tmp_path / "val")


@pytest.mark.parametrize("name", ["missing", "file.jpg"])
def test_what_is_not_a_folder_is_refused(tmp_path: Path, name: str) -> None:
    make(tmp_path, "file.jpg")
    with pytest.raises(UserError, match=rf"data\.dir=.*{name} is not a folder: give one"):
        class_names(tmp_path / name)


def test_classes_are_counted_without_torch_or_pillow() -> None:
    heavy = "import sys, train_smarter.data.class_folders; print({'torch', 'PIL', 'numpy'} & set(sys.modules))"
    answer = subprocess.run([sys.executable, "-c", heavy], capture_output=True, text=True, check=True, timeout=60)
    assert answer.stdout == "set()\n"


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
