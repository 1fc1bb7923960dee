import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import DictConfig, OmegaConf
from PIL import Image
from torch import Tensor

from train_smarter.build import build_data
from train_smarter.data.images import Images, decode
from train_smarter.error import UserError

Compose = Callable[..., DictConfig]
RED = [255, 0, 0]


def data(folder: Path, *, size: int = 8, **given: Any) -> Images:
    return Images(dir=str(folder), size=size, shape=[3, size, size], **({"num_classes": 2} | given))


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
    for image, label in zip(source.train.inputs, source.train.labels.tolist(), strict=True):
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


@pytest.mark.parametrize(
    ("mode", "painted", "expected"),
    [
        ("L", 100, [100, 100, 100]),
        ("1", 1, [255, 255, 255]),
        ("RGBA", (255, 0, 0, 255), RED),
        ("RGBA", (255, 0, 0, 0), [255, 255, 255]),  # transparent, on white
        ("RGBA", (255, 0, 0, 51), [255, 204, 204]),  # a fifth of red on four of white: 0.8 * 255 = 204
        ("LA", (0, 255), [0, 0, 0]),
        ("P", "red", RED),
        ("I;16", 51400, [200, 200, 200]),  # 200 * 257, which 8 bits call 200
        ("I;16", 255, [0, 0, 0]),
    ],
)
def test_every_kind_of_image_becomes_rgb(tmp_path: Path, mode: str, painted: Any, expected: list[int]) -> None:
    file = tmp_path / "image.png"
    Image.new(mode, (9, 9), painted).save(file)
    assert colour(decode(file, size=4)) == expected


@pytest.mark.parametrize(
    ("suffix", "mode", "painted", "expected"),
    [
        ("tif", "CMYK", (0, 255, 255, 0), RED),
        ("tif", "I", 51400, [200, 200, 200]),
        ("gif", "RGB", "red", RED),
        ("bmp", "RGB", "red", RED),
        ("ppm", "RGB", "red", RED),
        ("jpg", "L", 100, [100, 100, 100]),
    ],
)
def test_every_kind_of_file_becomes_rgb(
    tmp_path: Path, suffix: str, mode: str, painted: Any, expected: list[int]
) -> None:
    file = tmp_path / f"image.{suffix}"
    Image.new(mode, (9, 9), painted).save(file)
    assert colour(decode(file, size=4)) == expected


def test_a_palette_with_a_transparent_colour_is_laid_on_white(tmp_path: Path) -> None:
    Image.new("P", (9, 9), 3).save(tmp_path / "image.gif", transparency=3)
    assert colour(decode(tmp_path / "image.gif", size=4)) == [255, 255, 255]


def test_scaling_down_is_antialiased(tmp_path: Path) -> None:
    board = (np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)  # each second pixel white
    Image.fromarray(board).save(tmp_path / "board.png")
    inner = decode(tmp_path / "board.png", size=8)[:, 1:-1, 1:-1].int()
    assert (inner - 127.5).abs().max() < 3  # half grey; picking single pixels would give 0 or 255


def test_a_photo_is_turned_upright(tmp_path: Path) -> None:
    photo = Image.new("RGB", (8, 8), "white")
    photo.paste("black", (0, 0, 8, 4))  # dark above
    exif = photo.getexif()
    exif[0x0112] = 6  # the camera was held on its side: to be turned clockwise by 90 degrees
    photo.save(tmp_path / "photo.png", exif=exif)
    upright = decode(tmp_path / "photo.png", size=8)
    assert upright[:, :, :4].min() == 255  # dark on the right
    assert upright[:, :, 4:].max() == 0


@pytest.mark.parametrize(("side", "tolerance"), [(60, 0), (512, 4)])  # up to 4 * 16 pixels, all of the file is decoded
def test_a_jpeg_is_what_it_is_without_the_short_cut(
    tmp_path: Path, side: int, tolerance: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocks = np.random.default_rng(0).integers(0, 256, (side // 4, side // 4, 3), dtype=np.uint8)
    Image.fromarray(blocks).resize((side, side)).save(tmp_path / "photo.jpg", quality=95)
    quick = decode(tmp_path / "photo.jpg", size=16).int()
    monkeypatch.setattr("PIL.JpegImagePlugin.JpegImageFile.draft", lambda *_: None)
    assert (quick - decode(tmp_path / "photo.jpg", size=16)).abs().max() <= tolerance


def test_broken_files_are_named_and_skipped(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    cut = folder / "blue" / "0.png"
    Image.effect_noise((64, 64), 50).save(cut)
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    (folder / "red" / "text.jpg").write_text("no image")
    (folder / "red" / "empty.jpg").touch()
    Image.new("F", (9, 9), 0.5).save(folder / "red" / "float.tif")
    with caplog.at_level(logging.WARNING):
        train = data(folder).read().train
    assert [colour(image) for image in train.inputs] == [[0, 0, 255]] * 9 + [RED] * 10
    assert train.labels.tolist() == [0] * 9 + [1] * 10
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
    assert isinstance(images, Images)
    assert (images.num_classes, images.shape, images.seed) == (3, (3, 16, 16), 3)


def test_without_a_folder_the_config_has_a_gap(compose: Compose) -> None:
    assert OmegaConf.is_missing(compose("data=images").data, "dir")
