import pytest

from measure import pieces
from measure.section import Options
from measure.table import spread
from train_smarter.task.classification import Classification

SECONDS = {
    "[_TrainingEpochLoop].train_dataloader_next": 1.0,
    "[LightningDataModule]CIFAR10.on_after_batch_transfer": 2.0,
    "[Strategy]SingleDeviceStrategy.training_step": 10.0,
    "[Strategy]SingleDeviceStrategy.backward": 20.0,
    "[LightningModule]CNN.configure_gradient_clipping": 3.0,
    "[LightningModule]CNN.optimizer_step": 37.0,
    "[Callback]Journal.on_before_optimizer_step": 1.0,
    "[Callback]Journal.on_train_batch_end": 1.0,
}


def test_a_step_falls_into_pieces_that_add_up() -> None:
    found = pieces.pieces_of({name: [100.0] * pieces.WARM + [s] * 3 for name, s in SECONDS.items()}, 50.0)
    assert found == {
        "batch assembly": 1,
        "augmentation, normalisation": 2,
        "forward, loss": 10,
        "backward": 20,
        "clipping": 3,
        "optimizer": 4,  # 37 - 10 - 20 - 3
        "Lightning and its callbacks": 10,  # 50 - 1 - 2 - 37
        "step": 50,
    }


def test_a_cell_shows_milliseconds_and_their_share() -> None:
    column = {"step": spread([0.02]), "backward": spread([0.005])}
    assert pieces.cell(column, "backward") == "5.000 ms, 25%"


def test_the_share_of_a_batch_is_held_against_its_goal(monkeypatch: pytest.MonkeyPatch) -> None:
    step = {"batch assembly": 1.0, "augmentation, normalisation": 2.0, "step": 100.0}
    monkeypatch.setattr(pieces, "call", lambda *_, **__: (step, None))
    section = pieces.augment(Options(rounds=2))
    assert [goal.row()[1:] for goal in section.goals] == [["at most 5%", "3.0% (3.0% to 3.0%)", "yes"]]


def test_the_profile_has_a_column_for_each_experiment(monkeypatch: pytest.MonkeyPatch) -> None:
    step = dict.fromkeys((*pieces.PIECES, "step"), 0.001)
    monkeypatch.setattr(pieces, "call", lambda *_, **__: (step, None))
    table = pieces.profile(Options(rounds=1)).tables[0].splitlines()
    assert table[0] == "| piece | `cifar10_cnn` | `mnist_mlp` | `imdb_lstm` |"
    assert table[-1] == "| step | 1.000 ms, 100% | 1.000 ms, 100% | 1.000 ms, 100% |"


def test_an_update_of_the_metrics_takes_time() -> None:
    assert pieces.metrics(Classification(num_classes=10), 64) > 0
