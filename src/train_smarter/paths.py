"""Where the engine, the project, its configs and its logs are.

The only module that knows where it is: `__file__` and `__package__` are used nowhere else. Read the names as
attributes (`paths.CONF`), since `use` may change them. Imports nothing heavy.
"""

import os
import sys
import tomllib
from pathlib import Path

NAME = "train_smarter"  # the engine's package
ENGINE = Path(__file__).resolve().parent
COMMANDS = f"{NAME}.commands"  # a module for each command, for `python -m`
GROUP = f"{NAME}.project"  # the entry point group in which a project names its package
VARIABLE = "TRAIN_SMARTER_ROOT"  # the environment variable that names another project's root

ROOT: Path
CONF: Path
LOGS: Path  # of all runs, unless paths.logs is set
PROJECT: str  # the project's package
PROJECTS: list[str]  # every project found; more than one cannot be used together
OWN: tuple[str, ...]  # packages whose classes a config may name
SOURCES: tuple[Path, ...]  # folders whose files decide how a run comes out
ENV_FILE: Path | None  # variables of the project; None: the root is only the current folder, perhaps a stranger's


def use(root: str | Path | None = None) -> None:
    """Use the project in `root`: the folder of its pyproject.toml, with `conf/` and `src/<package>/`.

    Without `root`, the project that the engine belongs to. In a checkout (`<root>/src/train_smarter` next to
    `<root>/pyproject.toml`) that file names the project's package. It is read directly: `importlib.metadata` takes
    0.1 s. Installed from a wheel, the installed packages are asked, `conf/` is part of the project's package, and the
    root is the current folder.
    """
    global ROOT, CONF, LOGS, PROJECT, PROJECTS, OWN, SOURCES, ENV_FILE
    own = _checkout(ENGINE)
    checkout = Path(root).resolve() if root else own
    if checkout is not None:
        ROOT, CONF, source = checkout, checkout / "conf", checkout / "src"
        PROJECTS = _named_in(checkout)
        if root is None:
            PROJECTS = list(dict.fromkeys([*PROJECTS, *_on_the_path()]))
        elif str(source) not in sys.path:
            sys.path.append(str(source))
        PROJECT = PROJECTS[0] if PROJECTS else ""
    else:
        from importlib.metadata import entry_points

        PROJECTS = list(dict.fromkeys(point.value for point in entry_points(group=GROUP)))
        PROJECT = PROJECTS[0] if PROJECTS else ""
        ROOT, source = Path.cwd(), ENGINE.parent
        CONF = source / (PROJECT or NAME) / "conf"
    LOGS = ROOT / "logs"
    ENV_FILE = None if checkout is None else ROOT / ".env"
    OWN = tuple(name for name in (PROJECT, NAME) if name)
    SOURCES = (CONF, ENGINE, *([source / PROJECT] if PROJECT else []))


def _checkout(engine: Path) -> Path | None:
    """The root of the checkout that an engine's folder is in, or None if the engine was installed."""
    root = engine.parents[1]
    return root if engine.parent.name == "src" and (root / "pyproject.toml").is_file() else None


def _named_in(root: Path) -> list[str]:
    """The packages that a project's pyproject.toml names."""
    try:
        content = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf8"))
    except (OSError, tomllib.TOMLDecodeError):
        return []
    return [str(name) for name in content.get("project", {}).get("entry-points", {}).get(GROUP, {}).values()]


def _on_the_path() -> list[str]:
    """The projects of other checkouts on the import path: an environment into which two of them were installed."""
    engines = [Path(entry, NAME).resolve() for entry in sys.path if entry and Path(entry, NAME).is_dir()]
    return [name for engine in engines if (root := _checkout(engine)) for name in _named_in(root)]


use(os.environ.get(VARIABLE))
