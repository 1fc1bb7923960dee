"""Where the project and its configs are. Imports nothing."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CONF = ROOT / "conf"
LOGS = ROOT / "logs"  # of all runs, unless paths.logs is set
