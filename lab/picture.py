"""Draw what a run ends with, docs/run.png: its terminal and its report page, beside each other.

    python lab/picture.py trainer.max_epochs=12        # any overrides of `train`

Trains a run, renders what it printed, and takes a screenshot of both with Chromium, which has to be installed.
"""

import argparse
import io
import math
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from PIL import Image
from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

from train_smarter import paths

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
WIDTH, GAP = 1500, 16  # pixels of the picture, and around its halves
PAGE_WIDTH = 1140  # CSS pixels of the report's window
COLORS = 128  # of the PNG
COMPOSITION = """<!doctype html><meta charset="utf-8"><style>
body {{ margin: 0; display: flex; gap: 16px; background: #e8ebef; padding: 16px; }}
body {{ box-sizing: border-box; height: 100vh; }}
svg {{ width: {left}px; height: auto; flex: none; align-self: flex-start; }}
div {{ flex: none; width: {right}px; height: 100%; overflow: hidden; border-radius: 8px; background: white; }}
iframe {{ border: 0; width: {page}px; height: {tall}px; transform: scale({scale}); transform-origin: 0 0; }}
</style>{terminal}<div><iframe src="{report}"></iframe></div>"""


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="*", help="of `train`")
    parser.add_argument("--output", type=Path, default=paths.ROOT / "docs" / "run.png")
    args = parser.parse_args(argv)
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        print(f"there is none of {', '.join(BROWSERS)}")
        return 2
    printed = train(args.overrides)
    report = paths.ROOT / re.findall(r"report: +(\S+)", Text.from_ansi(printed).plain)[-1]
    typed = " ".join(["train", *args.overrides])
    terminal = terminal_svg(typed, printed)
    height = height_of(terminal)
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder, "page.html")
        page.write_text(compose(terminal, report.as_uri(), height), encoding="utf8")
        window = [f"--window-size={WIDTH},{height}", f"--screenshot={args.output}", "--hide-scrollbars"]
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files"]
        subprocess.run([browser, *options, *window, page.as_uri()], check=True, capture_output=True)
    Image.open(args.output).convert("RGB").quantize(COLORS).save(args.output, optimize=True)
    print(f"{args.output}: {args.output.stat().st_size / 1000:.0f} kB")
    return 0


def train(overrides: Sequence[str]) -> str:
    """Run `train` and return what it prints on a terminal 80 columns wide, without the bar."""
    command = [sys.executable, "-P", "-m", f"{paths.COMMANDS}.train", "callbacks.progress.refresh_rate=0", *overrides]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # as in an activated environment
    terminal = {"FORCE_COLOR": "1", "COLUMNS": "80", "TERM": "xterm-256color", "PATH": path}
    done = subprocess.run(
        command, env=os.environ | terminal, cwd=paths.ROOT, stdout=subprocess.PIPE, text=True, check=True
    )
    return done.stdout


def terminal_svg(typed: str, printed: str) -> str:
    """A terminal window with a command and its output, as SVG."""
    console = Console(record=True, width=80, file=io.StringIO(), color_system="truecolor")
    console.print(Text.assemble(("$ ", "dim"), (typed, "bold")))
    console.print(Text.from_ansi(printed.rstrip()), soft_wrap=False)
    return console.export_svg(title="", theme=MONOKAI)


def height_of(terminal: str) -> int:
    """Pixels of the picture that shows a terminal as a whole, in the left half."""
    found = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', terminal)
    assert found is not None
    return math.ceil(WIDTH / 2 * float(found[2]) / float(found[1])) + 2 * GAP


def compose(terminal: str, report: str, height: int) -> str:
    """The page with both: the terminal in the left half, the report beside it as in a window of its usual width."""
    left = WIDTH // 2
    right = WIDTH - left - 3 * GAP
    scale = right / PAGE_WIDTH
    return COMPOSITION.format(
        left=left, right=right, page=PAGE_WIDTH, tall=int(height / scale), scale=scale, terminal=terminal, report=report
    )


if __name__ == "__main__":
    sys.exit(main())
