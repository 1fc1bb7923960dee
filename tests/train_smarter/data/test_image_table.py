"""Images that a table names. The files are empty: none is opened."""

from pathlib import Path
from typing import Any

import pytest

from train_smarter.data.image_listing import ImageListing
from train_smarter.data.image_source import ImageSource
from train_smarter.errors import UserError


def write(root: Path, table: str, *files: str, name: str = "labels.csv") -> Path:
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).touch()
    (root / name).write_text(table)
    return root / name


def listed(table: Path, **keys: Any) -> ImageListing:
    return ImageSource.of({"file": str(table), "target": "label", **keys}).list()


def rows(found: ImageListing, root: Path, split: str = "train") -> list[tuple[str, Any]]:
    examples = found.splits[split]
    pairs = zip(examples.files, examples.targets, strict=True)
    return [(file.relative_to(root).as_posix(), target) for file, target in pairs]


TABLE = "path,label,x,y,split,who\nb.jpg,dog,1.5,0,train,p\nin/a.png,cat,2,1,test,q\nc.jpg,dog,3,1,train,p\n"
FILES = ("b.jpg", "in/a.png", "c.jpg")


def test_a_column_of_texts_is_classes(tmp_path: Path) -> None:
    found = listed(write(tmp_path, TABLE, *FILES))
    assert (found.kind, found.names) == ("classes", ["cat", "dog"])
    assert rows(found, tmp_path) == [("b.jpg", 1), ("in/a.png", 0), ("c.jpg", 1)]


def test_several_columns_are_numbers_or_labels(tmp_path: Path) -> None:
    file = write(tmp_path, TABLE.replace("2,1,test", "2,2,test"), *FILES)
    found = listed(file, target=["x", "y"])
    assert (found.kind, found.names) == ("numbers", ["x", "y"])
    assert rows(found, tmp_path)[0] == ("b.jpg", [1.5, 0.0])
    labels = write(tmp_path, "path,round,red\nb.jpg,0,1\nc.jpg,1,1\n")
    found = listed(labels, target=["round", "red"])
    assert (found.kind, rows(found, tmp_path)) == ("labels", [("b.jpg", [0.0, 1.0]), ("c.jpg", [1.0, 1.0])])


def test_a_column_says_the_split_and_another_the_group(tmp_path: Path) -> None:
    file = write(tmp_path, TABLE.replace("in/a.png,cat", "in/a.png,dog").replace("c.jpg,dog", "c.jpg,cat"), *FILES)
    found = listed(file, split_column="split", group="who")
    assert rows(found, tmp_path) == [("b.jpg", 1), ("c.jpg", 0)]
    assert rows(found, tmp_path, "test") == [("in/a.png", 1)]
    assert len(set(found.splits["train"].groups or [])) == 1


def test_paths_begin_from_the_table_or_from_the_given_folder(tmp_path: Path) -> None:
    file = write(tmp_path, "path,label\nb.jpg,dog\nin\\a.png,cat\n", "photos/b.jpg", "in/a.png")
    assert rows(listed(file, dir=str(tmp_path / "photos")), tmp_path) == [("photos/b.jpg", 1), ("in/a.png", 0)]


def test_names_without_a_suffix_are_found(tmp_path: Path) -> None:
    file = write(tmp_path, "id,label\n07,dog\n08,cat\n", "photos/07.jpg", "photos/sub/08.png")
    found = listed(file, dir=str(tmp_path / "photos"), image="id")
    assert rows(found, tmp_path) == [("photos/07.jpg", 1), ("photos/sub/08.png", 0)]


def test_a_cell_that_is_no_path_is_an_image_that_is_not_there(tmp_path: Path) -> None:
    cells = ["~nobody/b.jpg", "x" * 5000 + ".jpg", "", "in"]
    file = write(
        tmp_path, "\n".join(["path,label", *(f"{cell},dog" for cell in cells), "b.jpg,cat"]), "b.jpg", "in/a.png"
    )
    assert rows(listed(file, image="path"), tmp_path) == [("b.jpg", 0)]


def test_images_that_are_not_there_are_left_out_and_the_first_one_is_named(tmp_path: Path) -> None:
    file = write(tmp_path, TABLE, "b.jpg", "in/a.png")
    found = listed(file)
    assert rows(found, tmp_path) == [("b.jpg", 1), ("in/a.png", 0)]
    assert f"images that are not there are left out, 1 of 3: {file}, line 4, there is no c.jpg" in found.notes


