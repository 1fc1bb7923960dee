import logging
from typing import Any

import pytest
import torch

from train_smarter.data.interaction_data import InteractionData
from train_smarter.data.interactions import Interactions
from train_smarter.errors import UserError


class Visits(InteractionData):
    """10 users of 20 rows each; the first pair comes twice."""

    values = True
    first_user = "u0"

    def read_interactions(self) -> Interactions:
        users = torch.arange(10).repeat_interleave(20)
        items = torch.arange(20).repeat(10)
        users, items = torch.cat([users, users[:1]]), torch.cat([items, items[:1]])
        return Interactions(
            users=users,
            items=items,
            values=(users + items / 100).float() if self.values else None,
            times=None,
            user_names=[self.first_user, *[f"u{index}" for index in range(1, 10)]],
            item_names=[f"i{index}" for index in range(20)],
        )


def visits(**settings: Any) -> Visits:
    data = Visits(**settings)
    data.setup()
    return data


def test_ratings_are_rows_with_the_indices_of_user_and_item() -> None:
    data = visits()
    assert {name: len(of) for name, of in data.examples.items()} == {"train": 160, "val": 20, "test": 20}
    for examples in data.examples.values():
        user, item = examples.inputs["user"], examples.inputs["item"]
        assert (user.dtype, item.dtype) == (torch.int64, torch.int64)
        assert torch.allclose(examples.targets, (user + item / 100).float()[:, None])


def test_repeated_pairs_are_counted() -> None:
    assert "1 repeated pairs of user and item: the latest of each stays" in visits().notes


def test_training_rows_of_users_and_items_are_counted() -> None:
    data = visits()
    users, items = data.train_counts()
    assert users.tolist() == [16] * 10
    assert items.tolist() == data.examples["train"].inputs["item"].bincount(minlength=20).tolist()


def test_small_values_are_left_out_and_their_users_and_items_stay() -> None:
    data = visits(min_value=5.0)
    assert len(data.interactions) == 100
    assert (data.interactions.num_users, data.interactions.num_items) == (10, 20)
    assert "100 interactions below data.min_value=5.0 are left out" in data.notes


def test_the_batch_size_grows_with_the_training_rows(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    assert visits().batch_size == 1024
    assert visits(batch_size=7).batch_size == 7
    monkeypatch.setattr("train_smarter.data.interaction_data.LARGE", 160)
    assert visits().batch_size == 8192
    assert "data.batch_size=8192 for 160 training examples" in caplog.messages


def test_a_job_that_takes_over_what_another_has_read_has_a_batch_size_and_the_same_examples(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Visits, "reuse_across_jobs", True)
    first, second = visits(), visits()
    assert second.examples["train"] is first.examples["train"]
    assert second.batch_size == 1024
    assert torch.equal(second.train_counts()[0], first.train_counts()[0])
    assert len(visits(split_seed=1).examples["train"]) == 160


def test_a_refit_trains_on_validation_too() -> None:
    plain, refit = visits(), visits(refit=True)
    assert len(refit.examples["train"]) == 180
    assert torch.equal(refit.examples["test"].targets, plain.examples["test"].targets)
    pairs = {(int(u), int(i)) for u, i in zip(*refit.examples["train"].inputs.values(), strict=True)}
    held_out = plain.examples["val"].inputs
    assert {(int(u), int(i)) for u, i in zip(held_out["user"], held_out["item"], strict=True)} < pairs


def test_a_run_records_users_and_items_and_takes_them_up_again() -> None:
    recorded = visits().preprocess()
    assert recorded["users"][:2] == ["u0", "u1"]
    assert recorded["names"][:2] == ["i0", "i1"]
    again = Visits()
    again.load_preprocess(recorded)
    assert again.item_names == recorded["names"]
    again.setup()


def test_other_users_than_those_of_the_run_are_refused_in_a_short_message() -> None:
    data = Visits()
    data.load_preprocess(visits().preprocess())
    data.first_user = "someone"
    with pytest.raises(
        UserError, match="Visits has 10 users, and not the 10 of the run, in order: the data have changed"
    ):
        data.setup()


def test_a_checkpoint_of_other_items_is_refused() -> None:
    data, recorded = visits(), visits().preprocess()
    with pytest.raises(UserError, match=r"Visits has 20 items, and not the 1 of the run"):
        data.load_state_dict({"preprocess": {**recorded, "names": ["other"]}})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_users": 11}, "data.num_users=11, but Visits has 10"),
        ({"min_value": 99.0}, r"data\.min_value=99\.0 leaves no interaction: the largest value is 9\.19"),
        ({"rows": "pair"}, "data.rows=pair: give one of ratings, pairs, users; did you mean 'pairs'"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        visits(**settings)


def test_ratings_without_values_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Visits, "values", False)
    with pytest.raises(UserError, match=r"ratings are needed, .*: type data\.value=<column>"):
        visits()
    with pytest.raises(UserError, match=r"data\.min_value=3, but the interactions have no values"):
        visits(min_value=3)
