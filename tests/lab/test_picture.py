from pathlib import Path

import pytest

import picture


def test_the_terminal_shows_the_command_and_its_colours() -> None:
    drawn = picture.terminal_svg("train seed=1", "\x1b[32mbest\x1b[0m\nlast")
    assert drawn.startswith("<svg")
    words = drawn.replace("&#160;", " ")
    assert all(word in words for word in ("train seed=1", "best", "last"))
    assert "\x1b" not in drawn


def test_both_fit_beside_each_other() -> None:
    page = picture.compose("<svg></svg>", "file:///run/report.html", 500)
    assert '<svg></svg><div><iframe src="file:///run/report.html">' in page
    assert f"svg {{ width: {picture.WIDTH // 2}px" in page
    assert f"div {{ flex: none; width: {picture.WIDTH - picture.WIDTH // 2 - 48}px" in page  # 3 gaps of 16


def test_the_picture_is_as_high_as_the_terminal() -> None:
    # 750 pixels of 1500 are 0.75 of 1000: 400 become 300, and 16 above and below
    assert picture.height_of('<svg viewBox="0 0 1000 400.0">') == 332


def test_without_a_browser_nothing_is_trained(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr("shutil.which", lambda _: None)
    monkeypatch.setattr(picture, "train", lambda _: pytest.fail("it trains"))
    assert picture.main(["--output", str(tmp_path / "run.png")]) == 2
    assert "there is none of chromium" in capsys.readouterr().out
