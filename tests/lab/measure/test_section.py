from measure.section import Options, Section


def test_a_section_may_have_no_goals_and_no_tables() -> None:
    section = Section("Growth", "text")
    assert (section.goals, list(section.tables)) == ((), [])


def test_a_measurement_is_repeated_on_the_cpu_unless_told_otherwise() -> None:
    assert (Options().rounds, Options().device) == (5, "cpu")
