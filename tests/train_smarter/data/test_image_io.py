from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import CenterCrop, Compose, Resize

from train_smarter.data.image_files import list_images
from train_smarter.data.image_fit import check_resize, fit
from train_smarter.data.image_io import decode
from train_smarter.errors import UserError

RED = [255, 0, 0]


def decoded(file: Path, *, size: int) -> Tensor:
    """As RGB, (3, size, size)."""
    return decode(file, shape=(3, size, size))[0]


def colour(image: Tensor) -> list[int]:
    """The one colour of an image (C, H, W)."""
    values = image.flatten(1).unique(dim=1)
    assert values.shape[1] == 1, "more than one colour"
    return values[:, 0].tolist()  # type: ignore[no-any-return]


def saved(file: Path, painted: Any = "red", *, mode: str = "RGB", size: tuple[int, int] = (9, 9)) -> Path:
    Image.new(mode, size, painted).save(file)
    return file


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
    assert colour(decoded(file, size=4)) == expected


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
    assert colour(decoded(file, size=4)) == expected


def test_a_palette_with_a_transparent_colour_is_laid_on_white(tmp_path: Path) -> None:
    Image.new("P", (9, 9), 3).save(tmp_path / "image.gif", transparency=3)
    assert colour(decoded(tmp_path / "image.gif", size=4)) == [255, 255, 255]


def test_scaling_down_is_antialiased(tmp_path: Path) -> None:
    board = (np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)  # each second pixel white
    Image.fromarray(board).save(tmp_path / "board.png")
    inner = decoded(tmp_path / "board.png", size=8)[:, 1:-1, 1:-1].int()
    assert (inner - 127.5).abs().max() < 3  # half grey; picking single pixels would give 0 or 255


def test_a_photo_is_turned_upright(tmp_path: Path) -> None:
    photo = Image.new("RGB", (8, 8), "white")
    photo.paste("black", (0, 0, 8, 4))  # dark above
    exif = photo.getexif()
    exif[0x0112] = 6  # the camera was held on its side: to be turned clockwise by 90 degrees
    photo.save(tmp_path / "photo.png", exif=exif)
    upright = decoded(tmp_path / "photo.png", size=8)
    assert upright[:, :, :4].min() == 255  # dark on the right
    assert upright[:, :, 4:].max() == 0


