import pytest
import torch

from my_project.model.unet import UNet
from train_smarter import Segmentation, UserError

CONTRACT_OVERRIDES = ["model.width=4"]
TASK = Segmentation(num_classes=4)


@pytest.mark.parametrize("shape", [(1, 32, 32), (3, 8, 20)])
def test_images_become_a_vector_a_pixel(shape: tuple[int, int, int]) -> None:
    assert UNet(shape=shape, width=4, task=TASK)(torch.rand(2, *shape)).shape == (2, 4, *shape[1:])


@pytest.mark.parametrize("shape", [(1, 30, 32), (1, 32, 30), (10,)])
def test_a_size_that_does_not_halve_twice_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match=r"H and W divisible by 4; these have \["):
        UNet(shape=shape, task=TASK)


def test_a_pixel_sees_its_own_place_at_full_size() -> None:
    torch.manual_seed(0)
    model = UNet(shape=[1, 16, 16], width=4, task=TASK).eval()
    images = torch.randn(1, 1, 16, 16, requires_grad=True)
    model(images)[0, :, 5, 5].sum().backward()
    assert images.grad is not None
    assert images.grad[0, 0, 5, 5] != 0
