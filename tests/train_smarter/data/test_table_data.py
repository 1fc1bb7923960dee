from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from train_smarter.data.examples import Examples, RawDataset
from train_smarter.data.table_data import TableData
from train_smarter.errors import UserError


def rows(count: int) -> Tensor:
    """(N, 3): one large column, one small one, and one that is constant."""
    drawn = torch.randn(count, 3, generator=torch.Generator().manual_seed(count)).double()
    return drawn * torch.tensor([50.0, 0.01, 0.0]) + torch.tensor([1000.0, 0.0, 0.1])


class Numbers(TableData):
    """40 rows to train, 10 to validate, 12 to test."""

    def __init__(self, *, names: Sequence[str] = ("height", "width", "depth"), **table: Any) -> None:
        super().__init__(**{"shape": [3], "num_targets": 1, **table})
        self.column_names = names
        self.given = {name: rows(count) for name, count in (("train", 40), ("val", 10), ("test", 12))}

    def read(self) -> RawDataset:
        self.columns = list(self.column_names)
        splits = [Examples(part, part[:, :1].float()) for part in self.given.values()]
        return RawDataset(["y"], *splits)


def ready(**options: Any) -> Numbers:
    data = Numbers(**options)
    data.setup()
    return data


def model_sees(data: TableData, numbers: Tensor) -> Tensor:
    seen: Tensor = data.on_after_batch_transfer((numbers, None), 0)[0]
    return seen


def written(folder: Path, text: str) -> str:
    (folder / "table.csv").write_text(text, encoding="utf8")
    return str(folder / "table.csv")


def predicted_on(data: TableData, given: str) -> list[list[float]]:
    """The numbers of each row of a CSV file."""
    rows: list[list[float]] = [data.load_input(source).content.tolist() for source in data.iter_inputs(given)]
    return rows


# ---- standardized


def test_columns_are_standardized_by_mean_and_deviation_of_train() -> None:
    data = ready()
    scaler = StandardScaler().fit(rows(40).numpy())
    for split in ("train", "val", "test"):
        seen = model_sees(data, data.examples[split].inputs)
        wanted = torch.from_numpy(scaler.transform(data.given[split].numpy())).float()
        assert seen.dtype == torch.float32
        assert seen[:, :2].sub(wanted[:, :2]).abs().max() < 1e-4


def test_a_constant_column_is_only_shifted() -> None:
    data = ready()
    assert data.std[2] == 1
    assert model_sees(data, torch.tensor([[0.0, 0.0, 0.3]]))[0, 2].item() == pytest.approx(0.2)


def test_the_examples_in_memory_are_the_numbers_as_they_were_read() -> None:
    data = ready()
    assert data.examples["train"].inputs.equal(rows(40).float())


def test_without_standardizing_the_model_sees_the_numbers_as_they_are() -> None:
    data = ready(standardize=False)
    assert model_sees(data, data.examples["val"].inputs) is data.examples["val"].inputs


def test_a_later_run_takes_the_recorded_numbers() -> None:
    recorded = ready().preprocess()
    later = Numbers()
    later.given["train"] = later.given["train"] * 7 + 3
    later.load_preprocess(recorded)
    later.setup()
    one = torch.tensor([[1000.0, 0.1, 0.2]])
    assert torch.equal(model_sees(later, one), model_sees(ready(), one))


def test_the_recorded_numbers_of_another_table_are_refused() -> None:
    with pytest.raises(UserError, match=r"the run was trained on 3 columns, but data.shape=\[4\]"):
        Numbers(shape=[4]).load_preprocess(ready().preprocess())


# ---- refused


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_value_that_is_not_finite_is_refused_with_its_column(value: float) -> None:
    data = Numbers()
    data.given["val"][3, 1] = data.given["val"][5, 1] = value
    with pytest.raises(UserError, match="column 'width' of val holds 2 NaN or infinite values, the first in row 3"):
        data.setup()


def test_a_column_without_a_name_is_named_by_its_place() -> None:
    data = Numbers(names=())
    data.given["train"][0, 2] = torch.nan
    with pytest.raises(UserError, match="column 2 of train holds 1 NaN"):
        data.setup()


def test_a_shape_that_is_not_that_of_the_rows_is_refused() -> None:
    with pytest.raises(UserError, match=r"data.shape=\[4\], but the rows of Numbers are \[3\]"):
        ready(shape=[4])


def test_a_shape_of_several_numbers_is_refused() -> None:
    with pytest.raises(UserError, match=r"data.shape=\[1, 28, 28\]: give the number of columns"):
        Numbers(shape=[1, 28, 28])


# ---- a user's own rows


def test_rows_of_a_file_without_a_header_are_taken_in_order(tmp_path: Path) -> None:
    given = written(tmp_path, "1,2,3\n\n4,5.5,-6e1\n")
    assert predicted_on(ready(), given) == [[1.0, 2.0, 3.0], [4.0, 5.5, -60.0]]


def test_columns_of_a_file_with_a_header_are_found_by_name(tmp_path: Path) -> None:
    given = written(tmp_path, "depth,name,width, height\n3,a,2,1\n6,b,5,4\n")
    assert predicted_on(ready(), given) == [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]


def test_a_run_knows_the_columns_from_its_record(tmp_path: Path) -> None:
    later = Numbers()
    later.load_preprocess(ready().preprocess())
    assert predicted_on(later, written(tmp_path, "depth,width,height\n3,2,1\n")) == [[1.0, 2.0, 3.0]]


def test_a_file_becomes_a_batch_that_is_treated_like_the_examples(tmp_path: Path) -> None:
    data = ready()
    values = data.examples["test"].inputs[:4]
    lines = "\n".join(",".join(map(repr, row)) for row in values.tolist())
    contents = [data.load_input(source).content for source in data.iter_inputs(written(tmp_path, lines))]
    batch, targets = data.collate(contents)
    assert targets is None
    assert torch.equal(model_sees(data, batch), model_sees(data, values))


def test_a_file_that_lacks_a_column_is_refused(tmp_path: Path) -> None:
    given = written(tmp_path, "height,width\n1,2\n")
    with pytest.raises(UserError, match=r"the header is height, width, but the model needs height, width, depth"):
        ready().iter_inputs(given)


def test_rows_of_another_length_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="the first row has 2 numbers, and not 3"):
        ready().iter_inputs(written(tmp_path, "1,2\n"))


def test_a_file_that_is_not_there_is_refused() -> None:
    with pytest.raises(UserError, match=r"input=nowhere.csv: there is no such file; give a CSV file"):
        ready().iter_inputs("nowhere.csv")


@pytest.mark.parametrize("cell", ["", "much", "nan"])
def test_a_row_that_holds_no_number_is_broken(tmp_path: Path, cell: str) -> None:
    data = ready()
    _, broken = data.iter_inputs(written(tmp_path, f"1,2,3\n4,{cell},6\n"))
    assert str(broken) == "row 2"
    with pytest.raises(ValueError, match=f"column 'width' is {cell!r} and no number"):
        data.load_input(broken)
