"""The mean of the predictions of an image and of its mirror image."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from train_smarter.data.base import Data
from train_smarter.data.image_data import ImageData
from train_smarter.errors import UserError
from train_smarter.fit.module import Model
from train_smarter.inference.tta import use_tta
from train_smarter.task.base import Task
from train_smarter.task.classification import Classification
from train_smarter.task.multilabel import Multilabel
from train_smarter.task.regression import Regression
from train_smarter.task.segmentation import Segmentation

IMAGES = torch.rand(5, 3, 6, 4, generator=torch.Generator().manual_seed(0))
DATA = ImageData(shape=[3, 6, 4])


class Weighted(Model):
    """Logits that depend on where a pixel is."""

    def __init__(self, task: Task) -> None:
        super().__init__(task=task)
        self.layer = nn.Linear(3 * 6 * 4, 3)

    def forward(self, images: Any) -> Tensor:
        images = images["image"] if isinstance(images, dict) else images
        logits: Tensor = self.layer(images.flatten(1))
        return logits


class Columns(Model):
    """A logit for each class and pixel: the images, times 1, 2, 3, ... from left to right."""

    def forward(self, images: Tensor) -> Tensor:
        return images * torch.arange(1.0, 5)


@pytest.mark.parametrize(
    ("task", "to_probabilities"),
    [
        (Classification(num_classes=3), lambda logits: logits.softmax(1)),
        (Multilabel(num_labels=3), torch.sigmoid),
    ],
)
@pytest.mark.parametrize("wrap", [lambda images: images, lambda images: {"image": images, "age": torch.zeros(5)}])
def test_predictions_are_means_of_both(
    task: Task, to_probabilities: Callable[[Tensor], Tensor], wrap: Callable[[Tensor], Any]
) -> None:
    model = Weighted(task).eval()
    alone, mirrored = model(IMAGES), model(IMAGES.flip(3))
    with use_tta(model, DATA, "flip"):
        found = task.predict(model(wrap(IMAGES)))["probabilities"]
    torch.testing.assert_close(found, (to_probabilities(alone) + to_probabilities(mirrored)) / 2)
    assert not found.allclose(to_probabilities(alone), atol=1e-3)
    assert model(IMAGES).equal(alone), "afterwards, the model is as it was"


def test_masks_are_mirrored_back() -> None:
    model = Columns(task=Segmentation(num_classes=3))
    with use_tta(model, DATA, "flip"):
        found = model.task.predict(model(IMAGES))["probabilities"]
    # Pixel j of the mirrored image is pixel 3 - j, at which the factor is 4 - j instead of j + 1.
    factors = torch.arange(1.0, 5)
    wanted = ((IMAGES * factors).softmax(1) + (IMAGES * factors.flip(0)).softmax(1)) / 2
    torch.testing.assert_close(found, wanted)


def test_none_leaves_the_model_as_it_is() -> None:
    model = Weighted(Regression(num_targets=3))
    with use_tta(model, DATA, None):
        assert "forward" not in vars(model)


@pytest.mark.parametrize(
    ("model", "data", "tta", "told"),
    [
        (Weighted(Regression(num_targets=3)), DATA, "flip", "tta=flip: Regression has no mean of .*: type tta=null"),
        (Weighted(Classification(num_classes=3)), Data(), "flip", "tta=flip mirrors images, and Data has none"),
        (nn.Linear(1, 1), DATA, "flip", "tta=flip needs a train_smarter.Model"),
        (Weighted(Classification(num_classes=3)), DATA, "rotate", "tta=rotate: give flip, or null"),
    ],
)
def test_what_has_no_mean_is_refused(model: Any, data: Any, tta: str, told: str) -> None:
    with pytest.raises(UserError, match=told), use_tta(model, data, tta):
        pass
