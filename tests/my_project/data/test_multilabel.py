from my_project.data.multilabel import MultilabelRows


def test_an_example_has_any_number_of_labels() -> None:
    data = MultilabelRows(num_classes=6, shape=[20], rows=500)
    data.setup()
    targets = data.read().train.targets
    assert targets.shape == (500, 6)
    assert set(targets.unique().tolist()) == {0, 1}
    counts = targets.sum(1)
    assert counts.min() == 0
    assert counts.max() >= 4
    assert data.names == ["topic0", "topic1", "topic2", "topic3", "topic4", "topic5"]
