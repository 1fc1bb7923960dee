import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from train_smarter.data import image_moves
from train_smarter.data.augment import ColorJitter, Crop, Cutout, Erase, Flip, ResizedCrop, Rotation
from train_smarter.data.examples import SPLITS, Examples, RawDataset
from train_smarter.data.image_data import ImageData, image_of
from train_smarter.data.mixing import CutMix, MixUp
from train_smarter.data.policies import RandAugment, TrivialAugment
from train_smarter.errors import UserError

BARE: dict[str, Any] = {
    "accelerator": "cpu",
    "logger": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "enable_checkpointing": False,
}


class Grey(ImageData):
    """Twelve images of each split, two classes, all of them grey: pixel value 51, a fifth."""

    def __init__(self, **data: Any) -> None:
        super().__init__(**{"num_classes": 2, "shape": [1, 4, 4], "batch_size": 4, "eval_batch_size": 8, **data})

    def read(self) -> RawDataset:
        examples = Examples(torch.full((12, 1, 4, 4), 51, dtype=torch.uint8), torch.arange(12) % 2)
        return RawDataset(["even", "odd"], examples, examples, examples)


class Noise:
    """An augmentation that adds a number of its own to each image, and writes the numbers down."""

    def __init__(self) -> None:
        self.drawn: list[Tensor] = []
        self.before: list[Tensor] = []

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        self.before.append(images.clone())
        self.drawn.append(torch.rand(len(images), 1, 1, 1, generator=generator, device=images.device))
        return images + self.drawn[-1]