@pytest.mark.parametrize(
    ("table", "keys", "message"),
    [
        (TABLE, {}, r"labels\.csv, line 2, column 'path': there is no image 'b.jpg' .*type data\.dir=<folder that"),
        (TABLE, {"target": None}, r"data\.target has no value yet: .*labels\.csv has path, label, x, y, split, who"),
        (TABLE, {"target": "lable"}, "data.target=lable: .*no such column; did you mean 'label'"),
        (TABLE, {"image": "file"}, r"data\.image=file: .*no such column"),
        ("a,b,label\n1.jpg,2.jpg,x\n", {}, r"data\.image has no value yet: .*; a, b hold names of images"),
        ("id,label\n1,x\n2,y\n", {}, r"data\.image has no value yet: .*labels\.csv has id"),
        (TABLE, {"masks": "masks"}, "data.file and data.masks both say what belongs to an image"),
        (TABLE, {"classes": ["cat", "dog"]}, "data.classes chooses folders .* with data.file, leave it out"),
        (TABLE, {"file": None, "dir": "photos"}, "data.target=label is a column of a table: type data.file=<table>"),
        (TABLE, {"file": None, "target": None}, "data.dir has no value yet: type data.dir=.* or data.file=<table>"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, table: str, keys: dict[str, Any], message: str) -> None:
    file = write(tmp_path, table)
    with pytest.raises(UserError, match=message):
        listed(file, **keys)


REPEATED = "path,label,split\nb.jpg,dog,train\nc.jpg,cat,train\nb.jpg,dog,train\n"


def test_the_rows_of_one_image_are_a_group_where_a_split_is_cut(tmp_path: Path) -> None:
    file = write(tmp_path, REPEATED.replace("b.jpg,dog,train\nc", "b.jpg,dog,train\nin/../b.jpg,cat,train\nc"), *FILES)
    found = listed(file)
    assert found.splits["train"].groups == [0, 0, 1, 0]
    note = (
        f"4 rows of train name 2 images, 3 of them {tmp_path}/b.jpg: rows of one image are never divided between splits"
    )
    assert note in found.notes
    grouped = listed(file, image="path", group="label")
    assert note not in grouped.notes
    assert grouped.splits["train"].groups == [0, 1, 1, 0]


def test_images_that_each_have_a_row_have_no_groups(tmp_path: Path) -> None:
    assert listed(write(tmp_path, TABLE, *FILES)).splits["train"].groups is None


def test_images_in_several_rows_are_not_noted_where_every_split_is_official(tmp_path: Path) -> None:
    table = REPEATED + "c.jpg,cat,val\nc.jpg,cat,test\n"
    notes = listed(write(tmp_path, table, *FILES), split_column="split").notes
    assert not any("rows of train name" in note for note in notes)


def test_a_name_without_a_suffix_that_two_images_have_is_refused(tmp_path: Path) -> None:
    file = write(tmp_path, "id,label\n08,cat\n07,dog\n", "photos/07.jpg", "photos/sub/07.png", "photos/08.png")
    with pytest.raises(UserError) as caught:
        listed(file, dir=str(tmp_path / "photos"), image="id")
    assert str(caught.value) == (
        f"{file}, line 3: 07 is the name of several images, {tmp_path}/photos/07.jpg, {tmp_path}/photos/sub/07.png: "
        "write the path with its suffix into the table, or keep one of them"
    )
    (tmp_path / "photos/07.jpg").rename(tmp_path / "photos/09.jpg")
    assert rows(listed(file, dir=str(tmp_path / "photos"), image="id"), tmp_path)[1] == ("photos/sub/07.png", 1)


@pytest.mark.parametrize("kind", ["numbers", "labels"])
def test_a_task_that_needs_a_table_says_so(tmp_path: Path, kind: str) -> None:
    for keys, has in (({}, "one class by their folder"), ({"masks": "masks"}, "a class for each pixel")):
        with pytest.raises(UserError, match=f"the images have {has}, but the task needs {kind}: type data.file="):
            ImageSource.of({"dir": str(tmp_path), "target_type": kind, **keys})


@pytest.mark.parametrize("classes", ["cat", ["cat"], ["cat", "cat"]])
def test_classes_are_a_list_of_different_names(tmp_path: Path, classes: Any) -> None:
    with pytest.raises(UserError, match=r"data\.classes="):
        ImageSource.of({"dir": str(tmp_path), "classes": classes})


def test_what_a_table_counts(tmp_path: Path) -> None:
    file = str(write(tmp_path, TABLE, *FILES))
    assert ImageSource.of({"file": file, "target": "label"}).count() == {"num_classes": 2, "num_targets": None}
    assert ImageSource.of({"file": file, "target": ["x"], "target_type": "numbers"}).count() == {
        "num_classes": None,
        "num_targets": 1,
    }
