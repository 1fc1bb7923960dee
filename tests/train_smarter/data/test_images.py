import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import DictConfig, OmegaConf
from PIL import Image
from torch import Tensor

from train_smarter.config.build import build_data
from train_smarter.data.images import ImageFolder
from train_smarter.errors import UserError

Compose = Callable[..., DictConfig]
RED = [255, 0, 0]


def data(folder: Path, *, size: int = 8, **given: Any) -> ImageFolder:
    return ImageFolder(dir=str(folder), size=size, shape=[3, size, size], **({"num_classes": 2} | given))


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
    (folder / "red" / "photo.heic").touch()
    with caplog.at_level(logging.WARNING):
        data(folder).read()
    assert "files that are no known images, by kind: {'.heic': 1}" in caplog.text


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


def test_without_a_folder_the_config_has_a_gap(compose: Compose) -> None:
    assert OmegaConf.is_missing(compose("data=images").data, "dir")