class Watcher(lightning.LightningModule):
    """Writes down the images that each kind of step receives."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.seen: dict[str, list[Tensor]] = {"train": [], "val": [], "test": []}

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:  # noqa: ARG002
        self.seen["train"].append(batch[0])
        return self.weight * batch[0].mean()

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:  # noqa: ARG002
        self.seen["val"].append(batch[0])

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int, dataloader_idx: int = 0) -> None:  # noqa: ARG002
        self.seen["test"].append(batch[0])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fitted(augment: Mapping[str, Any], *, epochs: int = 1, **data: Any) -> Watcher:
    """What a training and a test run over all splits see."""
    watcher, grey = Watcher(), Grey(augment=augment, **data)
    trainer = lightning.Trainer(**BARE, max_epochs=epochs)
    trainer.fit(watcher, datamodule=grey)
    grey.splits = SPLITS
    trainer.test(watcher, datamodule=grey, verbose=False)
    return watcher


def numbers(noise: Noise) -> list[list[float]]:
    return [drawn.flatten().tolist() for drawn in noise.drawn]


def model_sees(data: ImageData, *pixels: int) -> list[float]:
    """What becomes of one image whose channels have one value each, outside of training."""
    image = torch.tensor(pixels, dtype=torch.uint8)[None, :, None, None].expand(1, -1, 4, 4)
    seen = data.on_after_batch_transfer((image, torch.zeros(1)), 0)[0]
    assert (seen.shape, seen.dtype) == (image.shape, torch.float32)
    values: list[float] = seen[0, :, 0, 0].tolist()
    return values


# ---- normalised


@pytest.mark.parametrize(("pixel", "expected"), [(0, -1.0), (255, 1.0), (51, -0.6)])  # (51 / 255 - 0.5) / 0.5
def test_pixels_are_normalised(pixel: int, expected: float) -> None:
    assert model_sees(Grey(mean=0.5, std=0.5), pixel) == pytest.approx([expected])


def test_each_channel_has_a_mean_and_a_deviation_of_its_own() -> None:
    data = Grey(shape=[3, 4, 4], mean=[0.0, 0.2, 0.5], std=[1.0, 0.4, 0.25])
    # (51 / 255 - 0) / 1, (51 / 255 - 0.2) / 0.4, (255 / 255 - 0.5) / 0.25
    assert model_sees(data, 51, 51, 255) == pytest.approx([0.2, 0.0, 2.0], abs=1e-6)


def test_a_batch_leaves_the_examples_in_memory_as_they_are() -> None:
    watcher = fitted({"noise": Noise()})
    assert watcher.seen["train"][0].dtype == torch.float32
    data = Grey()
    data.setup()
    for inputs, labels in data.train_dataloader():
        data.on_after_batch_transfer((inputs, labels), 0)
    assert data.examples["train"].inputs.eq(51).all()
    assert data.examples["train"].inputs.dtype == torch.uint8


@pytest.mark.parametrize(("precision", "dtype"), [("64-true", torch.float64), ("bf16-true", torch.bfloat16)])
def test_images_have_the_precision_of_the_model(precision: Any, dtype: torch.dtype) -> None:
    watcher, noise = Watcher(), Noise()
    lightning.Trainer(**BARE, max_epochs=1, precision=precision).fit(watcher, datamodule=Grey(augment={"noise": noise}))
    assert {images.dtype for images in watcher.seen["train"] + watcher.seen["val"]} == {dtype}


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_large_batch_is_normalised_in_pieces_to_the_same_numbers(
    dtype: torch.dtype, layout: torch.memory_format, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = Grey(shape=[3, 40, 30], mean=[0.1, 0.2, 0.3], std=[0.4, 0.5, 0.6])
    drawn = torch.randint(0, 256, (11, 3, 40, 30), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    images = (drawn if dtype == torch.uint8 else drawn / 255).contiguous(memory_format=layout)
    before = images.clone()
    whole = data.normalize(images)
    monkeypatch.setattr(image_moves, "PIECE_BYTES", 4 * images[0].nbytes)  # four at a time, and three at last
    found = data.normalize(images)
    assert found.equal(whole)
    assert found.stride() == whole.stride()
    assert images.equal(before)


# ---- augmented in training alone


def test_augmentation_sees_every_training_batch_and_no_other() -> None:
    noise = Noise()
    watcher = fitted({"noise": noise}, epochs=2)
    assert len(noise.drawn) == 6  # 2 epochs of 12 / 4 batches
    clean = -0.6  # (51 / 255 - 0.5) / 0.5
    for drawn, images in zip(noise.drawn, watcher.seen["train"], strict=True):
        assert images.sub(clean + drawn / 0.5).abs().max() < 1e-6
    assert len(watcher.seen["val"]) == 6  # 8 and 4 of 12: the sanity check, and after each of 2 epochs
    assert len(watcher.seen["test"]) == 6  # 8 and 4 of 12, in three splits
    for images in watcher.seen["val"] + watcher.seen["test"]:
        assert images.sub(clean).abs().max() < 1e-6


def test_augmentation_sees_numbers_from_0_to_1() -> None:
    noise = Noise()
    fitted({"noise": noise})
    assert all(images.sub(0.2).abs().max() < 1e-6 for images in noise.before)  # 51 / 255


def test_augmentations_follow_each_other_in_the_order_of_their_names_in_the_config() -> None:
    steps: list[str] = []

    def step(name: str) -> Any:
        def noted(images: Tensor, _: torch.Generator) -> Tensor:
            steps.append(name)
            return images

        return noted

    fitted({"second": step("second"), "first": step("first")})
    assert steps == ["second", "first"] * 3


def test_a_null_entry_is_left_out() -> None:
    noise = Noise()
    assert list(Grey(augment={"flip": None, "noise": noise}).augment) == ["noise"]
    assert fitted({"flip": None}).seen["train"][0].sub(-0.6).abs().max() < 1e-6


def test_plain_training_is_not_augmented() -> None:
    noise = Noise()
    fitted({"noise": noise}, shuffle=False)
    assert not noise.drawn


# ---- random by seed, batch and example


def test_each_example_and_each_batch_of_each_epoch_is_augmented_in_its_own_way() -> None:
    noise = Noise()
    fitted({"noise": noise}, epochs=2)
    assert len({number for batch in numbers(noise) for number in batch}) == 24  # 2 epochs of 12 examples


def test_the_same_seed_repeats_the_augmentation_whatever_else_was_drawn() -> None:
    one, again = Noise(), Noise()
    torch.manual_seed(0)
    fitted({"noise": one}, seed=3)
    torch.manual_seed(99)
    fitted({"noise": again}, seed=3)
    assert numbers(one) == numbers(again)


def test_another_seed_augments_in_another_way() -> None:
    one, other = Noise(), Noise()
    fitted({"noise": one}, seed=3)
    fitted({"noise": other}, seed=4)
    assert not set(numbers(one)[0]) & set(numbers(other)[0])


def test_training_draws_nothing_from_the_global_random_state() -> None:
    before = torch.get_rng_state()
    fitted({"noise": Noise()})
    assert torch.equal(torch.get_rng_state(), before)


# ---- a user's own images


@pytest.mark.parametrize("channels", [1, 3])
def test_a_file_is_treated_like_the_example_that_it_was_saved_from(tmp_path: Path, channels: int) -> None:
    data = Grey(shape=[channels, 5, 4], mean=0.3)
    pixels = np.random.default_rng(0).integers(0, 256, (5, 4, channels), dtype=np.uint8)
    Image.fromarray(pixels.squeeze()).save(tmp_path / "a.png")
    example = Examples(torch.from_numpy(pixels).permute(2, 0, 1)[None], torch.zeros(1, dtype=torch.long))
    encoded = data.encode({"test": example})["test"]

    (file,) = data.iter_inputs(str(tmp_path / "a.png"))
    read = data.load_input(file)
    images, targets = data.collate([read.content])
    assert (read.id_columns, read.conversions) == ({"input": str(tmp_path / "a.png")}, ())
    assert torch.equal(images, encoded.inputs)
    assert images.is_contiguous(memory_format=torch.channels_last)  # as the examples: the same to the last digit
    assert targets is None


def test_a_file_of_another_size_and_kind_is_converted_and_that_is_told(tmp_path: Path) -> None:
    Image.new("RGB", (30, 20), "white").save(tmp_path / "a.png")
    read = Grey().load_input(tmp_path / "a.png")
    assert read.content.tolist() == [[[255] * 4] * 4]
    assert read.conversions == ("converted to grey", "scaled to 4x4")


def test_images_of_a_number_of_channels_that_no_file_has_are_refused() -> None:
    with pytest.raises(UserError, match=r"no file is read as an image of 4 channels; type split=test"):
        Grey(shape=[4, 4, 4]).iter_inputs("photos")


# ---- held against reality


def test_a_wrong_shape_is_refused() -> None:
    with pytest.raises(UserError, match=r"data.shape=\[1, 8, 8\], but the images of Grey are \[1, 4, 4\]"):
        Grey(shape=[1, 8, 8]).setup()


@pytest.mark.parametrize("key", ["mean", "std"])
def test_a_wrong_number_of_channels_is_refused(key: str) -> None:
    with pytest.raises(UserError, match=r"take one number or 1 \(one per channel\): \[0.5, 0.5, 0.5\]"):
        Grey(**{key: [0.5, 0.5, 0.5]})


def test_what_a_later_evaluation_needs_is_plain_json() -> None:
    data = Grey(shape=(1, 4, 4), mean=0.3)
    data.setup()
    expected = {"names": ["even", "odd"], "shape": [1, 4, 4], "mean": [0.3], "std": [0.5]}
    assert json.loads(json.dumps(data.preprocess())) == expected


# ---- masks and other inputs


class Scene(ImageData):
    """Noise of 6x8 pixels, 1 to 255, whose masks and numbers depend on it."""

    def __init__(self, *, masks: Any = None, inputs: Any = None, **data: Any) -> None:
        super().__init__(**{"shape": [1, 6, 8], "batch_size": 4, "eval_batch_size": 8, **data})
        self.masks, self.inputs = masks or (lambda images: images[:, 0]), inputs or (lambda images: images)

    def read(self) -> RawDataset:
        drawn = torch.randint(1, 256, (12, 1, 6, 8), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
        examples = Examples(self.inputs(drawn), self.masks(drawn))
        return RawDataset([], examples, examples, examples)


class Keeper(Watcher):
    """Keeps whole batches of training, and trains on the first tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[Any] = []

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:  # noqa: ARG002
        self.batches.append(batch)
        mean: Tensor = image_of(batch[0]).mean()
        return self.weight * mean


