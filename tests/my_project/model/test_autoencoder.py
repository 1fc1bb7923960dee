import pytest
import torch

from my_project.model.autoencoder import Autoencoder
from train_smarter import Reconstruction

CONTRACT_OVERRIDES = ["model.widths=[16]"]


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 4, 6), (10,)])
def test_outputs_have_the_shape_of_the_inputs(shape: tuple[int, ...]) -> None:
    model = Autoencoder(shape=shape, widths=[20, 10], code=3, task=Reconstruction())
    inputs = torch.rand(2, *shape)
    assert model.encoder(inputs).shape == (2, 3)
    assert model(inputs).shape == inputs.shape


def test_noise_is_added_in_training_alone() -> None:
    model, inputs = Autoencoder(shape=[10], noise=0.5, task=Reconstruction()), torch.rand(4, 10)
    assert not torch.equal(model(inputs), model(inputs))
    model.eval()
    assert torch.equal(model(inputs), model(inputs))


def test_without_noise_training_computes_what_evaluation_does() -> None:
    model, inputs = Autoencoder(shape=[10], task=Reconstruction()), torch.rand(4, 10)
    assert torch.equal(model(inputs), model.eval()(inputs))
