from my_project.data.shapes import UNKNOWN, Shapes


def shapes(**options: object) -> Shapes:
    data = Shapes(**{"num_classes": 4, "shape": [1, 32, 32], "images": 60, **options})  # type: ignore[arg-type]
    data.setup()
    return data


def test_the_split_is_60_20_20_and_the_same_each_time() -> None:
    one, other = shapes(), shapes(seed=9, split_seed=9)
    assert [len(one.examples[split]) for split in ("train", "val", "test")] == [36, 12, 12]
    for split, examples in one.examples.items():
        assert examples.inputs.equal(other.examples[split].inputs)
        assert examples.targets.equal(other.examples[split].targets)


def test_shapes_are_brighter_than_the_background() -> None:
    data = shapes(unknown_border=False, noise=0)
    images, masks = data.examples["train"].inputs[:, 0], data.examples["train"].targets
    assert images[masks == 0].eq(80).all()
    assert images[masks > 0].ge(140).all()
    assert set(masks.unique().tolist()) == {0, 1, 2, 3}


def test_both_sides_of_an_outline_are_of_no_class() -> None:
    masks, plain = (shapes(unknown_border=border).examples["train"].targets for border in (True, False))
    known = masks != UNKNOWN
    assert masks[known].equal(plain[known])
    edge = plain[:, :, 1:] != plain[:, :, :-1]  # between neighbours in a row
    assert masks[:, :, 1:][edge].eq(UNKNOWN).all()
    assert masks[:, :, :-1][edge].eq(UNKNOWN).all()
    assert masks.eq(UNKNOWN).float().mean() < 0.3