def training_batches(data: ImageData) -> list[Any]:
    keeper = Keeper()
    lightning.Trainer(**BARE, max_epochs=2, limit_val_batches=0).fit(keeper, datamodule=data)
    return keeper.batches


MOVES = {
    "flip": {"flip": Flip(p=0.5)},
    "rotation": {"rotation": Rotation(degrees=30)},
    "crop": {"crop": Crop(padding=2)},
    "all": {"rotation": Rotation(degrees=30), "flip": Flip(p=0.5), "crop": Crop(padding=2)},
    "around a photometric one": {"flip": Flip(p=0.5), "cutout": Cutout(size=1), "crop": Crop(padding=2)},
}


def as_bytes(images: Tensor) -> Tensor:
    """What the model sees with mean 0 and std 1, as pixels again."""
    return images.mul(255).round().to(torch.uint8)


@pytest.mark.parametrize("augment", MOVES.values(), ids=MOVES)
@pytest.mark.parametrize("channels", [0, 2])
@pytest.mark.parametrize("slices", [False, True])
def test_a_mask_moves_as_its_image_does(
    augment: Mapping[str, Any], channels: int, slices: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_moves, "MIN_SLICE_PIXELS", 0 if slices else 1000)

    def masks(images: Tensor) -> Tensor:
        return images[:, 0].long() if not channels else images.repeat(1, channels, 1, 1).long()

    moved = False
    for images, found in training_batches(Scene(masks=masks, augment=augment, mean=0.0, std=1.0)):
        seen = as_bytes(images).long()
        grey = seen == 128  # a cutout's pixel, which its mask does not share
        wanted = seen[:, 0] if not channels else seen.expand(-1, channels, -1, -1)
        holes = grey[:, 0] if not channels else grey.expand(-1, channels, -1, -1)
        assert found.dtype == torch.long
        assert torch.equal(found[~holes], wanted[~holes])
        moved |= bool((found == 0).any()) or "flip" in augment
    assert moved, "zeros have come in from outside"


