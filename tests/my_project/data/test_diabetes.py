import pytest
from sklearn.datasets import load_diabetes

from my_project.data.diabetes import Diabetes


def test_the_rows_are_those_of_scikit_learn_with_their_names() -> None:
    data = Diabetes(num_targets=1, shape=[10], test_fraction=0.2, val_fraction=0.25)
    data.setup()
    table = load_diabetes(scaled=False)
    # A fifth of 442, rounded: 88. A quarter of the other 354: 88.
    assert [len(data.examples[split]) for split in ("train", "val", "test")] == [266, 88, 88]
    found = sum(float(examples.targets.sum()) for examples in data.examples.values())
    assert found == pytest.approx(table.target.sum())
    assert data.columns == ["age", "sex", "bmi", "bp", "s1", "s2", "s3", "s4", "s5", "s6"]
    assert data.names == ["progression"]
