import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import DictConfig
from PIL import Image
from torch import Tensor

from train_smarter.config.build import build_data
from train_smarter.config.check import check
from train_smarter.data.images import ImageFolder
from train_smarter.errors import UserError

Compose = Callable[..., DictConfig]
RED = [255, 0, 0]


def data(folder: Path, *, size: int = 8, **given: Any) -> ImageFolder:
    settings: dict[str, Any] = {"dir": str(folder), "num_classes": 2, "cache_dir": str(folder.parent / "cache")} | given
    return ImageFolder(size=size, shape=[3, size, size], **settings)


def paint(file: Path, colour: str = "red", *, size: tuple[int, int] = (10, 10), mode: str = "RGB") -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour).save(file)
    return file


def colour(image: Tensor) -> list[int]:
    """The one colour of an image (3, H, W)."""
    values = image.flatten(1).unique(dim=1)
    assert values.shape == (3, 1), "more than one colour"
    return values[:, 0].tolist()  # type: ignore[no-any-return]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Ten images of each of two classes, of two colours and ten sizes."""
    for number in range(10):
        paint(tmp_path / "blue" / f"{number}.png", "blue", size=(5 + number, 20))
        paint(tmp_path / "red" / f"{number}.png", "red", size=(30, 5 + number))
    return tmp_path


def test_images_of_all_sizes_become_one_size_with_the_label_of_their_folder(folder: Path) -> None:
    source = data(folder).read()
    assert source.names == ["blue", "red"]
    assert source.train.inputs.shape == (20, 3, 8, 8)
    assert source.train.inputs.dtype == torch.uint8
    for image, label in zip(source.train.inputs.read(), source.train.targets.tolist(), strict=True):
        assert colour(image) == ([0, 0, 255], RED)[label]


def test_without_folders_of_splits_test_and_validation_are_cut(folder: Path) -> None:
    images = data(folder)
    images.setup()
    # of 10 in each class, 0.2 make 2 of test; 0.1 of the other 8 makes 0.8, so 1 of validation
    assert {name: len(examples) for name, examples in images.examples.items()} == {"train": 14, "val": 2, "test": 4}


def test_folders_of_splits_are_kept_apart(tmp_path: Path) -> None:
    counts = {"train": 3, "valid": 2, "test": 1}
    for split, count in counts.items():
        for number in range(count):
            paint(tmp_path / split / "a" / f"{number}.png")
            paint(tmp_path / split / "b" / f"{number}.png")
    images = data(tmp_path)
    images.setup()
    assert {name: len(examples) for name, examples in images.examples.items()} == {"train": 6, "val": 4, "test": 2}


def test_the_size_is_kept_for_later_images(folder: Path) -> None:
    assert data(folder, size=8).preprocess()["size"] == 8


def test_the_model_may_see_less_than_what_is_kept(folder: Path, compose: Compose) -> None:
    cfg = compose("data=images", f"data.dir={folder}", "data.size=12", "data.crop=8", "data.resize=pad")
    assert list(cfg.data.shape) == [3, 8, 8]
    images = build_data(cfg)
    assert isinstance(images, ImageFolder)
    images.setup()
    (inputs, targets) = next(iter(images.val_dataloader()))
    assert inputs.shape == (2, 3, 12, 12)
    assert images.on_after_batch_transfer((inputs, targets), 0)[0].shape == (2, 3, 8, 8)
    assert images.load_input(folder / "red" / "0.png").content.shape == (3, 12, 12)
    assert images.preprocess()["resize"] == "pad"


def test_without_a_crop_the_model_sees_the_whole(folder: Path, compose: Compose) -> None:
    assert list(compose("data=images", f"data.dir={folder}", "data.size=12").data.shape) == [3, 12, 12]


def test_a_crop_larger_than_the_images_is_refused(folder: Path) -> None:
    with pytest.raises(UserError, match=r"data.crop=9 is larger than data.size=8: give at most 8, or a larger size"):
        data(folder, crop=9)