def test_what_comes_into_a_mask_from_outside_is_its_fill() -> None:
    batches = training_batches(Scene(augment={"crop": Crop(padding=3)}, mask_fill=255, mean=0.0, std=1.0))
    outside = 0
    for images, masks in batches:
        seen = as_bytes(images)[:, 0]
        assert masks[seen == 0].eq(255).all()
        assert torch.equal(masks[seen != 0], seen[seen != 0])
        outside += int((seen == 0).sum())
    assert outside > 0


# ---- examples larger than what the model sees


class Large(Scene):
    """Scenes of 6x8 pixels for a model of fewer."""

    stored_shape = (1, 6, 8)


def windows(image: Tensor, height: int, width: int) -> dict[str, tuple[int, int]]:
    """Where each window of an image (1, H, W) begins, by its content."""
    rows, columns = image.shape[1] - height + 1, image.shape[2] - width + 1
    return {
        str(image[:, top : top + height, left : left + width].tolist()): (top, left)
        for top in range(rows)
        for left in range(columns)
    }


@pytest.mark.parametrize("shape", [[1, 4, 5], [1, 3, 8], [1, 5, 4]])  # even and odd differences
@pytest.mark.parametrize("slices", [False, True])
def test_training_sees_every_window_and_its_mask(
    shape: list[int], slices: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_moves, "MIN_SLICE_PIXELS", 0 if slices else 1000)
    data = Large(
        shape=shape,
        mean=0.0,
        std=1.0,
        masks=lambda images: {"mask": images[:, 0].long(), "index": torch.arange(12)},
    )
    data.setup()
    known = [windows(image, *shape[1:]) for image in data.examples["train"].inputs]
    found = []
    for _ in range(4):
        data.seed += 1
        for images, targets in training_batches(data):
            assert targets["mask"].equal(as_bytes(images)[:, 0].long())
            found += [
                known[index][str(image.tolist())]
                for index, image in zip(targets["index"].tolist(), as_bytes(images), strict=True)
            ]
    assert set(found) == set(known[0].values())


@pytest.mark.parametrize("augment", [{}, MOVES["all"], {"box": ResizedCrop(scale=0.5)}])
def test_evaluation_sees_the_middle(augment: Mapping[str, Any]) -> None:
    data = Large(shape=[1, 4, 4], mean=0.0, std=1.0, augment=augment)
    data.setup()
    images, masks = next(iter(data.val_dataloader()))
    seen, targets = data.on_after_batch_transfer((images, masks), 0)
    assert as_bytes(seen).equal(images[:, :, 1:5, 2:6])
    assert targets.equal(masks[:, 1:5, 2:6])


def test_training_without_shuffle_sees_the_middle() -> None:
    data = Large(shape=[1, 4, 4], mean=0.0, std=1.0, shuffle=False, masks=lambda images: torch.arange(len(images)))
    data.setup()
    for images, index in training_batches(data):
        assert as_bytes(images).equal(data.examples["train"].inputs[index, :, 1:5, 2:6])


BOXES = {
    "box": {"box": ResizedCrop(scale=0.3)},
    "box, flip": {"box": ResizedCrop(scale=0.3), "flip": Flip(p=0.5), "cutout": Cutout(size=1)},
    "flip, box": {"flip": Flip(p=0.5), "box": ResizedCrop(scale=0.3), "crop": Crop(padding=1)},
    "contrast, box": {"contrast": ColorJitter(contrast=0.5), "box": ResizedCrop(scale=0.3)},  # of floats
}


