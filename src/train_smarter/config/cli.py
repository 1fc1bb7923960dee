"""What every console command shares: it composes its config, acts, and answers a mistake in a line or two."""

import functools
import os
import re
import shlex
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from contextlib import nullcontext
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
from train_smarter.errors import UserError, did_you_mean
from train_smarter.quoting import quote
from train_smarter.run.run_dir import remove_if_empty
from train_smarter.run.streams import protected_streams
from train_smarter.sanitize import escape_controls_in_lines

COMMAND_LINE = shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])  # before a past run's words are put in between

# What Hydra may instantiate in its own part of the config; trust/targets.py has the classes of a run.
HYDRA_ALLOWED_TARGETS = (
    "train_smarter.report.multirun_end.ReportJobs",
    "train_smarter.run.run_dir.CreateRunDir",
    "train_smarter.sanitize.Formatter",
    "logging.StreamHandler",
    "logging.FileHandler",
)

# Values that are files or folders.
PATH_KEYS = ("ckpt_path", "data.dir", "model.pretrained", "paths.data", "paths.logs")


def command(
    name: str, act: Callable[[DictConfig], Any], rewrite_argv: Callable[[Sequence[str]], Sequence[str]] = list
) -> None:
    """Compose conf/<name>.yaml with the overrides on the command line and call `act` on it.

    `rewrite_argv` converts the typed arguments into those that Hydra sees. A user's mistake ends here: its message on
    stderr, exit code 2, no traceback.
    """
    with nullcontext() if name == "predict" else protected_streams():  # predict stops where its reader does
        _command(name, act, rewrite_argv)


def _command(
    name: str, act: Callable[[DictConfig], Any], rewrite_argv: Callable[[Sequence[str]], Sequence[str]]
) -> None:
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra raises, and the message is ours to print
    _escape_printed_controls()
    try:
        _reject_several_projects()
        reject_bad_group_choices(sys.argv[1:])
        sys.argv[1:] = [absolutize(word) for word in rewrite_argv(sys.argv[1:])]
        hydra.main(config_path=str(paths.CONF), config_name=name, execution_whitelist=HYDRA_ALLOWED_TARGETS)(
            _exit_on_user_error(act)
        )()
    except InstantiationException as error:  # of a sweeper or launcher
        if not isinstance(error.__cause__, UserError | TypeError):
            raise
        _exit_with(error.__cause__)
    except (UserError, CompactHydraException, OmegaConfBaseException) as error:
        _exit_with(error)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        if _is_interrupted(error):
            sys.exit(130)
        raise


def _is_interrupted(error: BaseException | None) -> bool:
    """Whether Ctrl-C is behind an error: where it stops OmegaConf within a `finally`, another error follows."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__context__
    return error is not None


def _escape_printed_controls() -> None:
    """Has Python escape control characters in what it prints itself: warnings, and the traceback of an error."""
    if getattr(sys.excepthook, "__module__", "") == __name__:
        return
    spelled = warnings.formatwarning

    def formatwarning(*given: Any, **named: Any) -> str:
        return escape_controls_in_lines(spelled(*given, **named))

    def excepthook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        text = "".join(traceback.format_exception(kind, error, trace))
        sys.stderr.write(escape_controls_in_lines(text))

    warnings.formatwarning, sys.excepthook = formatwarning, excepthook


def _exit_on_user_error(act: Callable[[DictConfig], Any]) -> Callable[[DictConfig], Any]:
    """Ends a single run's mistake before Hydra adds its own line to it; a sweep is told by the exception."""

    @functools.wraps(act)
    def answering(cfg: DictConfig) -> Any:
        try:
            return act(cfg)
        except UserError as error:
            remove_if_empty(Path(HydraConfig.get().runtime.output_dir))
            if HydraConfig.get().mode == RunMode.MULTIRUN:
                raise
            _exit_with(error)

    return answering


def _exit_with(error: Exception) -> NoReturn:
    print(escape_controls_in_lines(message_of(error)), file=sys.stderr)  # noqa: T201 (a command's answer)
    sys.exit(2)


def message_of(error: Exception) -> str:
    if isinstance(error, UserError):
        return str(error)
    first = str(error).splitlines()[0]
    if isinstance(error, MissingConfigException) and error.options:
        choices = [option for option in error.options if not option.startswith("_")]
        given = str(error.missing_cfg_file).rpartition("/")[2]
        return f"{first}\nThere are: {', '.join(choices)}{did_you_mean(given, choices)}"
    if missing := re.match(r"You must specify '(\w+)'", first.rpartition(": ")[2]):
        group = missing[1]
        return (
            f"conf/train.yaml names no default {group}: type {group}=NAME, or add one of your own: "
            f"python scripts/scaffold.py add {group} NAME"
        )
    cause = str(error.__cause__).splitlines()[:1] if isinstance(error.__cause__, OmegaConfBaseException) else []
    return "\n".join([first, *cause])


def absolutize(word: str) -> str:
    """`data.dir=photos` with the folder in full: a later command may be typed elsewhere. Lists and quotes stay."""
    key, _, value = word.partition("=")
    if key.lstrip("+") not in PATH_KEYS or not value or value == "null" or any(mark in value for mark in ",'\"[]{}$"):
        return word
    path = Path(os.path.abspath(os.path.expanduser(value)))  # noqa: PTH100, PTH111 (a link stays one; ~nobody, too)
    return f"{key}={path if re.fullmatch(r'[A-Za-z0-9_./:-]+', str(path)) else quote(path)}"


def _reject_several_projects() -> None:
    if len(paths.PROJECTS) > 1:
        raise UserError(
            f"This environment holds {len(paths.PROJECTS)} projects, {' and '.join(paths.PROJECTS)}, which would share "
            f"one {paths.NAME}: give each its own environment (make setup)"
        )


def reject_bad_group_choices(argv: Sequence[str]) -> None:
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
