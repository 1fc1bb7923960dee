import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from train_smarter.data.class_folders import class_names, list_folder, split_of
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


@pytest.mark.parametrize(
    ("train", "val", "test"),
    [
        ("train", "val", "test"),
        ("Train", "Valid", "Test"),
        ("TRAIN", "VAL", "TEST"),
        ("training", "validation", "testing"),
        ("train_set", "dev-set", "test_set"),
        ("trainset", "valset", "testset"),
        ("TrainImages", "DevImages", "EvalImages"),
        ("train2017", "val2017", "test2017"),
        ("seg_train/seg_train", "seg_dev/seg_dev", "seg_test/images"),
        ("Training data", "Validation data", "Holdout data"),
    ],
)
def test_folders_of_splits_are_found_in_any_usual_spelling(tmp_path: Path, train: str, val: str, test: str) -> None:
    make(tmp_path, f"{train}/cat/a.jpg", f"{train}/dog/b.jpg", f"{val}/dog/c.jpg", f"{test}/cat/d.jpg")
    assert class_names(tmp_path) == ["cat", "dog"]
    assert found(tmp_path) == {
        "train": [(f"{train}/cat/a.jpg", 0), (f"{train}/dog/b.jpg", 1)],
        "val": [(f"{val}/dog/c.jpg", 1)],
        "test": [(f"{test}/cat/d.jpg", 0)],
    }


@pytest.mark.parametrize("name", ["cat", "test tube", "train station", "validé", "2017", "set", "evaluator", "trains"])
def test_other_names_are_no_splits(name: str) -> None:
    assert split_of(name) is None


@pytest.mark.parametrize(
    ("files", "train", "note"),
    [
        (
            ["cat/a.jpg", "dog/b.jpg", "c.jpg"],
            ["cat/a.jpg", "dog/b.jpg"],
            "images in {root} next to the folders of classes are not used",
        ),
        (
            ["train/cat/a.jpg", "train/dog/b.jpg", "test/1.jpg", "test/2.jpg"],
            ["train/cat/a.jpg", "train/dog/b.jpg"],
            "the images of {root}/test have no class and are not used: for predictions of them, type "
            "predict run=last input={root}/test",
        ),
        (
            ["Train/cat/a.jpg", "Train/dog/b.jpg", "Test/unknown/1.jpg"],
            ["Train/cat/a.jpg", "Train/dog/b.jpg"],
            "the images of {root}/Test have no class and are not used: for predictions of them, type "
            "predict run=last input={root}/Test",
        ),
        (
            ["archive/images/cat/a.jpg", "archive/images/dog/b.jpg"],
            ["archive/images/cat/a.jpg", "archive/images/dog/b.jpg"],
            "the classes are in {root}/archive/images",
        ),
        (
            ["images/train/cat/a.jpg", "images/train/dog/b.jpg", "labels/a.txt"],
            ["images/train/cat/a.jpg", "images/train/dog/b.jpg"],
            "the classes are in {root}/images",
        ),
        (
            ["train/cat/a.jpg", "train/dog/b.jpg", "other/1.jpg"],
            ["train/cat/a.jpg", "train/dog/b.jpg"],
            "['other'] next to the folders of splits in {root} are not used",
        ),
        (
            ["cat/a.jpg", "dog/b.jpg", "test/cat/1.jpg"],
            ["cat/a.jpg", "dog/b.jpg"],
            "train is ['cat', 'dog'] in {root}, next to test",
        ),
    ],
    ids=[
        "loose",
        "flat test",
        "test/unknown",
        "folders around it",
        "beside others",
        "beside splits",
        "no train folder",
    ],
)
def test_what_is_not_used_or_guessed_is_noted(tmp_path: Path, files: list[str], train: list[str], note: str) -> None:
    make(tmp_path, *files)
    assert [file for file, _ in found(tmp_path)["train"]] == train
    assert list_folder(tmp_path).notes == [note.format(root=tmp_path)]


def test_splits_may_be_inside_of_the_classes(tmp_path: Path) -> None:
    make(tmp_path, "cat/train/a.jpg", "cat/test/b.jpg", "dog/train/c.jpg")
    assert found(tmp_path) == {
        "train": [("cat/train/a.jpg", 0), ("dog/train/c.jpg", 1)],
        "test": [("cat/test/b.jpg", 0)],
    }


def test_classes_are_chosen_and_ordered(tmp_path: Path) -> None:
    make(tmp_path, "train/cat/a.jpg", "train/dog/b.jpg", "train/owl/c.jpg", "test/dog/d.jpg", "test/cat/e.jpg")
    chosen = list_folder(tmp_path, ["owl", "cat"])
    assert chosen.names == ["owl", "cat"] == class_names(tmp_path, ["owl", "cat"])
    assert [(file.name, label) for file, label in zip(chosen.splits["train"].files, [0, 1], strict=True)] == [
        *(("c.jpg", 0), ("a.jpg", 1)),
    ]
    assert [file.name for file in chosen.splits["test"].files] == ["e.jpg"]
    assert chosen.notes == ["classes that data.classes leaves out: ['dog']"]


def test_a_chosen_class_may_be_named_like_a_split(tmp_path: Path) -> None:
    make(tmp_path, "cat/a.jpg", "dog/b.jpg", "test/c.jpg")
    assert class_names(tmp_path, ["cat", "dog", "test"]) == ["cat", "dog", "test"]
    assert class_names(tmp_path, ["cat", "dog"]) == ["cat", "dog"]