@pytest.mark.parametrize("augment", BOXES.values(), ids=BOXES)
@pytest.mark.parametrize("shape", [[1, 4, 5], [1, 6, 8]])
def test_a_random_box_is_scaled_to_what_the_model_sees(augment: Mapping[str, Any], shape: list[int]) -> None:
    """Images whose pixels are all of one value, a mask of the same value: no box changes them."""

    def flat(images: Tensor) -> Tensor:
        return images[:, :, :1, :1].expand(images.shape).contiguous()

    data = Large(shape=shape, augment=augment, mean=0.0, std=1.0, inputs=flat, masks=lambda images: flat(images)[:, 0])
    for images, masks in training_batches(data):
        assert list(images.shape[1:]) == shape
        assert list(masks.shape[1:]) == shape[1:]
        values = [image[(image != 0) & (image != 128)].unique().tolist() for image in as_bytes(images)]
        assert values == [mask[mask != 0].unique().tolist() for mask in masks]


def test_the_values_of_a_mask_are_not_mixed_when_its_box_is_scaled() -> None:
    data = Large(
        shape=[1, 6, 8],
        augment={"box": ResizedCrop(scale=0.3)},
        masks=lambda images: {"mask": images[:, 0], "index": torch.arange(12)},
    )
    data.setup()
    whole = data.examples["train"].inputs
    for _, targets in training_batches(data):
        for index, mask in zip(targets["index"].tolist(), targets["mask"], strict=True):
            assert set(mask.unique().tolist()) <= set(whole[index].unique().tolist())


def test_targets_that_are_no_masks_stay() -> None:
    numbers = torch.arange(96.0).view(12, 8)

    def masks(_: Tensor) -> dict[str, Tensor]:
        return {"numbers": numbers, "square": numbers.view(12, 2, 4), "index": torch.arange(12)}

    for _, targets in training_batches(Scene(masks=masks, augment=MOVES["all"])):
        assert torch.equal(targets["numbers"], numbers[targets["index"]])
        assert torch.equal(targets["square"], numbers.view(12, 2, 4)[targets["index"]])


def test_the_images_are_those_of_the_same_data_with_classes() -> None:
    with_masks = training_batches(Scene(augment=MOVES["all"]))
    with_classes = training_batches(Scene(masks=lambda images: torch.arange(len(images)), augment=MOVES["all"]))
    for one, other in zip(with_masks, with_classes, strict=True):
        assert torch.equal(one[0], other[0])


def test_masks_stay_where_they_are_in_evaluation() -> None:
    data = Scene(augment=MOVES["all"])
    data.setup()
    images, masks = next(iter(data.val_dataloader()))
    assert torch.equal(data.on_after_batch_transfer((images, masks), 0)[1], masks)


@pytest.mark.parametrize("kind", [dict, tuple])
def test_inputs_of_an_image_and_more_train(kind: type) -> None:
    def inputs(images: Tensor) -> Any:
        table = torch.arange(len(images)).float()[:, None]
        return {"table": table, "image": images} if kind is dict else (images, table)

    plain = training_batches(Scene(masks=lambda images: torch.arange(len(images)), augment=MOVES["all"]))
    more = training_batches(Scene(masks=lambda images: torch.arange(len(images)), inputs=inputs, augment=MOVES["all"]))
    for (images, index), (given, other_index) in zip(plain, more, strict=True):
        image, table = (given["image"], given["table"]) if kind is dict else given
        assert type(given) is kind
        assert torch.equal(image, images)  # augmented and normalized
        assert table[:, 0].tolist() == index.tolist() == other_index.tolist()


def test_a_dict_without_an_image_is_refused() -> None:
    data = Scene(inputs=lambda images: {"picture": images})
    with pytest.raises(UserError, match="inputs are a dict of picture: name the image 'image'"):
        data.setup()


def test_an_image_in_a_dict_is_compared_with_the_shape() -> None:
    data = Scene(inputs=lambda images: {"image": images}, shape=[1, 8, 6])
    with pytest.raises(UserError, match=r"data.shape=\[1, 8, 6\], but the images of Scene are \[1, 6, 8\]"):
        data.setup()


@pytest.mark.parametrize("wrong", [{"std": 0}, {"std": [-1.0]}, {"std": float("nan")}, {"mean": float("inf")}])
def test_a_normalization_that_is_none_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"data.mean=.* data.std=.*: give finite numbers, of data.std above 0"):
        Grey(**wrong)


