import re
import xml.etree.ElementTree as ET
from typing import Any

import pytest
from markupsafe import Markup

from train_smarter.report import plot, run_plots, trial_plots, view_plots

SVG = "{http://www.w3.org/2000/svg}"
NAME = {"name": "one", "alt": "a plot"}


def parsed(drawn: Markup) -> ET.Element:
    """As XML, with the namespaces that HTML supplies."""
    spaces = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    return ET.fromstring(str(drawn).replace("<svg ", f"<svg {spaces} ", 1))


def texts(drawn: Markup) -> list[str]:
    return [text.text or "" for text in parsed(drawn).iter(f"{SVG}text")]


def titles(drawn: Markup) -> list[str]:
    return [title.text or "" for title in parsed(drawn).iter(f"{SVG}title")]


SERIES = {"train": [(0.0, 1.0), (1.0, 0.5)], "val": [(0.0, 0.75), (1.0, 0.25)]}
CHOICES = {"lr": [0.1, 0.01], "size": [16, 32], "val/accuracy ": [0.5, 0.75]}
BINS = [
    {"low": 0.0, "high": 0.5, "count": 0, "confidence": None, "accuracy": None},
    {"low": 0.5, "high": 1.0, "count": 4, "confidence": 0.75, "accuracy": 0.5},
]
SPREAD = {"mean": 0.5, "std": 0.25, "n": 3, "min": 0.25, "max": 0.75}
DRAWN: dict[str, Any] = {
    "curves": lambda **kw: run_plots.curves("loss", SERIES, best=1, **kw),
    "confusion": lambda **kw: run_plots.confusion([[3, 1], [0, 2]], ["cat", "dog"], **kw),
    "confusion of many": lambda **kw: run_plots.confusion(
        [[int(i == j) for j in range(30)] for i in range(30)], ["x"] * 30, **kw
    ),
    "reliability": lambda **kw: run_plots.reliability(BINS, **kw),
    "layers": lambda **kw: run_plots.layers("gradient norm", SERIES, **kw),
    "layers, many": lambda **kw: run_plots.layers("gradient norm", {str(i): SERIES["val"] for i in range(60)}, **kw),
    "agreement": lambda **kw: view_plots.SVG["scatter"](
        {"title": "a", "x": "true", "y": "predicted", "points": [[1, 2], [3, 4]]}, **kw
    ),
    "histogram": lambda **kw: view_plots.SVG["histogram"](
        {"title": "a", "x": "error", "edges": [-1, 0, 1], "counts": [2, 1]}, **kw
    ),
    "bars": lambda **kw: trial_plots.bars("importance", {"lr": 0.75, "size": 0.25}, unit="share", **kw),
    "history": lambda **kw: trial_plots.history("val/loss", [("0", 0, 0.5, "complete", "0: 0.5")], mode="min", **kw),
    "scatter": lambda **kw: trial_plots.scatter(("a", "b"), [("0", 1, 2, True, "0"), ("1", 2, 1, False, "1")], **kw),
    "parallel": lambda **kw: trial_plots.parallel(CHOICES, ["0", "1"], [0.5, 1.0], ["zero", "one"], **kw),
    "spreads": lambda **kw: trial_plots.error_bars("val/loss", {"a": SPREAD, "b": SPREAD | {"std": None}}, **kw),
}


@pytest.mark.parametrize("draw", DRAWN.values(), ids=DRAWN)
def test_a_plot_is_svg_in_the_pages_colours_that_asks_for_nothing(draw: Any) -> None:
    drawn = draw(**NAME)
    root = parsed(drawn)
    assert root.get("aria-label") == "a plot"
    assert len(list(root.iter(f"{SVG}path"))) > 1
    assert "currentColor" in drawn
    assert plot.FOREGROUND not in drawn
    assert not re.findall(r'(?:href|src)="(?!#|data:)[^"]*"', drawn)
    assert draw(**NAME) == drawn  # the same to the letter


