import pytest
import torch
from sklearn.datasets import load_digits

from my_project.data.digits import Digits
from train_smarter.data.examples import SPLITS
from train_smarter.errors import UserError


def digits(size: int = 28) -> Digits:
    data = Digits(num_classes=10, shape=[1, size, size], size=size, test_fraction=0.2, val_fraction=0.25)
    data.setup()
    return data


@pytest.fixture(scope="module")
def data() -> Digits:
    return digits()


def test_the_split_is_60_20_20(data: Digits) -> None:
    # Examples of each digit: 178 182 177 183 181 182 181 179 174 180. A fifth of each, rounded: 36 36 35 37 36 36 36 36
    # 35 36. A quarter of the rest (142 146 142 146 145 146 145 143 139 144): 36 36 36 36 36 36 36 36 35 36.
    assert data.examples["test"].targets.bincount().tolist() == [36, 36, 35, 37, 36, 36, 36, 36, 35, 36]
    assert data.examples["val"].targets.bincount().tolist() == [36, 36, 36, 36, 36, 36, 36, 36, 35, 36]
    assert [len(data.examples[name]) for name in SPLITS] == [1079, 359, 359]  # of 1,797


def test_images_are_bytes_of_the_size_asked_for(data: Digits) -> None:
    for name in SPLITS:
        images = data.examples[name].inputs
        assert images.shape[1:] == (1, 28, 28)
        assert images.dtype == torch.uint8


def test_all_grey_levels_are_used(data: Digits) -> None:
    assert (int(data.examples["train"].inputs.min()), int(data.examples["train"].inputs.max())) == (0, 255)


def test_classes_are_named_by_their_digits(data: Digits) -> None:
    assert data.names == list("0123456789")


def test_at_its_own_size_an_image_is_the_original() -> None:
    source = digits(8).read()
    original = torch.from_numpy(load_digits().images[:5]) * 255 / 16  # 17 grey levels: 0 to 16
    assert source.train.inputs[:5, 0].equal(original.round().to(torch.uint8))


def test_a_scaled_image_keeps_its_brightness() -> None:
    small, large = digits(8).read().train.inputs.float(), digits(28).read().train.inputs.float()
    assert abs(small.mean() - large.mean()) < 2  # of 255


def test_it_is_the_same_each_time(data: Digits) -> None:
    assert all(digits().examples[name].inputs.equal(data.examples[name].inputs) for name in SPLITS)


def test_a_size_that_is_not_the_shape_is_refused() -> None:
    with pytest.raises(UserError, match=r"data.shape=\[1, 28, 28\], but the images of Digits are \[1, 20, 20\]"):
        Digits(num_classes=10, shape=[1, 28, 28], size=20).setup()
