from omegaconf import OmegaConf

from train_smarter.trust.nodes import leaves, put, raw, raw_leaves, resolved

CONFIG = {
    "a": {"b": [1, "${c}"], "x.y": "z", "none": None, "missing": "???"},
    "c": {"d": "${e}"},
    "e": 2,
    "broken": "${nowhere}",
}


def test_leaves_are_found_behind_interpolations_and_beside_broken_ones() -> None:
    found = dict(leaves(OmegaConf.create(CONFIG)))
    assert found == {
        ("a", "b", "0"): 1,
        ("a", "b", "1", "d"): 2,
        ("a", "x.y"): "z",
        ("a", "none"): None,
        ("c", "d"): 2,
        ("e",): 2,
    }


def test_raw_leaves_are_as_they_are_written() -> None:
    found = dict(raw_leaves(OmegaConf.create(CONFIG)))
    assert found["a", "b", "1"] == "${c}"
    assert found["broken",] == "${nowhere}"
    assert found["a", "missing"] == "???"
    assert ("c", "d") in found
    assert dict(raw_leaves(OmegaConf.create(CONFIG), "c")) == {("c", "d"): "${e}"}
    assert not list(raw_leaves(OmegaConf.create({"c": "${e}", "e": 1}), "c"))


def test_a_value_is_looked_up_with_and_without_its_interpolation() -> None:
    config = OmegaConf.create(CONFIG)
    assert resolved(config, ("c", "d")) == 2
    assert raw(config, ("c", "d")) == "${e}"
    assert resolved(config, ("a", "b")) == [1, {"d": 2}]
    assert raw(config, ("a", "b", "1")) == "${c}"
    assert raw(config, ("a", "b", "7"), default="no") == "no"
    assert resolved(config, ("broken",), default="no") == "no"
    assert resolved(config, ("e", "f"), default="no") == "no"


def test_a_value_is_put_or_removed_where_its_path_is_no_interpolation() -> None:
    config = OmegaConf.create(CONFIG)
    assert put(config, ("a", "x.y"), "new")
    assert raw(config, ("a", "x.y")) == "new"
    assert put(config, ("a", "x.y"), None, remove=True)
    assert "x.y" not in config.a
    assert not put(config, ("a", "b", "1", "d"), "new")
    assert config.c.d == 2
