"""What every console command shares: it composes its config, acts, and answers a mistake in a line or two."""

import functools
import os
import re
import shlex
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import CompactHydraException, InstantiationException, MissingConfigException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

import train_smarter.config.resolvers  # noqa: F401 (conf/ uses them)
from train_smarter import paths
from train_smarter.errors import UserError, nearest
from train_smarter.quoting import quoted
from train_smarter.run.run_dir import forget
from train_smarter.sanitize import printable_lines

TYPED = shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])  # before a past run's words are put in between

# What Hydra itself may call in its own part of the config; what a run is built of stands in build.py.
TRUSTED = (
    "train_smarter.run.run_dir.NewRun",
    "train_smarter.sanitize.Formatter",
    "logging.StreamHandler",
    "logging.FileHandler",
)

# Values that are files or folders.
PATHS = ("ckpt_path", "data.dir", "model.pretrained", "paths.data", "paths.logs")


def command(
    name: str, act: Callable[[DictConfig], Any], words: Callable[[Sequence[str]], Sequence[str]] = list
) -> None:
    """Composes conf/<name>.yaml with the overrides on the command line and calls `act` on it.

    `words` turns the words that were typed into those that Hydra sees. A user's mistake ends here: its message on
    stderr, exit code 2, no traceback.
    """
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra raises, and the message is ours to print
    _print_safely()
    try:
        _refuse_several_projects()
        _refuse_what_is_no_choice(sys.argv[1:])
        sys.argv[1:] = [_absolute(word) for word in words(sys.argv[1:])]
        hydra.main(config_path=str(paths.CONF), config_name=name, execution_whitelist=TRUSTED)(_answering(act))()
    except InstantiationException as error:  # of a sweeper or launcher
        if not isinstance(error.__cause__, UserError | TypeError):
            raise
        _answer(error.__cause__)
    except (UserError, CompactHydraException, OmegaConfBaseException) as error:
        _answer(error)
    except KeyboardInterrupt:
        sys.exit(130)


def _print_safely() -> None:
    """Has Python escape control characters in what it prints itself: warnings, and the traceback of an error."""
    if getattr(sys.excepthook, "__module__", "") == __name__:
        return
    spelled = warnings.formatwarning

    def formatwarning(*given: Any, **named: Any) -> str:
        return printable_lines(spelled(*given, **named))

    def excepthook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        print(printable_lines("".join(traceback.format_exception(kind, error, trace))), end="", file=sys.stderr)  # noqa: T201

    warnings.formatwarning, sys.excepthook = formatwarning, excepthook


def _answering(act: Callable[[DictConfig], Any]) -> Callable[[DictConfig], Any]:
    """Ends a single run's mistake before Hydra adds its own line to it; a sweep is told by the exception."""

    @functools.wraps(act)
    def answering(cfg: DictConfig) -> Any:
        try:
            return act(cfg)
        except UserError as error:
            forget(Path(HydraConfig.get().runtime.output_dir))
            if HydraConfig.get().mode == RunMode.MULTIRUN:
                raise
            _answer(error)

    return answering


def _answer(error: Exception) -> NoReturn:
    print(printable_lines(_message(error)), file=sys.stderr)  # noqa: T201 (a command's answer)
    sys.exit(2)


def _message(error: Exception) -> str:
    if isinstance(error, UserError):
        return str(error)
    first = str(error).splitlines()[0]
    if isinstance(error, MissingConfigException) and error.options:
        choices = [option for option in error.options if not option.startswith("_")]
        given = str(error.missing_cfg_file).rpartition("/")[2]
        return f"{first}\nThere are: {', '.join(choices)}{nearest(given, choices)}"
    cause = str(error.__cause__).splitlines()[:1] if isinstance(error.__cause__, OmegaConfBaseException) else []
    return "\n".join([first, *cause])


def _absolute(word: str) -> str:
    """`data.dir=photos` with the folder in full: a later command may be typed elsewhere. Lists and quotes stay."""
    key, _, value = word.partition("=")
    if key.lstrip("+") not in PATHS or not value or value == "null" or any(mark in value for mark in ",'\"[]{}$"):
        return word
    path = Path(os.path.abspath(os.path.expanduser(value)))  # noqa: PTH100, PTH111 (a link stays one; ~nobody, too)
    return f"{key}={path if re.fullmatch(r'[A-Za-z0-9_./:-]+', str(path)) else quoted(path)}"


def _refuse_several_projects() -> None:
    if len(paths.PROJECTS) > 1:
        raise UserError(
            f"This environment holds {len(paths.PROJECTS)} projects, {' and '.join(paths.PROJECTS)}, which would share "
            f"one {paths.NAME}: give each its own environment (make setup)"
        )


def _refuse_what_is_no_choice(argv: Sequence[str]) -> None:
    """Hydra ends `logger=null` in a bare traceback, and would compose a file of shared parts, `data=_base`."""
    asks = any(argument.startswith("-") for argument in argv)  # then a bare word may be an option's value
    for argument in argv:
        if "=" not in argument and not asks and not argument.startswith("~"):
            raise UserError(
                f"{argument}: give key=value, {argument}=... if that is the key; --help shows what there is"
            )
        group, _, value = argument.lstrip("+~").partition("=")
        if group and (value == "null" or value.startswith("_")) and (paths.CONF / group).is_dir():
            choices = sorted(path.stem for path in (paths.CONF / group).glob("[!_]*.yaml"))
            instead = f"{group}=none" if "none" in choices else f"one of {', '.join(choices) or 'default'}"
            raise UserError(f"{argument}: this group has no such choice; type {instead}")
