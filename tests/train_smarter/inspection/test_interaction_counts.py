from pathlib import Path

import pytest

from train_smarter.data.interaction_table import InteractionTable
from train_smarter.inspection.input_path import make_trainer
from train_smarter.inspection.interaction_counts import count_interactions
from train_smarter.inspection.overview import inspect_data
from train_smarter.report import data_page

ROWS = """user,item,rating,time
a,x,4,1
a,y,4,1
a,z,5,2
a,w,1,9
b,x,5,1
b,y,4,3
b,z,2,3
b,w,4,3
c,x,4,5
c,y,1,6
c,z,1,7
a,x,5,8
"""


@pytest.fixture
def data(tmp_path: Path) -> InteractionTable:
    file = tmp_path / "own.csv"
    file.write_text(ROWS, encoding="utf8")
    found = InteractionTable(file=str(file), split="last", val_fraction=0.1, num_workers=0)
    found.setup()
    return found


def test_interactions_are_counted_by_split_user_item_and_value(data: InteractionTable) -> None:
    found = count_interactions(data)
    assert found is not None
    assert (found["users"], found["items"], found["interactions"], found["density"]) == (3, 4, 11, 11 / 12)
    # b has three of four rows at time 3; the first of the two rows of a with x is gone.
    assert found["same_time"] == pytest.approx(3 / 11)
    assert [(one["split"], one["interactions"], one["users"]) for one in found["splits"]] == [
        ("train", 5, 3),
        ("val", 3, 3),
        ("test", 3, 3),
    ]
    assert found["per"]["user"] == {"min": 3, "5%": 3, "median": 4, "95%": 4, "max": 4, "mean": pytest.approx(11 / 3)}
    assert {value: sum(of.values()) for value, of in found["values"].items()} == {"1": 3, "2": 1, "4": 4, "5": 3}
    assert any("1 repeated pairs" in note for note in found["notes"])


def test_data_of_another_kind_have_no_interactions() -> None:
    assert count_interactions(object()) is None


def test_the_page_of_the_data_shows_them(data: InteractionTable, tmp_path: Path) -> None:
    found = {**inspect_data(data, None, None, lambda: make_trainer(folder=str(tmp_path)), examples=2), "misfit": ""}
    text = "\n".join(data_page.lines(found))
    assert "interactions: 11, 91.67% of 3 users x 4 items" in text
    assert "same time: 27% of the interactions are at the time of another one of" in text
    assert "values of each split" in text
    assert "note: 1 repeated pairs of user and item" in text
    assert "inputs.user of train" not in text
    assert "91.67% of 3 users x 4 items" in data_page.write_page(tmp_path, found).read_text(encoding="utf8")
