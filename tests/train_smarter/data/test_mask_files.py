"""Pairs of images and masks by their names. The files are empty: none is opened."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from train_smarter.data.mask_files import find_pairs
from train_smarter.errors import UserError


def make(root: Path, *files: str) -> Path:
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).touch()
    return root


def paired(root: Path, folder: str, masks: str) -> dict[str, list[tuple[str, str]]]:
    found = find_pairs(root / folder, masks if masks.isidentifier() else root / masks)
    return {
        split: [(photo.relative_to(root).as_posix(), mask.relative_to(root).as_posix()) for photo, mask in pairs]
        for split, pairs in found.splits.items()
    }


@pytest.mark.parametrize(
    ("files", "folder", "masks", "pairs"),
    [
        (["photos/a.jpg", "masks/a.png"], "photos", "./masks", {"train": [("photos/a.jpg", "masks/a.png")]}),
        (
            ["photos/b/a.jpg", "photos/c/a.jpg", "masks/b/a.png", "masks/c/a.tif"],
            "photos",
            "./masks",
            {"train": [("photos/b/a.jpg", "masks/b/a.png"), ("photos/c/a.jpg", "masks/c/a.tif")]},
        ),
        (
            ["photos/a.jpg", "photos/masks/a.png"],
            "photos",
            "masks",
            {"train": [("photos/a.jpg", "photos/masks/a.png")]},
        ),
        (
            ["images/train/a.jpg", "images/val/b.jpg", "masks/train/a.png", "masks/val/b.png"],
            "images",
            "./masks",
            {"train": [("images/train/a.jpg", "masks/train/a.png")], "val": [("images/val/b.jpg", "masks/val/b.png")]},
        ),
        (
            ["Train/images/a.jpg", "Train/masks/a.png", "Test/images/b.jpg", "Test/masks/b.png"],
            "",
            "masks",
            {
                "train": [("Train/images/a.jpg", "Train/masks/a.png")],
                "test": [("Test/images/b.jpg", "Test/masks/b.png")],
            },
        ),
        (
            ["train/a.jpg", "test/a.jpg", "masks/train_masks/a.png", "masks/test_masks/a.png"],
            "",
            "./masks",
            {"train": [("train/a.jpg", "masks/train_masks/a.png")], "test": [("test/a.jpg", "masks/test_masks/a.png")]},
        ),
        (["photos/7.jpg", "masks/7_mask.png"], "photos", "./masks", {"train": [("photos/7.jpg", "masks/7_mask.png")]}),
        (["both/7.jpg", "both/7-seg.png"], "both", "./both", {"train": [("both/7.jpg", "both/7-seg.png")]}),
    ],
    ids=["flat", "folders", "inside", "splits", "in each split", "masks named by split", "suffix", "one folder"],
)
def test_a_mask_belongs_to_the_image_of_the_same_name(
    tmp_path: Path, files: Sequence[str], folder: str, masks: str, pairs: dict[str, list[tuple[str, str]]]
) -> None:
    assert paired(make(tmp_path, *files), folder, masks) == pairs


def test_what_has_no_partner_is_left_out_and_noted(tmp_path: Path) -> None:
    make(tmp_path, "photos/a.jpg", "photos/b.jpg", "photos/x.txt", "masks/a.png", "masks/c.png")
    found = find_pairs(tmp_path / "photos", tmp_path / "masks")
    assert [photo.name for photo, _ in found.splits["train"]] == ["a.jpg"]
    assert found.ignored == {".txt": 1}
    assert found.notes == [
        f"1 of 2 images have no mask in {tmp_path}/masks and are left out: ['{tmp_path}/photos/b.jpg']",
        f"1 masks have no image: ['{tmp_path}/masks/c.png']",
    ]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["photos/a.jpg"], "data.masks={root}/masks is not a folder, here or in {root}/photos"),
        (["photos/a.jpg", "Masks/a.png"], "data.masks={root}/masks is not a folder, .*did you mean 'Masks'"),
        (["photos/a.jpg", "masks/a.txt"], "{root}/masks holds no mask"),
        (["photos/a.txt", "masks/a.png"], "{root}/photos holds no image"),
        (
            ["photos/a.jpg", "masks/1.png"],
            r"no image of {root}/photos has a mask in {root}/masks: a.jpg needs a.png there, which has \['1.png'\]",
        ),
        (
            ["photos/a.jpg", "masks/a.png", "masks/a_mask.png"],
            "two masks for one image, {root}/masks/a.png and {root}/masks/a_mask.png: keep one of them",
        ),
        (["photos/val/a.jpg", "masks/val/a.png"], "{root}/photos has no image with a mask in a folder for training"),
    ],
)
def test_folders_that_do_not_fit_are_refused(tmp_path: Path, files: Sequence[str], message: str) -> None:
    make(tmp_path, *files)
    with pytest.raises(UserError, match=message.format(root=tmp_path)):
        find_pairs(tmp_path / "photos", tmp_path / "masks")


def test_a_missing_folder_of_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data\.dir=.*nowhere is not a folder"):
        find_pairs(tmp_path / "nowhere", "masks")
