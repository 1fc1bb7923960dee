from measure.table import Goal, Ratio, goal_rows, goals_table, headline, marked, ratios, spread, table


def test_a_ratio_is_taken_round_by_round() -> None:
    # 2/4, 3/3, 9/6 = 0.5, 1, 1.5; the ratio of the medians would be 3/4
    assert ratios([2, 3, 9], [4, 3, 6]) == Ratio(1.0, 0.5, 1.5)
    assert str(ratios([2, 3, 9], [4, 3, 6])) == "1.00 (0.50 to 1.50)"


def test_a_goal_is_met_by_the_median() -> None:
    assert Goal("a", 0.35, spread([0.2, 0.35, 0.9])).row() == ["a", "at most 0.35", "0.35 (0.20 to 0.90)", "yes"]
    assert Goal("a", 1.05, spread([1.06])).row()[-1] == "**no**"
    assert Goal("a", 0.05, spread([0.04, 0.1]), percent=True).row()[1:3] == ["at most 5%", "7.0% (4.0% to 10.0%)"]


def test_a_table_escapes_what_would_end_a_cell() -> None:
    assert table(["a", "b"], [["1", "x|y"]]) == "| a | b |\n| --- | --- |\n| 1 | x\\|y |"


def test_content_goes_between_its_marks_and_leaves_the_rest() -> None:
    text = "top\n<!-- a:begin -->\nold\n<!-- a:end -->\n<!-- b:begin -->\nkept\n<!-- b:end -->\n"
    new = text.replace("old", r"new \1")
    assert marked(text, "a", "new \\1\n") == new
    assert marked(new, "a", "new \\1") == new


def test_missing_marks_are_added_at_the_end() -> None:
    assert marked("top\n", "a", "x") == "top\n\n<!-- a:begin -->\nx\n<!-- a:end -->\n"
    assert marked("", "a", "x") == "<!-- a:begin -->\nx\n<!-- a:end -->\n"


def test_the_headline_gathers_the_goals_of_every_section() -> None:
    first, second = (goals_table([Goal(name, 1, spread([0.5]))]) for name in ("one", "two"))
    text = f"# a\n\n{first}\n\n| other | table |\n| --- | --- |\n| x | y |\n\n{second}\n"
    rows = [f"| {name} | at most 1 | 0.50 (0.50 to 0.50) | yes |" for name in ("one", "two")]
    assert goal_rows(text) == rows
    assert headline(text) == "\n".join(["| what | goal | measured | met |", "| --- | --- | --- | --- |", *rows])
