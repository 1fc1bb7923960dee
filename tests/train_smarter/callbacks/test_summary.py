import pytest
from lightning import LightningModule, Trainer
from torch import nn

from train_smarter.callbacks.summary import Summary


class Two(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU())
        self.head = nn.Linear(3, 1000)


@pytest.mark.parametrize(("freeze", "end"), [(False, "0.0161 MB"), (True, "0.0161 MB, 15 of them frozen")])
def test_the_summary_has_the_layers_with_parameters(freeze: bool, end: str, capsys: pytest.CaptureFixture[str]) -> None:
    model = Two()
    model.body.requires_grad_(not freeze)
    Summary(max_depth=2).on_fit_start(Trainer(logger=False, enable_checkpointing=False), model)
    assert capsys.readouterr().out.splitlines()[-4:] == [
        "name    type    parameters",
        "body.1  Linear          15",
        "head    Linear       4.0 K",
        f"4,015 parameters, {end}",
    ]
