from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from peers import plain, tight, trial
from peers.task import Task, prepare
from train_smarter.speed import startup


def test_a_trial_trains_a_new_network_with_what_it_is_given(facts: Callable[[str], list[str]], tmp_path: Path) -> None:
    parts = prepare(Task("mnist_mlp", 1, str(tmp_path), overrides=["scheduler=none", *facts("mnist")]))
    loops = [trial.loop_of(parts, way=way, lr=0.01, batch_size=128) for way in ("plain", "tight")]
    assert [type(loop) for loop in loops] == [plain.Loop, tight.Loop]
    assert isinstance(loops[0], plain.Loop)
    assert loops[0].optimizer.param_groups[0]["lr"] == 0.01
    for loop in loops:
        assert sum(p.numel() for p in loop.network.parameters()) == 101_770
        assert loop.parts.model is not parts.model
    assert isinstance(loops[1], tight.Loop)
    assert loops[1].rates == [0.01] * 422  # 54,000 examples by 128


def test_every_point_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[dict[str, float]] = []

    class Loop:
        def __init__(self, parts: object) -> None:
            self.parts, self.network = parts, None

        def epoch(self, number: int) -> None:
            pass

    class Parts:
        task, cfg = Task("mnist_mlp", 2, ""), OmegaConf.create({"num_threads": 1})

        def accuracy(self, _: object, split: str) -> float:
            assert split == "val"
            return tried[-1]["lr"]

    def loop_of(parts: object, *, way: str, **point: float) -> Loop:
        assert way == "tight"
        tried.append(point)
        return Loop(parts)

    monkeypatch.setattr(trial, "prepare", lambda _: Parts())
    monkeypatch.setattr(trial, "loop_of", loop_of)
    threads: list[int] = []
    monkeypatch.setattr(startup, "configure_process", threads.append)
    points = [{"lr": 0.02, "batch_size": 32}, {"lr": 0.01, "batch_size": 128}]
    _, best = trial.study(points=points, epochs=2, way="tight")
    assert (tried, best) == (points, 0.02)
    assert threads == [1]  # as many as ours is given
