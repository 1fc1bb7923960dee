"""Several processes draw together what one would draw."""

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from train_smarter.data.augment import ColorJitter, Crop, Cutout, Erase, Flip, ResizedCrop, Rotation
from train_smarter.data.examples import Examples
from train_smarter.data.image_data import Augmentation, ImageData
from train_smarter.data.loader import Loader, ShardedBatchSampler
from train_smarter.data.mixing import CutMix, MixUp
from train_smarter.data.policies import RandAugment, TrivialAugment

TOTAL = 7  # examples of a batch that is not full


def noise(images: Tensor, generator: torch.Generator) -> Tensor:
    """An augmentation of a user's own, with each form of a size, and a draw for the whole batch."""
    scale = torch.rand(len(images), 1, 1, 1, generator=generator)
    images = images + torch.randn(images.shape, generator=generator) * scale
    images = images + torch.randint(1, 9, size=(len(images), 1, 1, 1), generator=generator)
    return images * torch.rand(1, generator=generator) + torch.randint(5, (len(images), 1, 1, 1), generator=generator)


AUGMENTATIONS: dict[str, Augmentation] = {
    "resized_crop": ResizedCrop(scale=0.1),
    "rotation": Rotation(degrees=30),
    "flip": Flip(p=0.5),
    "crop": Crop(padding=2),
    "trivial_augment": TrivialAugment(p=1),
    "rand_augment": RandAugment(num_ops=2),
    "color": ColorJitter(brightness=0.5, contrast=0.5, saturation=0.5, hue=0.2),
    "cutout": Cutout(size=3),
    "erase": Erase(p=0.5),
    "noise": noise,
}


def augmented(
    images: Tensor, augment: Mapping[str, Augmentation], *, rank: int, world: int, total: int = TOTAL
) -> Tensor:
    """This process's share of an epoch's second batch, augmented."""
    data = ImageData(shape=[3, 8, 8], augment=augment, seed=5)
    sampler = ShardedBatchSampler(12 + total, batch_size=12 // world, shuffle_seed=0, rank=rank, world=world)
    loops = SimpleNamespace(total_batch_idx=0, epoch_loop=SimpleNamespace(batch_idx=0))
    loader = Loader(Examples(images, images), sampler)
    trainer: Any = SimpleNamespace(global_rank=rank, world_size=world, fit_loop=loops, train_dataloader=loader)
    data.trainer = trainer
    return data.augment_batch(images[rank::world], None)[0]


@pytest.mark.parametrize("world", [2, 3])
def test_an_example_is_augmented_alike_in_any_number_of_processes(world: int) -> None:
    images = torch.randint(0, 256, (TOTAL, 3, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    expected = augmented(images, AUGMENTATIONS, rank=0, world=1)
    for rank in range(world):
        found = augmented(images, AUGMENTATIONS, rank=rank, world=world)
        torch.testing.assert_close(found, expected[rank::world], rtol=1e-6, atol=1e-6)


def test_an_image_has_the_same_partner_in_any_even_number_of_processes() -> None:
    images = torch.randint(0, 256, (8, 3, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    mixing: dict[str, Augmentation] = {"mixup": MixUp(alpha=1), "cutmix": CutMix(alpha=1)}
    expected = augmented(images, mixing, rank=0, world=1, total=8)
    for world in (2, 4):
        for rank in range(world):
            found = augmented(images, mixing, rank=rank, world=world, total=8)
            torch.testing.assert_close(found, expected[rank::world], rtol=1e-6, atol=1e-6)


def test_a_draw_by_another_function_differs_between_processes() -> None:
    drawn: list[Tensor] = []

    def draw(images: Tensor, generator: torch.Generator) -> Tensor:
        drawn.append(torch.bernoulli(torch.full((64,), 0.5), generator=generator))
        return images

    for rank in range(2):
        augmented(torch.zeros(TOTAL, 3, 8, 8), {"draw": draw}, rank=rank, world=2)
    assert not drawn[0].equal(drawn[1])
