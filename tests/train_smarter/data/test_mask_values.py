"""From the pixels of masks to classes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from train_smarter.data.image_fit import fit
from train_smarter.data.mask_values import MaskClasses, MaskDecoder, count_values, decide_classes, read_mask
from train_smarter.errors import UserError

PIXELS = np.array([[0, 1], [2, 255]])


def save(file: Path, pixels: Any, mode: str | None = None) -> Path:
    image = Image.fromarray(np.asarray(pixels))
    if mode == "P":
        image = image.convert("L")
        image.putpalette([value for _ in range(256) for value in (9, 9, 9)])
    elif mode:
        image = image.convert(mode)
    image.save(file)
    return file


@pytest.mark.parametrize("mode", ["L", "P", "RGB", "LA"])
def test_a_mask_is_read_as_numbers_whatever_its_kind(tmp_path: Path, mode: str) -> None:
    file = save(tmp_path / "mask.png", PIXELS.astype(np.uint8), mode)
    assert read_mask(file).tolist() == PIXELS.tolist()


def test_masks_of_one_and_of_sixteen_bits_are_read(tmp_path: Path) -> None:
    assert read_mask(save(tmp_path / "a.png", np.array([[False, True]]))).tolist() == [[0, 1]]
    assert read_mask(save(tmp_path / "b.png", np.array([[7, 65535]], np.uint16))).tolist() == [[7, 65535]]


def test_a_mask_in_colours_is_refused(tmp_path: Path) -> None:
    file = save(tmp_path / "mask.png", np.full((2, 2, 3), (255, 0, 0), np.uint8))
    with pytest.raises(ValueError, match="is in colours; save it with the number of its class in each pixel"):
        read_mask(file)


@pytest.mark.parametrize(
    ("values", "given", "names", "meaning"),
    [
        ([0, 1, 2], {}, ["0", "1", "2"], None),
        ([0, 1, 2, 255], {}, ["0", "1", "2"], None),  # 255 is no class
        ([0, 2, 5], {}, ["0", "1", "2", "3", "4", "5"], None),  # a class may be absent
        ([0, 1], {}, ["background", "foreground"], None),
        ([0, 255], {}, ["background", "foreground"], (0, 255)),  # white on black
        ([0, 65535], {}, ["background", "foreground"], (0, 65535)),
        ([0, 255], {"count": 2}, ["background", "foreground"], (0, 255)),
        ([0, 1, 2], {"count": 5}, ["0", "1", "2", "3", "4"], None),
        ([0, 1], {"classes": ["road", "car"]}, ["road", "car"], None),
        ([0, 255], {"classes": ["road", "car"]}, ["road", "car"], (0, 255)),
        ([0, 50, 100], {"classes": ["road", "car", "sky"]}, ["road", "car", "sky"], (0, 50, 100)),
        ([0, 1], {"classes": ["road", "car", "sky"]}, ["road", "car", "sky"], None),
    ],
)
def test_values_are_classes(
    values: list[int], given: dict[str, Any], names: list[str], meaning: tuple[int, ...] | None
) -> None:
    assert decide_classes(dict.fromkeys(values, 9), where="masks", **given) == MaskClasses(names, meaning)


@pytest.mark.parametrize(
    ("values", "given", "message"),
    [
        ([0], {}, r"every pixel of the masks has the value \['0'\]"),
        ([0, 50, 100], {}, r"hold the values \['0', '50', '100'\], which are no classes 0, 1, 2, ...; JPEG changes"),
        ([0, 1, 7], {"count": 2}, "data.num_classes=2, but the masks hold 3 values"),
        ([0, 50, 100], {"classes": ["a", "b"]}, "data.classes has 2 names, but the masks hold 3 values"),
    ],
)
def test_values_that_are_no_classes_are_refused(values: list[int], given: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        decide_classes(dict.fromkeys(values, 9), where="masks", **given)


def test_masks_are_scaled_to_the_nearest_pixel_as_pillow_does(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 9, (17, 23)).astype(np.uint8)
    decoded = MaskDecoder(8, 30, 9)(save(tmp_path / "mask.png", pixels))
    assert np.array_equal(decoded, np.asarray(Image.fromarray(pixels).resize((30, 8), Image.Resampling.NEAREST)))


@pytest.mark.parametrize(
    ("resize", "size"), [("crop", (17, 23)), ("crop", (40, 11)), ("pad", (17, 23)), ("pad", (40, 11))]
)
def test_masks_of_other_proportions_are_cut_and_padded_as_their_images_are(
    tmp_path: Path, resize: str, size: tuple[int, int]
) -> None:
    """A mask of one class, 1, and its image, white: both have the same bars, of no class and of black."""
    file = save(tmp_path / "mask.png", np.full(size[::-1], 1, np.uint8))
    image = np.asarray(fit(Image.new("L", size, 1), (8, 8), resize=resize))
    assert np.array_equal(MaskDecoder(8, 8, 2, resize=resize)(file), np.where(image, 1, 255))
    assert (image == 0).any() == (resize == "pad")


def test_the_middle_of_a_mask_is_cut_out(tmp_path: Path) -> None:
    file = save(tmp_path / "mask.png", np.array([[0, 1, 2, 3], [4, 5, 6, 7]], np.uint8))
    assert MaskDecoder(2, 2, 8, resize="crop")(file).tolist() == [[1, 2], [5, 6]]


def test_decoded_pixels_are_classes(tmp_path: Path) -> None:
    white = save(tmp_path / "white.png", np.array([[0, 255]], np.uint8))
    assert MaskDecoder(1, 2, 2, (0, 255))(white).tolist() == [[0, 1]]
    assert MaskDecoder(1, 2, 2)(white).tolist() == [[0, 255]]  # no class
    deep = save(tmp_path / "deep.png", np.array([[7, 65535]], np.uint16))
    assert MaskDecoder(1, 2, 2, (7, 65535))(deep).tolist() == [[0, 1]]


def test_a_value_that_is_no_class_is_named(tmp_path: Path) -> None:
    file = save(tmp_path / "mask.png", np.array([[0, 3, 4]], np.uint8))
    with pytest.raises(ValueError, match=r"pixels of the value \['3', '4'\]; the classes are 0 to 2, and 255 is none"):
        MaskDecoder(1, 3, 3)(file)


def test_pixels_are_counted_and_masks_that_do_not_fit_are_named(tmp_path: Path) -> None:
    pairs = []
    for name, (width, height), mask in [
        ("good", (4, 2), np.array([[0, 0, 1, 1], [0, 0, 0, 1]])),
        ("half", (8, 4), np.array([[2, 2, 2, 2], [2, 2, 2, 2]])),  # the same proportions
        ("wide", (64, 64), np.zeros((32, 64))),
    ]:
        photo = tmp_path / f"{name}.jpg"
        Image.new("RGB", (width, height)).save(photo)
        pairs.append((photo, save(tmp_path / f"{name}.png", mask.astype(np.uint8))))
    (tmp_path / "cut.png").write_bytes(b"no image")
    pairs.append((pairs[0][0].with_name("cut.jpg"), tmp_path / "cut.png"))
    counted = count_values(pairs)
    assert counted.pixels == {0: 5, 1: 3, 2: 8}
    assert counted.broken == {
        tmp_path / "wide.jpg": f"{tmp_path}/wide.png has 64x32 pixels, but wide.jpg 64x64",
        tmp_path / "cut.jpg": f"{tmp_path}/cut.png is broken or no image",
    }


def test_a_photo_that_is_shown_turned_has_a_mask_of_the_shown_size(tmp_path: Path) -> None:
    photo = Image.new("RGB", (60, 20))
    exif = photo.getexif()
    exif[0x0112] = 6
    photo.save(tmp_path / "a.jpg", exif=exif)
    upright = save(tmp_path / "a.png", np.eye(60, 20, dtype=np.uint8))
    raw = save(tmp_path / "b.png", np.eye(20, 60, dtype=np.uint8))
    assert not count_values([(tmp_path / "a.jpg", upright)]).broken
    assert count_values([(tmp_path / "a.jpg", raw)]).broken