@pytest.mark.parametrize("draw", DRAWN.values(), ids=DRAWN)
def test_two_plots_of_a_page_share_no_id_and_each_points_into_itself(draw: Any) -> None:
    drawn = draw(name="two", alt="")
    ids = re.findall(r' id="([^"]+)"', drawn)
    assert len(ids) == len(set(ids))
    assert all(one.startswith("two") for one in ids)
    assert set(re.findall(r'(?:href="#|url\(#)([^")]+)', drawn)) <= set(ids)


def test_names_are_drawn_as_they_are_and_are_no_code() -> None:
    names = ["$a_$", "<script>alert(1)</script>", "猫\x1b\u202e", 'a"b&']
    drawn = run_plots.confusion(
        [[1, 0, 0, 1], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], names, name="one", alt='"><script>'
    )
    assert "<script" not in drawn
    assert [name for name in texts(drawn) if "a" in name] == ["$a_$", "<script>alert(1)<…", 'a"b&'] * 2
    assert 'true $a_$, predicted a"b&: 1, 50.0% of the class' in titles(drawn)
    assert "猫\\x1b\\u202e" in texts(drawn)


# ---- one run


def test_the_best_epoch_is_marked_and_a_single_line_needs_no_name() -> None:
    assert texts(run_plots.curves("loss", SERIES, best=1, **NAME))[-3:] == ["train", "val", "best"]
    alone = run_plots.curves("loss", {"train": SERIES["train"]}, **NAME)
    assert "train" not in texts(alone)


def test_a_confusion_matrix_has_its_counts_written_into_it_but_zeros() -> None:
    # of 4 cats 3 are taken for cats, 1 for a dog; both dogs are right
    drawn = run_plots.confusion([[3, 1], [0, 2]], ["cat", "dog"], **NAME)
    assert [text for text in texts(drawn) if text.isdigit()] == ["3", "1", "2"]
    assert titles(drawn) == [
        "true cat, predicted cat: 3, 75.0% of the class",
        "true cat, predicted dog: 1, 25.0% of the class",
        "true dog, predicted dog: 2, 100.0% of the class",
    ]


@pytest.mark.parametrize(("count", "named"), [(26, True), (100, True), (101, False)])
def test_many_classes_are_colours_and_very_many_have_no_names(count: int, named: bool) -> None:
    names = [f"class {place}" for place in range(count)]
    drawn = run_plots.confusion([[int(i == j) for j in range(count)] for i in range(count)], names, **NAME)
    assert titles(drawn) == []
    assert ("class 25" in texts(drawn)) == named


def test_a_bin_tells_how_sure_and_how_right_its_examples_are() -> None:
    drawn = run_plots.reliability(BINS, **NAME)
    assert titles(drawn) == ["4 examples, 75.0% sure: 50.0% right"] * 2  # in both halves; the empty bin has no bar


def test_layers_are_lines_on_a_logarithmic_scale_and_many_a_map() -> None:
    few = run_plots.layers(
        "gradient norm", {"a": [(0, 0.1), (1, 10.0), (2, 0.0)], "b": [(0, 1.0)], "c": [(0, 0.0)]}, **NAME
    )
    assert titles(few) == ["a", "b"]  # no logarithm has a 0
    assert {"0.1", "1", "10"} <= set(texts(few))
    many = {f"layer {place}": [(0.0, 1.0 + place), (1.0, 2.0)] for place in range(plot.LINES + 1)}
    drawn = run_plots.layers("gradient norm", many, **NAME)
    assert "layer 8" in texts(drawn)
    assert "data:image/png;base64" in drawn


def test_a_share_of_none_is_drawn_where_the_scale_is_not_logarithmic() -> None:
    assert titles(run_plots.layers("dead", {"a": [(0, 0.0)]}, log=False, **NAME)) == ["a"]
    assert parsed(run_plots.layers("dead", {}, **NAME)) is not None


# ---- many runs


def test_the_best_so_far_counts_complete_trials_alone() -> None:
    shown = [("0", 0, 0.5, "complete", ""), ("1", 1, 0.9, "pruned", ""), ("2", 2, 0.4, "complete", "")]
    more = [*shown, ("3", 3, 0.7, "complete", "")]
    assert trial_plots._best_so_far(more, "max") == [(0, 0.5), (2, 0.5), (3, 0.7)]
    assert trial_plots._best_so_far(more, "min") == [(0, 0.5), (2, 0.4), (3, 0.4)]


