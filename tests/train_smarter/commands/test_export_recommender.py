"""Exported files of recommenders: the score of every item, for any number of users and length of a history."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from sample_project.model.factors import Factors
from train_smarter.data.examples import Examples
from train_smarter.data.interaction_table import InteractionTable
from train_smarter.inference.exporter import (
    end_to_end,
    export_network,
    load_export,
    metadata,
    raw_examples,
    silence_export,
)
from train_smarter.task.base import Task
from train_smarter.task.rating import Rating

ONNX = pytest.param("onnx", marks=pytest.mark.slow)


class Scores(Task):
    """Predicts the score of each item."""

    def predict(self, outputs: Tensor) -> dict[str, Tensor]:
        return {"scores": outputs}


@pytest.fixture
def data(tmp_path: Path) -> InteractionTable:
    file = tmp_path / "ratings.csv"
    lines = [
        f"u{user},i{item},{1 + (user + item) % 5},film {item}" for user in range(6) for item in range(user, user + 4)
    ]
    file.write_text("\n".join(["user,item,rating,title", *lines]), encoding="utf8")
    found = InteractionTable(file=str(file))
    found.setup()
    return found


@pytest.mark.parametrize("history", [False, True])
@pytest.mark.parametrize("kind", [ONNX, "torch"])
def test_an_exported_file_scores_all_items_of_any_number_of_users(
    data: InteractionTable, tmp_path: Path, kind: str, history: bool
) -> None:
    users = {"user": torch.arange(4), "history": torch.tensor([[-1, -1, 2], [0, 1, 2], [-1, 3, 4], [-1, -1, -1]])}
    data.examples["test"] = Examples(users, None)
    torch.manual_seed(0)
    model = Factors(num_users=6, num_items=9, history=history, task=Scores()).eval()
    raw = raw_examples(data, None, model.task)
    network = end_to_end(data, model, raw)
    about = metadata(data, raw, network)
    file = tmp_path / "model"
    with silence_export():
        file.write_bytes(export_network(network, raw, format=kind, about=about))
    run = load_export(file, format=kind)
    for user, known in (([5], [[1]]), ([-1, 0], [[-1, -1, -1, -1, 8], [0, 1, 2, 3, 4]])):
        given = {"user": torch.tensor(user), "history": torch.tensor(known)}
        with torch.no_grad():
            expected = model(given)
        assert expected.shape == (len(user), 9)
        torch.testing.assert_close(run(*given.values()), expected, atol=1e-6, rtol=1e-5)
    assert json.loads(about["input"])["history"]["shape"] == ["batch", "items"]
    assert json.loads(about["items"]) == [f"i{item}" for item in range(9)]
    assert json.loads(about["users"]) == [f"u{user}" for user in range(6)]
    assert json.loads(about["titles"])[8] == "film 8"


@pytest.mark.parametrize("kind", [ONNX, "torch"])
def test_an_exported_file_rates_pairs(data: InteractionTable, tmp_path: Path, kind: str) -> None:
    torch.manual_seed(0)
    model: Any = Factors(num_users=6, num_items=9, task=Rating()).eval()
    model.task.fit([torch.tensor([[1.0], [5.0]])])
    raw = raw_examples(data, 3, model.task)
    network = end_to_end(data, model, raw)
    file = tmp_path / "model"
    with silence_export():
        file.write_bytes(export_network(network, raw, format=kind, about=metadata(data, raw, network)))
    given = {"user": torch.tensor([-1]), "item": torch.tensor([4])}
    torch.testing.assert_close(load_export(file, format=kind)(*given.values()), torch.tensor([[3.0]]))