def test_a_link_to_a_folder_around_it_is_no_class(tmp_path: Path) -> None:
    make(tmp_path, "photos/cat/a.jpg", "photos/dog/b.jpg", "elsewhere/c.jpg")
    (tmp_path / "photos" / "again").symlink_to(tmp_path / "photos")
    (tmp_path / "photos" / "owl").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "photos" / "itself").symlink_to(tmp_path / "photos" / "itself")
    assert class_names(tmp_path / "photos") == ["cat", "dog", "owl"]
    make(tmp_path, "split/train/cat/a.jpg", "split/train/dog/b.jpg")
    (tmp_path / "split" / "train" / "again").symlink_to(tmp_path / "split")
    assert class_names(tmp_path / "split") == ["cat", "dog"]


@pytest.mark.parametrize("name", [os.fsdecode(b"caf\xe9"), "a\nb"])
def test_a_name_that_is_no_text_is_refused(tmp_path: Path, name: str) -> None:
    make(tmp_path, "cat/a.jpg", f"{name}/b.jpg")
    with pytest.raises(UserError) as refused:
        class_names(tmp_path)
    assert str(refused.value).startswith("the name of a class is no printable UTF-8 text, rename the folder ")
    str(refused.value).encode()
    assert "\n" not in str(refused.value)


def test_names_with_any_characters_are_classes(tmp_path: Path) -> None:
    names = ["a,b", "c=[d]", "${e}", "f g", "ü", "'"]
    make(tmp_path, *(f"{name}/1.jpg" for name in names))
    assert class_names(tmp_path) == sorted(names)


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
    make(tmp_path, "cat/a.jpg", "cat/b.xcf", "cat/c.XCF", "dog/d.jpg", "dog/notes.txt")
    assert list_folder(tmp_path).ignored == {".xcf": 2, ".txt": 1}


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
        (
            ["cat/a.jpg", "dog/", "owl/b.jpg"],
            "{root}: no image in ['dog']; fill or remove what is no class, or type 'data.classes=[cat,owl]'",
        ),
        (
            ["train/cat/a.jpg", "train/dog/", "test/dog/a.jpg"],
            "{train}: no image in ['dog']; fill or remove what is no class, or type 'data.classes=[cat]'",
        ),
        (
            ["train/cat/a.jpg", "train/dog/b.jpg", "val/dogs/c.jpg"],
            "{val} has classes that train lacks: ['dogs']; train has ['cat', 'dog']; did you mean 'dog'?",
        ),
        (
            ["train/cat/a.jpg", "train/dog/b.jpg", "val/dog/c.jpg", "valid/dog/c.jpg"],
            "{root} has several validation folders, ['val', 'valid']: keep one of them",
        ),
        (
            ["Train/a.jpg", "Test/b.jpg"],
            "{root}/Train holds no folder for each class: make one for each, Train/<class>/; or give a table of files "
            "and labels, data.file=...",
        ),
        (
            ["cat/a.jpg", "dog/b.jpg", "test/c.jpg"],
            "{root} has ['test'], named like a split, next to ['cat', 'dog']: to leave it out, type "
            "'data.classes=[cat,dog]'; to make it a class, 'data.classes=[cat,dog,test]'",
        ),
        (
            ["val/cat/a.jpg", "val/dog/b.jpg", "test/cat/c.jpg"],
            "{root} has ['test', 'val'] and no folder for training: call the one to train on {root}/train",
        ),
        (
            ["train/cat/a.jpg", "train/dog/b.jpg", "val/Cat/c.jpg"],
            "{val} has classes that train lacks: ['Cat']; train has ['cat', 'dog']; is 'Cat' 'cat'? Rename it",
        ),
        (
            ["cat/a.jpg", "Cat/b.jpg", "dog/c.jpg"],
            "{root} has the classes ['Cat', 'cat'], which differ in case or spaces alone: put their images into one "
            "folder; or, if they are two classes, type data.classes=[...] with all of them",
        ),
        (
            ["images/a.jpg", "masks/a.png"],
            "{root} holds images and masks, no classes: type data.dir={root}/images data.masks={root}/masks "
            "task=segmentation",
        ),
        (
            ["train/images/a.jpg", "train/masks/a.png", "test/images/b.jpg", "test/masks/b.png"],
            "{root} holds images and masks, no classes: type data.dir={root} data.masks=masks task=segmentation",
        ),
        (
            ["bottle/train/good/a.jpg", "bottle/test/bad/b.jpg", "cable/train/good/c.jpg", "cable/test/bad/d.jpg"],
            "{root} holds several data sets, ['bottle', 'cable']: give one of them, data.dir={root}/bottle",
        ),
        (
            ["cat/train/a.jpg", "cat/test/b.jpg", "dog/c.jpg"],
            "{root}: ['cat'] have folders of splits, but ['dog'] no train",
        ),
    ],
    ids=[
        "empty",
        "no classes",
        "one class",
        "no image",
        "an empty class",
        "missing in train",
        "unknown",
        "two val",
        *("no classes in train", "flat test beside classes", "no train", "another case", "two cases"),
        *("masks", "masks in splits", "several data sets", "no train in a class"),
    ],
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
