from pathlib import Path
from typing import Any

from peers import ours
from peers.task import Task

LENGTH = ["trainer.limit_train_batches=3", "trainer.limit_val_batches=1", "trainer.limit_test_batches=1"]


def test_ours_waits_before_each_epoch_and_logs_as_by_default(gate: Any, tmp_path: Path) -> None:
    overrides = [*LENGTH, "callbacks.prediction_samples=null", "callbacks.progress=null", "callbacks.summary=null"]
    ours.run(Task("digits_cnn", 2, str(tmp_path), overrides=overrides), gate)
    aside = [{"aside": "validation"}, {"back": "validation"}]
    assert gate.told[:-1] == ["go", *aside, {"trained": 0}, "go", *aside, {"trained": 1}, "end"]
    assert gate.told[-1]["parameters"] == 225_034
    assert list(tmp_path.glob("tensorboard/events*"))
    assert (tmp_path / "checkpoints" / "best.ckpt").exists()
