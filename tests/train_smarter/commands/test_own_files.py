"""A user's own table and texts, from the file to predictions of new rows, which need the file no more."""

from pathlib import Path

import pytest
import torch

import train_smarter
from train_smarter.history import saved_config
from train_smarter.inference.exporter import end_to_end, export_network, metadata
from train_smarter.inference.predictor import task_of

QUICK = ["trainer=cpu", "trainer.max_epochs=1", "callbacks.progress=null", "logger=none", "num_threads=1", "test=false"]


@pytest.fixture
def table(tmp_path: Path) -> Path:
    rows = [f"{i},{i * 7 % 40}.5,{'abc'[i % 3] if i % 11 else ''},{i * 2.5}" for i in range(60)]
    (tmp_path / "t.csv").write_text("\n".join(["id,size,city,price", *rows]), encoding="utf8")
    return tmp_path / "t.csv"


def train(folder: Path, *words: str) -> train_smarter.TrainedRun:
    return train_smarter.train([f"paths.logs={folder}/logs", f"paths.data={folder}/data", *QUICK, *words])


@pytest.mark.slow
def test_a_table_is_trained_on_and_predicted_when_its_file_is_gone(table: Path, tmp_path: Path) -> None:
    run = train(tmp_path, "data=table", f"data.file={table}", "data.target=price", "model=mlp")
    assert type(run.model.task).__name__ == "Regression"
    assert run.data.names == ["price"]
    cfg = saved_config.load_saved_config(run.folder)
    assert cfg._get_node("data")._get_node("shape")._value() == "${table_shape:}"  # type: ignore[union-attr]
    table.unlink()
    (tmp_path / "new.csv").write_text("city,size,comment\na,3.5,\nRome,,x\n", encoding="utf8")
    model, data = train_smarter.load(run.folder)
    first, second = train_smarter.predict(model, data, str(tmp_path / "new.csv"), device="cpu")
    by_hand = torch.tensor([[3.5, 0.0], [float("nan"), -1.0]])
    with torch.no_grad():
        outputs = model(data.on_after_batch_transfer((by_hand, None), 0)[0])
    expected = task_of(model).predict(outputs)["prediction"][:, 0].tolist()
    assert [first["prediction"], second["prediction"]] == pytest.approx(expected)
    network = end_to_end(data, model, by_hand)
    assert network(by_hand)[:, 0].tolist() == pytest.approx(expected)
    export_network(network, by_hand, format="torch", about={})  # for any number of rows, or it is refused
    assert '"name": "city", "values": ["a", "b", "c"]' in metadata(data, by_hand, network)["columns"]
