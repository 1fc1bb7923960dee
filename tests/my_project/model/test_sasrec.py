import pytest
import torch
from torch import Tensor

from my_project.model.sasrec import SASRec
from train_smarter import Rating, UserError

CONTRACT_OVERRIDES = ["model.dim=8", "model.max_length=5", "model.layers=1"]


def made(**settings: int) -> SASRec:
    torch.manual_seed(0)
    return SASRec(task=Rating(), num_items=9, dropout=0.0, **{"dim": 8, "max_length": 4, **settings})


def scores(model: SASRec, *histories: list[int]) -> Tensor:
    longest = max(len(history) for history in histories)
    padded = [[-1] * (longest - len(history)) + history for history in histories]
    found: Tensor = model({"user": torch.full((len(histories),), -1), "history": torch.tensor(padded)})
    return found


def test_training_scores_each_item_from_those_before_it_alone() -> None:
    model = made()
    history = [3, 1, 4, 8, 5]
    trained = scores(model.train(), history)
    assert trained.shape == (1, 4, 9)  # of the last four items
    for place in range(4):
        alone = scores(model.eval(), history[: place + 1])
        # The places of a history are counted from its latest item, which moves along.
        assert (place == 3) == torch.allclose(trained[:, place], alone, atol=1e-6)
    changed = scores(model.train(), [3, 1, 4, 0, 5])
    assert torch.allclose(changed[:, :3], trained[:, :3], atol=1e-6)
    assert not torch.allclose(changed[:, 3], trained[:, 3], atol=1e-3)


def test_padding_changes_nothing() -> None:
    model = made().eval()
    together = scores(model, [2, 7], [1, 2, 3, 4], [])
    assert torch.allclose(together[:2], torch.cat([scores(model, [2, 7]), scores(model, [1, 2, 3, 4])]), atol=1e-6)
    assert together.isfinite().all()


def test_the_latest_items_are_read() -> None:
    model = made().eval()
    assert torch.equal(scores(model, [0, 1, 2, 3, 4, 5]), scores(model, [2, 3, 4, 5]))


def test_heads_that_do_not_divide_the_features_are_refused() -> None:
    with pytest.raises(UserError, match=r"model\.heads=3: give a divisor of model\.dim=8"):
        made(heads=3)