@pytest.mark.parametrize("size", [0, -4, 16.5, "big", True])
def test_a_size_that_is_no_number_of_pixels_is_refused(folder: Path, size: Any) -> None:
    message = f"data.{{}}={size}: give a whole number of pixels, at least 1"
    for key in ("size", "crop"):
        with pytest.raises(UserError) as caught:
            ImageFolder(dir=str(folder), num_classes=2, shape=[3, 8, 8], **{key: size})
        assert str(caught.value) == message.format(key)


def test_a_folder_may_be_named_like_a_number(
    folder: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path_factory.mktemp("home")
    (home / "2024").symlink_to(folder)
    monkeypatch.chdir(home)
    images = ImageFolder(dir=2024, num_classes=2, size=8, shape=[3, 8, 8])
    assert len(images.read().train) == 20


def test_broken_files_are_named_and_skipped(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    cut = folder / "blue" / "0.png"
    Image.effect_noise((64, 64), 50).save(cut)
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    (folder / "red" / "text.jpg").write_text("no image")
    (folder / "red" / "empty.jpg").touch()
    Image.new("F", (9, 9), 0.5).save(folder / "red" / "float.tif")
    with caplog.at_level(logging.WARNING):
        train = data(folder).read().train
    assert [colour(image) for image in train.inputs.read()] == [[0, 0, 255]] * 9 + [RED] * 10
    assert train.targets.tolist() == [0] * 9 + [1] * 10
    named = {
        "blue/0.png": "image file is truncated",
        "red/empty.jpg": "not an image",
        "red/float.tif": "pixels are floats, of which no range is known; save it with 8 or 16 bits",
        "red/text.jpg": "not an image",
    }
    for message, (name, why) in zip(sorted(caplog.messages), named.items(), strict=True):
        assert message.startswith(f"{folder / name} is broken and left out: {why}")


def test_files_of_other_kinds_are_told(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    (folder / "red" / "photo.xcf").touch()
    with caplog.at_level(logging.WARNING):
        data(folder).read()
    assert "files that are no known images, by kind: {'.xcf': 1}" in caplog.text


def test_a_class_of_broken_files_is_refused(tmp_path: Path) -> None:
    paint(tmp_path / "a" / "1.png")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "1.png").touch()
    with pytest.raises(UserError, match=r"not one image of \['b'\] can be read; the log names the broken files"):
        data(tmp_path).read()


def test_classes_and_shape_follow_from_the_folder_and_the_size(folder: Path, compose: Compose) -> None:
    paint(folder / "green" / "1.png", "green")
    images = build_data(compose("data=images", f"data.dir='{folder}'", "data.size=16", "seed=3"))
    assert isinstance(images, ImageFolder)
    assert (images.num_classes, images.shape, images.seed) == (3, (3, 16, 16), 3)


def test_without_a_folder_or_a_table_the_config_says_what_to_type(compose: Compose) -> None:
    with pytest.raises(UserError, match=r"data\.dir has no value yet: type data.dir=<folder of images>, or data.file="):
        check(compose("data=images"))


# ---- masks


@pytest.fixture
def painted(tmp_path: Path) -> Path:
    """Ten images of 20 x 10 pixels, each with a mask whose left half is white."""
    for number in range(10):
        paint(tmp_path / "photos" / f"{number}.jpg", "blue", size=(20, 10))
        mask = Image.new("L", (20, 10))
        mask.paste(255, (0, 0, 10, 10))
        (tmp_path / "masks").mkdir(exist_ok=True)
        mask.save(tmp_path / "masks" / f"{number}.png")
    return tmp_path


def masked(folder: Path, **given: Any) -> ImageFolder:
    images = data(folder / "photos", masks=str(folder / "masks"), **given)
    images.setup()
    return images


def test_masks_are_classes_of_pixels(painted: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        images = masked(painted)
    assert images.names == ["background", "foreground"]
    inputs, masks = images.examples["train"].read(torch.arange(7))
    assert inputs.shape == (7, 3, 8, 8)
    assert masks.dtype == torch.uint8
    assert masks.equal(torch.tensor([1, 1, 1, 1, 0, 0, 0, 0], dtype=torch.uint8).expand(7, 8, 8))
    assert "pixels of the masks: background 50.0%, foreground 50.0% (values 0, 255)" in caplog.text


def test_a_broken_mask_and_one_of_another_size_are_named_and_left_out(
    painted: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (painted / "masks" / "3.png").write_bytes(b"no image")
    Image.new("L", (10, 10)).save(painted / "masks" / "4.png")
    (painted / "masks" / "5.png").unlink()
    (painted / "masks" / "5.png").symlink_to("nowhere")
    with caplog.at_level(logging.INFO):
        images = masked(painted)
    assert sum(map(len, images.examples.values())) == 7
    assert f"{painted}/photos/5.jpg is left out: {painted}/masks/5.png is broken or no image" in caplog.text
    folder = f"{painted}/photos"
    assert f"{folder}/3.jpg is left out: {painted}/masks/3.png is broken or no image" in caplog.text
    assert f"{folder}/4.jpg is left out: {painted}/masks/4.png has 10x10 pixels, but 4.jpg 20x10" in caplog.text


def test_a_past_run_says_what_the_values_of_masks_mean(painted: Path) -> None:
    trained = masked(painted)
    known = trained.preprocess()
    assert (known["names"], known["mask_values"]) == (["background", "foreground"], [0, 255])
    for file in (painted / "masks").iterdir():  # masks of another folder may lack a value
        Image.new("L", (20, 10), 255).save(file)
    later = data(painted / "photos", masks=str(painted / "masks"))
    later.load_preprocess(known)
    later.setup()
    assert later.examples["test"].read(torch.arange(2))[1].unique().tolist() == [1]


def test_masks_train_a_segmentation_and_count_their_classes(painted: Path, compose: Compose) -> None:
    words = [
        "data=images",
        f"data.dir='{painted}/photos'",
        f"data.masks='{painted}/masks'",
        "task=segmentation",
        f"paths.data={painted}",
    ]
    cfg = compose(*words, "model=unet_tiny", "data.size=8")
    check(cfg)
    assert (cfg.data.num_classes, cfg.data.num_targets, cfg.task.num_classes) == (2, None, 2)


# ---- a table


def test_a_table_gives_images_their_targets(folder: Path) -> None:
    lines = [f"blue/{n}.png,{n / 2},p{n // 2}" for n in range(10)]
    (folder / "labels.csv").write_text("\n".join(["path,length,who", *lines, "red/missing.png,1,p9"]))
    (folder / "blue" / "9.png").write_bytes(b"no image")
    images = data(folder, dir=None, file=str(folder / "labels.csv"), target="length", num_classes=None, group="who")
    source = images.read()
    assert (source.names, source.strata) == (["length"], None)
    assert source.train.read(torch.arange(9))[1].equal(torch.arange(9)[:, None] / 2)
    assert source.groups is not None
    assert source.groups.unique(return_counts=True)[1].tolist() == [2, 2, 2, 2, 1]


def test_the_classes_of_a_table_are_counted_and_its_column_of_paths_is_found(folder: Path, compose: Compose) -> None:
    lines = [f"{kind}/{n}.png,{kind}" for kind in ("red", "blue") for n in range(10)]
    (folder / "labels.csv").write_text("\n".join(["path,kind", *lines]))
    cfg = compose("data=images", f"data.file='{folder}/labels.csv'", "data.target=kind", "data.size=8")
    check(cfg)
    images = build_data(cfg)
    images.setup("fit")
    assert isinstance(images, ImageFolder)
    assert images.names == ["blue", "red"]
    inputs, classes = images.examples["test"].read(torch.arange(4))
    assert [colour(image) for image in inputs] == [([0, 0, 255], RED)[label] for label in classes.tolist()]
