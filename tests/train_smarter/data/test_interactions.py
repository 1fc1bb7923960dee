import pyarrow as pa
import torch

from train_smarter.data.interactions import Interactions, index_ids


def made(users: list[int], items: list[int], values: list[float], times: list[float] | None = None) -> Interactions:
    return Interactions(
        users=torch.tensor(users),
        items=torch.tensor(items),
        values=torch.tensor(values),
        times=None if times is None else torch.tensor(times).double(),
        user_names=[f"u{index}" for index in range(max(users) + 1)],
        item_names=[f"i{index}" for index in range(max(items) + 1)],
    )


def test_ids_are_counted_in_order_of_appearance() -> None:
    index, names = index_ids(pa.array(["007", "b", "007", "7"]))
    assert index.tolist() == [0, 1, 0, 2]
    assert names == ["007", "b", "7"]


def test_ids_that_are_numbers_become_texts() -> None:
    index, names = index_ids(pa.chunked_array([[30, 4], [30]]))
    assert index.tolist() == [0, 1, 0]
    assert names == ["30", "4"]


def test_of_a_repeated_pair_the_latest_stays_in_the_order_of_the_file() -> None:
    data = made([0, 1, 0, 0], [2, 2, 2, 1], [1.0, 2.0, 3.0, 4.0], [9.0, 1.0, 5.0, 2.0])
    unique = data.deduplicate()
    assert unique.users.tolist() == [0, 1, 0]
    assert unique.items.tolist() == [2, 2, 1]
    assert unique.values is not None
    assert unique.values.tolist() == [1.0, 2.0, 4.0]


def test_of_a_repeated_pair_without_times_or_of_one_time_the_last_row_stays() -> None:
    for times in (None, [5.0, 5.0, 5.0]):
        unique = made([0, 0, 0], [1, 0, 1], [1.0, 2.0, 3.0], times).deduplicate()
        assert unique.values is not None
        assert unique.values.tolist() == [2.0, 3.0]


def test_interactions_without_repetition_are_the_same_object() -> None:
    data = made([0, 0, 1], [1, 0, 1], [1.0, 2.0, 3.0])
    assert data.deduplicate() is data