@pytest.mark.parametrize(("side", "tolerance"), [(60, 0), (512, 4)])  # up to 4 * 16 pixels, all of the file is decoded
def test_a_jpeg_is_what_it_is_without_the_short_cut(
    tmp_path: Path, side: int, tolerance: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocks = np.random.default_rng(0).integers(0, 256, (side // 4, side // 4, 3), dtype=np.uint8)
    Image.fromarray(blocks).resize((side, side)).save(tmp_path / "photo.jpg", quality=95)
    quick = decoded(tmp_path / "photo.jpg", size=16).int()
    monkeypatch.setattr("PIL.JpegImagePlugin.JpegImageFile.draft", lambda *_: None)
    assert (quick - decoded(tmp_path / "photo.jpg", size=16)).abs().max() <= tolerance


# ---- the shape and the colours that a data set asks for


def test_an_image_gets_the_height_and_width_that_are_asked_for(tmp_path: Path) -> None:
    photo = Image.new("RGB", (16, 12), "white")
    photo.paste("black", (0, 0, 8, 12))  # dark on the left
    photo.save(tmp_path / "image.png")
    image, _ = decode(tmp_path / "image.png", shape=(3, 3, 8))
    assert image.shape == (3, 3, 8)
    assert image[:, :, :3].max() == 0
    assert image[:, :, 5:].min() == 255


@pytest.mark.parametrize(
    ("mode", "painted", "expected"),
    [
        ("RGB", "red", 76),  # 0.299 * 255 = 76.2
        ("RGB", "lime", 150),  # 0.587 * 255 = 149.7
        ("RGB", "blue", 29),  # 0.114 * 255 = 29.1
        ("L", 100, 100),
        ("1", 1, 255),
        ("P", "red", 76),
        ("RGBA", (0, 0, 0, 0), 255),  # transparent, on white
        ("I;16", 51400, 200),  # 200 * 257
    ],
)
def test_every_kind_of_image_becomes_grey_by_its_luminance(
    tmp_path: Path, mode: str, painted: Any, expected: int
) -> None:
    image, _ = decode(saved(tmp_path / "image.png", painted, mode=mode), shape=(1, 4, 4))
    assert image.shape == (1, 4, 4)
    assert colour(image) == [expected]


@pytest.mark.parametrize("channels", [1, 3])
def test_an_image_of_the_right_size_and_kind_is_taken_pixel_by_pixel(tmp_path: Path, channels: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (6, 8, channels), dtype=np.uint8)
    Image.fromarray(pixels.squeeze()).save(tmp_path / "image.png")
    image, changes = decode(tmp_path / "image.png", shape=(channels, 6, 8))
    assert torch.equal(image, torch.from_numpy(pixels).permute(2, 0, 1))
    assert not changes


@pytest.mark.parametrize(
    ("mode", "channels", "size", "changes"),
    [
        ("RGB", 3, (8, 6), ()),
        ("RGB", 3, (6, 8), ("scaled to 8x6",)),
        ("RGB", 1, (8, 6), ("converted to grey",)),
        ("L", 3, (9, 9), ("converted to RGB", "scaled to 8x6")),
        ("RGBA", 3, (8, 6), ("converted to RGB", "laid on white where transparent")),
    ],
)
def test_what_had_to_be_done_is_said(
    tmp_path: Path, mode: str, channels: int, size: tuple[int, int], changes: tuple[str, ...]
) -> None:
    file = saved(tmp_path / "image.png", 0, mode=mode, size=size)
    assert decode(file, shape=(channels, 6, 8))[1] == changes


def test_a_photo_that_is_turned_to_its_right_size_is_not_called_scaled(tmp_path: Path) -> None:
    photo = Image.new("RGB", (6, 8))
    exif = photo.getexif()
    exif[0x0112] = 6
    photo.save(tmp_path / "photo.png", exif=exif)
    assert decode(tmp_path / "photo.png", shape=(3, 6, 8))[1] == ()


@pytest.mark.parametrize("content", [b"", b"no image", b"\x89PNG\r\n\x1a\n"])
def test_a_broken_file_raises(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "image.png").write_bytes(content)
    with pytest.raises(OSError, match="cannot identify image file"):
        decode(tmp_path / "image.png", shape=(3, 4, 4))


def test_floats_have_no_known_range(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="save it with 8 or 16 bits"):
        decode(saved(tmp_path / "image.tif", 0.5, mode="F"), shape=(1, 4, 4))


def test_a_heic_photo_is_read_upright(tmp_path: Path) -> None:
    """Two quarters of a turned photo: 6 in its EXIF means that the left edge is shown at the top."""
    pytest.importorskip("pillow_heif").register_heif_opener()
    photo = Image.new("RGB", (64, 32), "red")
    photo.paste("blue", (0, 0, 32, 32))
    exif = photo.getexif()
    exif[0x0112] = 6
    photo.save(tmp_path / "photo.heic", quality=100, exif=exif.tobytes())
    image = decoded(tmp_path / "photo.heic", size=8).float()
    assert image[:, 1].mean(1).sub(torch.tensor([0.0, 0, 255])).abs().max() < 10  # top: blue
    assert image[:, -2].mean(1).sub(torch.tensor([255.0, 0, 0])).abs().max() < 10


def test_heic_files_are_images_with_the_extra_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a.HEIC", "b.heif", "c.png"):
        (tmp_path / name).touch()
    for installed, files, ignored in (
        (True, ["a.HEIC", "b.heif", "c.png"], {}),
        (False, ["c.png"], {".heic": 1, ".heif": 1}),
    ):
        monkeypatch.setattr("train_smarter.data.image_files.HAS_HEIF", installed)
        counted = Counter[str]()
        assert [file.name for file in list_images(tmp_path, counted)] == files
        assert counted == ignored


# ---- files of other proportions


def noise(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


@pytest.mark.parametrize(("width", "height"), [(40, 60), (61, 40), (16, 16), (9, 30), (17, 16), (200, 33)])
def test_a_crop_is_resize_and_center_crop_of_torchvision(width: int, height: int) -> None:
    expected = Compose([Resize(16), CenterCrop(16)])(noise(width, height))
    assert np.array_equal(np.asarray(fit(noise(width, height), (16, 16), resize="crop")), np.asarray(expected))


@pytest.mark.parametrize(
    ("size", "box"),
    [
        ((40, 20), (0, 4, 16, 12)),  # 16x8, four rows above and below
        ((10, 30), (6, 0, 11, 16)),  # 16 * 10 / 30 = 5.3, so 5 columns from (16 - 5) / 2 = 5.5 on, an even 6
        ((300, 1), (0, 8, 16, 9)),  # 16 / 300 of a row: one row
        ((8, 8), (0, 0, 16, 16)),
    ],
)
def test_a_padded_image_is_whole_and_has_black_bars(size: tuple[int, int], box: tuple[int, int, int, int]) -> None:
    found = fit(Image.new("RGB", size, "white"), (16, 16), resize="pad")
    assert found.size == (16, 16)
    assert found.getbbox() == box
    assert found.crop(box).getextrema() == ((255, 255),) * 3


@pytest.mark.parametrize(
    ("resize", "size", "change"),
    [
        ("crop", (16, 8), "scaled and cut to 8x8"),
        ("pad", (16, 8), "scaled and padded to 8x8"),
        ("pad", (16, 16), "scaled to 8x8"),
        ("stretch", (16, 8), "scaled to 8x8"),
    ],
)
def test_what_was_done_to_the_proportions_is_said(
    tmp_path: Path, resize: str, size: tuple[int, int], change: str
) -> None:
    file = saved(tmp_path / "image.png", size=size)
    image, changes = decode(file, shape=(3, 8, 8), resize=resize)
    assert image.shape == (3, 8, 8)
    assert changes == (change,)


@pytest.mark.parametrize("size", [(1200, 300), (300, 1200)])
@pytest.mark.parametrize("resize", ["crop", "pad"])
def test_a_long_jpeg_is_decoded_to_enough_pixels(
    tmp_path: Path, size: tuple[int, int], resize: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocks = np.random.default_rng(0).integers(0, 256, (size[1] // 20, size[0] // 20, 3), dtype=np.uint8)
    Image.fromarray(blocks).resize(size).save(tmp_path / "photo.jpg", quality=95)
    quick = decode(tmp_path / "photo.jpg", shape=(3, 16, 16), resize=resize)[0].int()
    monkeypatch.setattr("PIL.JpegImagePlugin.JpegImageFile.draft", lambda *_: None)
    assert (quick - decode(tmp_path / "photo.jpg", shape=(3, 16, 16), resize=resize)[0]).abs().max() <= 8


def test_an_unknown_way_is_answered_with_the_known_ones() -> None:
    with pytest.raises(UserError, match=r"data.resize=crp: give stretch .*, crop .* or pad .*; did you mean 'crop'\?"):
        check_resize("crp")