@pytest.mark.parametrize(
    ("augmentation", "told"),
    [
        (Crop(padding=3), r"data.augment.a.padding=3: of images of 4x4 pixels this leaves too little; give at most 2"),
        (Cutout(size=5), r"data.augment.a.size=5: of images of 4x4 pixels this leaves too little; give at most 4"),
    ],
)
def test_an_augmentation_that_leaves_nothing_of_the_image_is_refused(augmentation: Any, told: str) -> None:
    with pytest.raises(UserError, match=told):
        Grey(augment={"a": augmentation})


def test_a_color_of_another_number_of_channels_is_refused() -> None:
    with pytest.raises(UserError, match=r"data.augment.a.fill=\[0, 1\]: give one number, or 1, one per channel"):
        Grey(augment={"a": Erase(p=1, fill=[0, 1])})


def test_an_augmentation_may_be_as_large_as_the_image() -> None:
    assert len(Grey(augment={"a": Crop(padding=2), "b": Cutout(size=4)}).augment) == 2


# ---- policies and mixing


@pytest.mark.parametrize("policy", [TrivialAugment(p=1), RandAugment(num_ops=2, magnitude=20)])
def test_masks_move_with_the_images_of_a_policy(policy: Any) -> None:
    """A bright square on black, whose mask is the square: no operation but a move changes where it is."""

    def squares(images: Tensor) -> Tensor:
        scene = torch.zeros_like(images)
        scene[:, :, 1:4, 2:6] = 200
        return scene

    data = Scene(
        augment={"flip": Flip(p=0.5), "policy": policy},
        inputs=squares,
        masks=lambda images: squares(images)[:, 0] // 200,
        mean=0.0,
        std=1.0,
    )
    seen = 0
    for images, masks in training_batches(data):
        bright = as_bytes(images)[:, 0]
        for image, mask in zip(bright, masks, strict=True):
            if len(values := image.unique()) == 2:  # neither moved out of the image, nor made even
                assert (image == values[1]).equal(mask == 1) or (image == values[0]).equal(mask == 1)
                seen += 1
        assert masks.dtype == torch.uint8
    assert seen > 12


def test_bytes_stay_bytes_until_the_images_are_normalized() -> None:
    data = Scene(augment={"policy": TrivialAugment(p=1), "erase": Erase(p=1), "cutmix": CutMix(alpha=1)})
    data.setup()
    images = data.examples["train"].inputs
    found, _ = data._apply_augmentations(images, torch.zeros(12), torch.Generator())
    assert found.dtype == torch.uint8
    assert not found.equal(images)


def test_classes_of_mixed_images_are_shares_in_training_alone() -> None:
    data = Grey(augment={"mixup": MixUp(alpha=1), "first": ColorJitter(brightness=0.5)})
    keeper = Keeper()
    lightning.Trainer(**BARE, max_epochs=1).fit(keeper, datamodule=data)
    for _, targets in keeper.batches:
        assert targets.shape == (4, 2)
        assert targets.dtype == torch.float32
        assert targets.sum(1).sub(1).abs().max() < 1e-6
    assert any(((targets > 0) & (targets < 1)).any() for _, targets in keeper.batches)
    assert all(images.sub(-0.6).abs().max() < 1e-6 for images in keeper.seen["val"])
    images, labels = next(iter(data.val_dataloader()))
    assert data.on_after_batch_transfer((images, labels), 0)[1] is labels


def test_plain_training_is_not_mixed() -> None:
    for _, targets in training_batches(Grey(augment={"mixup": MixUp(alpha=1)}, shuffle=False)):
        assert targets.dtype == torch.int64


def test_images_are_mixed_after_all_other_augmentations() -> None:
    """Where the config has it first, too: an erased box would be seen whole, not blended."""
    box = Erase(p=1, scale=(0.3, 0.4), fill=1.0)
    data = Grey(shape=[1, 4, 4], augment={"mixup": MixUp(alpha=1), "erase": box}, mean=0.0, std=1.0)
    values = torch.cat([images.flatten() for images, _ in training_batches(data)]).unique()
    assert len(values) > 10  # 0.2 and 1 alone, if it were first


def test_inputs_of_more_than_an_image_are_not_mixed() -> None:
    data = Scene(inputs=lambda images: {"image": images, "age": torch.zeros(12)}, augment={"mixup": MixUp(alpha=1)})
    with pytest.raises(UserError, match=r"data.augment.mixup mixes images alone.*type data.augment.mixup=null"):
        data.setup()
