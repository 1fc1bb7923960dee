"""Muon's steps are those of torch's Muon and AdamW, on the weights that each is for; it resumes bit for bit."""

import csv
from collections.abc import Callable
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import DictConfig
from torch import Tensor, nn

from train_smarter.commands.train import run_train
from train_smarter.errors import UserError
from train_smarter.fit import muon
from train_smarter.fit.muon import Muon, matrix_groups, orthogonalize

Compose = Callable[..., DictConfig]
Resumed = Callable[..., tuple[dict[str, Any], dict[str, Any]]]


class Net(nn.Module):
    """An embedding, a convolution, an LSTM, a norm and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.convolution = nn.Embedding(11, 6), nn.Conv1d(6, 8, 3, padding=1)
        self.lstm, self.norm, self.head = nn.LSTM(8, 4, batch_first=True), nn.LayerNorm(4), nn.Linear(4, 3)

    def forward(self, tokens: Tensor) -> Tensor:
        features = self.convolution(self.embedding(tokens).transpose(1, 2)).transpose(1, 2)
        outputs: Tensor = self.head(self.norm(self.lstm(features)[0]).mean(1))
        return outputs


MATRICES = {"convolution.weight", "lstm.weight_ih_l0", "lstm.weight_hh_l0"}


def names(model: nn.Module, group: dict[str, Any]) -> set[str]:
    inside = {id(weight) for weight in group["params"]}
    return {name for name, weight in model.named_parameters() if id(weight) in inside}


def test_matrices_of_hidden_layers_are_muons_and_embedding_head_norm_and_biases_are_adamws() -> None:
    net = Net()
    matrices, others = matrix_groups(net, net.parameters())
    assert (matrices["matrix"], others["matrix"]) == (True, False)
    assert names(net, matrices) == MATRICES
    assert names(net, others) == {name for name, _ in net.named_parameters()} - MATRICES


def test_an_embedding_that_is_the_heads_weight_too_is_adamws() -> None:
    tied = nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 4), nn.Linear(4, 5))
    tied[2].weight = tied[0].weight
    matrices, others = matrix_groups(tied, tied.parameters())
    assert names(tied, matrices) == {"1.weight"}
    assert names(tied, others) == {"0.weight", "1.bias", "2.bias"}


def test_groups_with_their_own_settings_keep_them() -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    given = [{"params": [*net[0].parameters()], "lr": 0.5}, {"params": [*net[1].parameters()], "name": "head"}]
    divided = matrix_groups(net, given)
    found = [(group["matrix"], group.get("lr"), group.get("name"), names(net, group)) for group in divided]
    assert found == [
        (True, 0.5, None, {"0.weight"}),
        (False, 0.5, None, {"0.bias"}),
        (False, None, "head", {"1.weight", "1.bias"}),
    ]


def test_its_steps_are_those_of_torchs_muon_and_adamw(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(muon, "_precision", lambda _: torch.bfloat16)  # as torch has it
    torch.manual_seed(0)
    net = Net()
    reference = deepcopy(net)
    optimizer = Muon(matrix_groups(net, net.parameters()), lr=0.01, weight_decay=0.1)
    own = dict(reference.named_parameters())
    flat = {name: nn.Parameter(own[name].detach().flatten(1)) for name in MATRICES}  # which torch's takes alone
    two = [
        torch.optim.Muon(flat.values(), lr=0.01, weight_decay=0.1, momentum=0.95, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW([w for name, w in own.items() if name not in MATRICES], lr=0.01, weight_decay=0.1),
    ]
    for _ in range(5):
        tokens = torch.randint(11, (4, 7))
        for model in (net, reference):
            model.zero_grad()
            model(tokens).pow(2).sum().backward()
        for name, matrix in flat.items():
            gradient = own[name].grad
            assert gradient is not None
            matrix.grad = gradient.flatten(1)
        optimizer.step()
        for each in two:
            each.step()
        for name, matrix in flat.items():
            own[name].data.copy_(matrix.detach().view(own[name].shape))
        for name, weight in net.named_parameters():
            torch.testing.assert_close(weight, own[name], msg=name)


@pytest.mark.parametrize("shape", [(5, 9), (9, 5), (6, 6)])
def test_an_orthogonalized_matrix_has_singular_values_about_one(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    found = orthogonalize(matrix, steps=5)
    singular = torch.linalg.svdvals(found)
    assert 0.6 < float(singular.min()) <= float(singular.max()) < 1.3
    alignment = (found * (u @ v)).sum() / min(shape)  # the mean singular value, if the vectors are those of the matrix
    torch.testing.assert_close(alignment, singular.mean(), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("options", [{}, {"accumulate_grad_batches": 2}, {"precision": "bf16-mixed"}])
def test_it_resumes_within_an_epoch(
    resumed: Resumed, equal: Callable[[Any, Any], bool], options: dict[str, Any]
) -> None:
    if options.get("accumulate_grad_batches"):
        options = options | {"max_epochs": 5}  # as many steps
    whole, parts = resumed(list, partial(Muon, lr=0.01), **options)
    assert equal(parts["state_dict"], whole["state_dict"])
    assert equal(parts["optimizer_states"], whole["optimizer_states"])
    kinds = [set(state) for state in whole["optimizer_states"][0]["state"].values()]
    assert {"momentum_buffer"} in kinds
    assert {"step", "exp_avg", "exp_avg_sq"} in kinds


def test_a_run_has_both_under_one_learning_rate_and_the_diagnosis_measures_every_layer(
    compose: Compose, tmp_path: Path
) -> None:
    words = ["optimizer=muon", "scheduler=onecycle", "model=mlp", "trainer=cpu", "trainer.max_epochs=2", "test=false"]
    words += [f"callbacks.{name}=null" for name in ("histograms", "progress", "summary", "checkpoint")]
    run_train(compose(*words, "trainer.limit_train_batches=6", "logger=none"))
    with (tmp_path / "run" / "layers.csv").open(encoding="utf8") as file:
        rows = [row for row in csv.DictReader(file) if row["update_ratio"]]
    assert len({row["layer"] for row in rows}) == 2  # a matrix of Muon's, and the head of AdamW's
    assert all(0 < float(row["update_ratio"]) < 1 for row in rows)


def test_steps_of_the_iteration_that_make_no_sense_are_refused(compose: Compose) -> None:
    cfg = compose("optimizer=muon", "optimizer.ns_steps=0", "model=mlp", "trainer=cpu", "logger=none")
    with pytest.raises(UserError, match=r"optimizer\.ns_steps=0: give a whole number of at least 1"):
        run_train(cfg)
    with pytest.raises(ValueError, match="give a whole number from 1 to 99"):
        Muon([torch.zeros(2, 2)], ns_steps=100)
