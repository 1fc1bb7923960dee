import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from train_smarter.data.folder import class_names, listing
from train_smarter.error import UserError


def make(root: Path, *files: str) -> Path:
    """Empty files under `root`; a name that ends with / is a folder."""
    for file in files:
        path = root / file
        (path if file.endswith("/") else path.parent).mkdir(parents=True, exist_ok=True)
        if not file.endswith("/"):
            path.touch()
    return root


def found(root: Path) -> dict[str, list[tuple[str, int]]]:
    splits = listing(root).splits
    return {
        split: [(file.relative_to(root).as_posix(), label) for file, label in files] for split, files in splits.items()
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
    assert listing(tmp_path).ignored == {".heic": 2, ".txt": 1}


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
        listing(make(tmp_path, *files))
    assert str(refused.value) == message.format(root=tmp_path, train=tmp_path / "train", val=tmp_path / "val")


@pytest.mark.parametrize("name", ["missing", "file.jpg"])
def test_what_is_not_a_folder_is_refused(tmp_path: Path, name: str) -> None:
    make(tmp_path, "file.jpg")
    with pytest.raises(UserError, match=rf"data\.dir=.*{name} is not a folder: give one"):
        class_names(tmp_path / name)


def test_classes_are_counted_without_torch_or_pillow() -> None:
    heavy = "import sys, train_smarter.data.folder; print({'torch', 'PIL', 'numpy'} & set(sys.modules))"
    answer = subprocess.run([sys.executable, "-c", heavy], capture_output=True, text=True, check=True, timeout=60)
    assert answer.stdout == "set()\n"