def test_what_is_far_worse_than_the_others_stands_at_the_edge() -> None:
    # the fourth of five is 0.6 or the like: 0.2 from the best, so the edge is 0.4 from it
    assert trial_plots.clip_outliers([0.8, 0.7, 0.6, 0.7, 0.1], "max") == pytest.approx([0.8, 0.7, 0.6, 0.7, 0.4])
    assert trial_plots.clip_outliers([0.2, 0.3, 0.4, 0.3, 9.0], "min") == pytest.approx([0.2, 0.3, 0.4, 0.3, 0.6])
    assert trial_plots.clip_outliers([0.5, 0.5, 0.5, 0.5, 0.1], "max") == [0.5, 0.5, 0.5, 0.5, 0.1]
    assert trial_plots.clip_outliers([], "max") == []


def test_each_trial_can_be_found_in_every_plot() -> None:
    shown = [("7", 7, 0.5, "complete", "seven"), ("8", 8, 0.4, "pruned", "eight")]
    for drawn in (
        trial_plots.history("val/loss", shown, mode="min", **NAME),
        trial_plots.scatter(("a", "b"), [("7", 2, 1, True, "seven"), ("8", 1, 2, False, "eight")], **NAME),
        trial_plots.parallel(CHOICES, ["7", "8"], [1.0, 0.5], ["seven", "eight"], **NAME),
    ):
        found = {part.get("data-trial"): part for part in parsed(drawn).iter() if part.get("data-trial")}
        assert {trial: part.find(f"{SVG}title").text for trial, part in found.items()} == {"7": "seven", "8": "eight"}  # type: ignore[union-attr]


def test_the_points_of_a_front_are_joined_from_left_to_right_and_keep_their_trials() -> None:
    points = [("x", 9, 1, True, ""), ("y", 1, 9, True, ""), ("z", 5, 5, True, "")]
    uses = [
        use
        for use in parsed(trial_plots.scatter(("a", "b"), points, **NAME)).iter(f"{SVG}use")
        if use.get("data-trial")
    ]
    assert [use.get("data-trial") for use in uses] == ["y", "z", "x"]
    places = [float(use.get("x", 0)) for use in uses]
    assert places == sorted(places)


def test_numbers_stand_at_their_height_and_few_are_marked_each() -> None:
    heights, marks = trial_plots.scale_to_unit([16, 64, None, 32])
    assert heights == [0.0, 1.0, None, pytest.approx(1 / 3)]
    assert marks == [(0.0, "16"), (pytest.approx(1 / 3), "32"), (1.0, "64")]


def test_marks_that_would_stand_on_each_other_are_left_out() -> None:
    assert trial_plots.scale_to_unit([0, 1, 50, 100])[1] == [(0.0, "0"), (0.5, "50"), (1.0, "100")]


def test_logarithms_and_many_numbers_have_five_marks() -> None:
    heights, marks = trial_plots.scale_to_unit([10.0**-power for power in range(7)], log=True)
    assert heights == pytest.approx([1 - power / 6 for power in range(7)])
    assert [text for _, text in marks] == ["1e-06", "3.162e-05", "0.001", "0.03162", "1"]


def test_texts_are_spread_evenly_and_one_value_is_in_the_middle() -> None:
    assert trial_plots.scale_to_unit(["cnn", True, "cnn"])[0] == [0.75, 0.25, 0.75]
    assert trial_plots.scale_to_unit([3, 3])[0] == [0.5, 0.5]
    assert trial_plots.scale_to_unit([0.0, 1.0], log=True)[0] == [0.0, 1.0]  # 0 has no logarithm
    assert trial_plots.scale_to_unit([None]) == ([None], [])


def test_a_thousand_trials_are_drawn_small_enough() -> None:
    count = 1000
    columns = {name: [(place * 7919 % 1000) / 1000 for place in range(count)] for name in "abcdef"}
    strengths = [1 - place / count for place in range(count)]
    names = [str(place) for place in range(count)]
    assert len(trial_plots.parallel(columns, names, strengths, names, **NAME)) < 600_000
