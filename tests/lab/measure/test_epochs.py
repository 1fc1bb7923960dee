import pytest

from measure import epochs
from measure.epochs import MIXED, PEERS, RACES, Peer, lacking, mixed, section
from measure.race import TURN, Entry, Result
from measure.section import NotMeasuredError, Options

RACE = RACES["cnn"]
SAYS = {name: peer.says for name, peer in PEERS.items()}


def test_a_section_has_a_goal_for_each_peer_that_came_through() -> None:
    results = {"ours": Result([2.0, 4.0, 3.0], 0.71), "plain": Result([10.0, 10.0, 10.0], 0.7)}
    made = section(RACE, results, Options(rounds=3), SAYS)
    # 0.2, 0.4, 0.3
    assert [goal.row()[1:] for goal in made.goals] == [["at most 0.35", "0.30 (0.20 to 0.40)", "yes"]]
    assert made.tables[0].splitlines()[2:] == [
        "| `ours` | everything logged as by default | 3.00 s | 1 | 0.7100 |",
        "| `plain` | (a) a plain PyTorch loop, per-sample transforms, DataLoader | 10.00 s | 0.30 (0.20 to 0.40)"
        " | 0.7000 |",
    ]


def test_on_a_gpu_the_goals_are_others() -> None:
    results = {"ours": Result([2.0], 0.7), "tight": Result([1.0], 0.7), MIXED: Result([1.0], 0.7)}
    made = section(RACE, results, Options(rounds=1, device="cuda"), {**SAYS, MIXED: "mixed"})
    assert [(goal.what, goal.most, goal.measured.median) for goal in made.goals] == [
        ("one epoch of `cifar10_cnn` on a GPU against `tight`", 1.2, 2),
        ("one epoch of `cifar10_cnn` on a GPU in mixed precision against 32 bits", 1, 0.5),
    ]


def test_mixed_precision_has_goals_on_a_cpu_too() -> None:
    results = {"ours": Result([2.0], 0.7), "plain": Result([4.0], 0.7), MIXED: Result([1.0], 0.7)}
    made = section(RACE, results, Options(rounds=1), {**SAYS, MIXED: "mixed"})
    assert [(goal.what, goal.most, goal.measured.median) for goal in made.goals[1:]] == [
        ("one epoch of `cifar10_cnn` in mixed precision against 32 bits", 1, 0.5),
        ("one epoch of `cifar10_cnn` in mixed precision against `plain`", 0.35, 0.25),
    ]


@pytest.mark.parametrize(
    ("race", "device", "fast", "there"),
    [
        ("cnn", "cpu", True, True),
        ("cnn", "cpu", False, False),
        ("mlp", "cpu", True, False),
        ("mlp", "cuda", False, True),
    ],
)
def test_mixed_precision_takes_part_where_it_is_no_emulation(
    race: str, device: str, fast: bool, there: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(epochs, "cpu_has_native_bf16", lambda: fast)
    assert mixed(RACES[race], Options(device=device)) is there


def test_without_ours_there_is_nothing_to_compare() -> None:
    with pytest.raises(NotMeasuredError, match="our own process died"):
        section(RACE, {"plain": Result([1.0], 0.7)}, Options(), SAYS)


def test_a_peer_without_its_package_is_left_out_with_a_hint(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    raced: list[Entry] = []

    def race(entries: list[Entry], rounds: int, turn: float) -> dict[str, Result]:
        assert turn == TURN
        raced.extend(entries)
        return {one.name: Result([1.0] * rounds, 0.5) for one in entries}

    monkeypatch.setattr(epochs, "race", race)
    monkeypatch.setitem(PEERS, "stock", Peer("stock", "says", packages=["no_such_package"]))
    epochs.measure("mlp", Options(rounds=2))
    names = [one.name for one in raced]
    assert names[:4] == ["ours", "bare", "tight", "plain"]
    assert "stock" not in names
    assert "left out: stock needs no_such_package: uv pip install -e '.[benchmark]'" in capsys.readouterr().out
    assert raced[0].environment == {"CUDA_VISIBLE_DEVICES": ""}


def test_a_peer_lacks_only_what_is_not_installed() -> None:
    assert lacking(Peer("x", "says", packages=["torch", "no_such_package"])) == ["no_such_package"]


def test_every_race_knows_its_peers() -> None:
    named = {peer for race in RACES.values() for peer in (*race.peers, *race.goals, *(race.mixed_goals or {}))}
    assert named <= set(PEERS)
