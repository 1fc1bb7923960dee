from functools import partial
from typing import Any

import lightning
import pytest
import torch
from torch.optim import SGD

from my_project.data.ratings import Ratings
from my_project.model.mf import MF
from train_smarter import Rating

CONTRACT_OVERRIDES = ["model.dim=4"]


def mf(**settings: Any) -> MF:
    torch.manual_seed(0)
    return MF(task=Rating(), **{"num_users": 3, "num_items": 5, "dim": 2, "init_std": 1.0, **settings})


def with_biases(model: MF) -> MF:
    with torch.no_grad():
        model.user_bias.weight[1:, 0] = torch.tensor([1.0, 2.0, 3.0])
        model.item_bias.weight[1:, 0] = torch.tensor([0.1, 0.2, 0.3, 0.4, 0.5])
    return model


def test_a_score_is_two_biases_and_a_product() -> None:
    model = with_biases(mf())
    user, item = model.users.weight[2].tolist(), model.items.weight[5].tolist()
    expected = user[0] * item[0] + user[1] * item[1] + 2.0 + 0.5
    assert model({"user": torch.tensor([1]), "item": torch.tensor([4])}).tolist() == [[pytest.approx(expected)]]


def test_scores_of_all_items_are_those_of_each_pair() -> None:
    model, users = with_biases(mf()), torch.tensor([2, -1, 0])
    every = model({"user": users})
    assert every.shape == (3, 5)
    some = torch.tensor([[4, 0], [1, 1], [3, 2]])
    assert torch.allclose(model({"user": users, "item": some}), every.gather(1, some))


def test_of_an_unknown_user_or_item_nothing_but_the_other_bias_is_known() -> None:
    model = with_biases(mf())
    scores = model({"user": torch.tensor([-1, 1, -1]), "item": torch.tensor([1, -1, -1])})
    assert scores.flatten().tolist() == pytest.approx([0.2, 2.0, 0.0])


def test_the_unknown_stay_at_zero_in_training() -> None:
    model = mf(optimizer=partial(SGD, lr=0.1))
    data = Ratings(num_users=3, num_items=5, per_user=4, batch_size=4, val_fraction=0.2, test_fraction=0.2)
    before = model.users.weight.clone()
    bare = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
    lightning.Trainer(accelerator="cpu", max_epochs=1, **bare).fit(model, datamodule=data)  # type: ignore[arg-type]
    assert not torch.equal(model.users.weight, before)
    assert not model.users.weight[0].any()
    assert not model.items.weight[0].any()
    # The share of each user: (training rows) ** -0.5, 1 on average over the rows.
    counts = data.train_counts()[0].double()
    shares = counts**-0.5 * counts.sum() / counts.sqrt().sum()
    assert torch.allclose(model.user_share[1:].double(), shares)


def test_the_penalty_is_the_mean_over_the_examples() -> None:
    model = with_biases(mf(l2=0.5, l2_bias=0.25)).train()
    model.user_share[1:] = torch.tensor([1.0, 2.0, 3.0])
    batch = {"user": torch.tensor([0, 1]), "item": torch.tensor([3, 3])}, None
    model(batch[0])
    penalty = model.penalty(batch)
    assert penalty is not None
    p, q = model.users.weight.detach().double(), model.items.weight.detach().double()
    embeddings = 1.0 * p[1, :2].square().sum() + 2.0 * p[2, :2].square().sum() + 2 * q[4, :2].square().sum()
    biases = 1.0**2 + 2.0**2 + 2 * 0.4**2
    assert float(penalty.detach()) == pytest.approx(float(0.5 * embeddings + 0.25 * biases) / 2)
    assert model.penalty(batch) is None  # it belongs to one forward pass


def test_an_evaluation_keeps_nothing_for_a_penalty() -> None:
    model = mf().eval()
    batch = {"user": torch.tensor([0]), "item": torch.tensor([0])}, None
    model(batch[0])
    assert model.penalty(batch) is None


def test_without_embeddings_it_is_the_biases() -> None:
    model = with_biases(mf(dim=0))
    assert model({"user": torch.tensor([0])}).tolist()[0] == pytest.approx([1.1, 1.2, 1.3, 1.4, 1.5])


@pytest.mark.parametrize("power", [0.0, -0.5])
def test_the_penalty_of_users_with_all_their_items_is_that_of_their_rows(power: float) -> None:
    model = mf(l2=0.3, l2_bias=0.2, count_power=power)
    users, items = torch.tensor([0, 0, 0, 1, 2, 2]), torch.tensor([0, 1, 2, 2, 3, 0])
    with torch.no_grad():
        model.item_bias.weight[1:, 0] = torch.tensor([0.1, 0.2, 0.3, 0.4, 0.5])
    for rows, share, index in (
        (model.user_rows, model.user_share, users),
        (model.item_rows, model.item_share, items),
    ):
        rows[1:] = index.bincount(minlength=len(rows) - 1)
        share[1:] = rows[1:].clamp(min=1) ** power
    pairs = {"user": users, "item": items}
    model(pairs)
    by_row = model.penalty((pairs, None))
    model({"user": torch.tensor([2, 0, 1])})
    by_user = model.penalty(({"user": torch.tensor([2, 0, 1])}, None))
    assert by_row is not None
    assert by_user is not None
    assert by_user.item() == pytest.approx(by_row.item(), rel=1e-6)


def test_dropout_leaves_numbers_of_a_user_out_in_training_alone() -> None:
    model, users = mf(dim=64, dropout=0.5), {"user": torch.tensor([0, 1])}
    whole = model.eval()(users)
    trained = model.train()(users)
    assert not torch.allclose(trained, whole)
    assert torch.equal(model.eval()(users), whole)
    kept = mf(dim=64)
    assert torch.equal(kept.train()(users), kept.eval()(users))
