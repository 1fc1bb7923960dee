"""What every console command shares: it composes its config, acts, and answers a mistake in a line or two."""

import functools
import logging
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
import hydra._internal.utils
from hydra.core.hydra_config import HydraConfig
from hydra.errors import CompactHydraException, InstantiationException, MissingConfigException, OverrideParseException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

import train_smarter.config.resolvers  # noqa: F401 (conf/ uses them)
from train_smarter import paths
from train_smarter.errors import UserError, did_you_mean
from train_smarter.failures import as_user_error, own_frames, own_traceback
from train_smarter.quoting import quote
from train_smarter.run.environment import load_env_file
from train_smarter.run.run_dir import RunRefusedError, remove_if_empty
from train_smarter.run.streams import protected_streams
from train_smarter.run.trial import current_trial
from train_smarter.sanitize import escape_controls_in_lines
from train_smarter.terminal import echo_error

COMMAND_LINE = shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])  # before a past run's words are put in between

HYDRAS_ERRORS = (CompactHydraException, OmegaConfBaseException)  # of a config that does not compose

# What Hydra may instantiate in its own part of the config; trust/targets.py has the classes of a run.
HYDRA_ALLOWED_TARGETS = (
    "train_smarter.report.multirun_end.ReportJobs",
    "train_smarter.run.run_dir.CreateRunDir",
    "train_smarter.run.log_file.LogFile",
    "train_smarter.sanitize.Formatter",
    "train_smarter.terminal.ScreenHandler",
    "logging.StreamHandler",
    "logging.FileHandler",
)

# Values that are files or folders, where no address will do.
PLACES = r"ckpt_path|run|resume|rerun|compare_to|output|paths\.\w+|model\.pretrained|hydra\.(run|sweep)\.dir"
PLACES += r"|data\.(dir|masks|(val_|test_)?file)|callbacks\.\w+\.(dirpath|folder)|trainer\.default_root_dir"
PATH_KEYS = (
    "ckpt_path",
    "data.dir",
    "data.masks",
    "data.file",
    "data.val_file",
    "data.test_file",
    "model.pretrained",
    "paths.data",
    "paths.logs",
)
# Values that are a file or folder where there is one, else a name on a hub or of a format.
FORMATS = ("arrow", "csv", "imagefolder", "json", "parquet", "text")
MIXED_KEYS = ("data.path", "data.data_dir", "data.data_files", "data.tokenizer", "model.name")


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
    hydra._internal.utils.run_and_report = lambda func: func()  # Hydra would print an error itself
    _escape_printed_controls()
    try:
        _reject_several_projects()
        load_env_file()
        _reject_addresses(sys.argv[1:])
        reject_bad_group_choices(sys.argv[1:])
        sys.argv[1:] = [absolutize(word) for word in rewrite_argv(sys.argv[1:])]
        hydra.main(config_path=str(paths.CONF), config_name=name, execution_whitelist=HYDRA_ALLOWED_TARGETS)(
            _exit_on_error(act)
        )()
    except RunRefusedError as refused:
        _exit_with(refused.error)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        if _is_interrupted(error):
            sys.exit(130)
        _exit_with(error)


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


def _exit_on_error(act: Callable[[DictConfig], Any]) -> Callable[[DictConfig], Any]:
    """Ends a single run's error before Hydra adds its own line to it; a sweep receives the exception."""

    @functools.wraps(act)
    def answering(cfg: DictConfig) -> Any:
        try:
            return act(cfg)
        except Exception as error:
            mistake = as_user_error(error)
            _log_traceback(error)
            if mistake is not None:
                remove_if_empty(Path(HydraConfig.get().runtime.output_dir))
            if HydraConfig.get().mode != RunMode.MULTIRUN:
                _exit_with(error)
            if mistake is None or mistake is error or current_trial() is not None:
                raise
            raise mistake from error

    return answering


def _log_traceback(error: Exception) -> None:
    """Write all of it to the log file; a mistake that this program itself found has nothing to add."""
    if isinstance(error, UserError) and error.__cause__ is None:
        return
    record = logging.LogRecord(
        "train_smarter", logging.ERROR, "", 0, "traceback of the error that ended this", (), None
    )
    record.exc_text = "".join(traceback.format_exception(error)).rstrip()
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.FileHandler):
            handler.handle(record)


def _exit_with(error: Exception) -> NoReturn:
    """Print the message and exit with 2; at a fault in code, the traceback, and exit with 1."""
    composed = HydraConfig.initialized() and not isinstance(error, HYDRAS_ERRORS)
    if composed and isinstance(error, OSError) and error.filename is None:  # of a file of Hydra's
        error.filename = str(HydraConfig.get().runtime.output_dir)
    mistake = explain(error)
    if os.environ.get("HYDRA_FULL_ERROR") == "1" or (mistake is None and not own_frames(error)):
        sys.excepthook(type(error), error, error.__traceback__)
    if mistake is None and not own_frames(error):
        sys.exit(1)
    text = own_traceback(error) if mistake is None else str(mistake)
    echo_error(text)
    sys.exit(1 if mistake is None else 2)


def explain(error: Exception) -> UserError | None:
    """The one message that answers an error; None: it is a fault in code."""
    if isinstance(error, HYDRAS_ERRORS) and not isinstance(error, InstantiationException):
        return UserError(_explain_composition(error))
    return as_user_error(error)


def _explain_composition(error: Exception) -> str:
    first = str(error).splitlines()[0]
    if isinstance(error, OverrideParseException):
        return _explain_parser(error)
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
    if first.startswith(("Ambiguous value", "Sweep parameters")):
        word = first.partition("'")[2].rpartition("'")[0]
        key, _, value = word.partition("=")
        sweep = f"for several runs, type -m {shlex.quote(word)}"
        return f"{word} is several values: {sweep}" + (
            f"; for a list, {shlex.quote(f'{key}=[{value}]')}" if first.startswith("Ambiguous") else ""
        )
    cause = str(error.__cause__).splitlines()[:1] if isinstance(error.__cause__, OmegaConfBaseException) else []
    new_key = "\n".join(str(error).splitlines()[1:2]) if cause and "Did you mean" not in cause[0] else ""
    return "\n".join([first, *cause, *([new_key] if new_key.startswith("To append") else [])])


def _explain_parser(error: OverrideParseException) -> str:
    """The word that Hydra cannot parse, and the reason; the second line of its message, or the third."""
    word, lines = str(error.override), str(error).splitlines()
    reason = " ".join(
        line.strip() for line in lines[1:] if line.strip(" ^") and not line.startswith(("See ", "Error "))
    )
    if "NoneType" in reason and (inner := re.search(r"=choice\(([^()]*)\)", word)):
        plain = shlex.quote(f"{word.partition('=')[0]}={inner[1]}")
        return f"{word}: null cannot be a part of choice(...): type {plain if plain[0] == chr(39) else repr(plain)}"
    return f"{shlex.quote(word)} cannot be parsed: {reason}; put a value with brackets, commas or spaces in quotes"


def _reject_addresses(argv: Sequence[str]) -> None:
    """`paths.logs=s3://...` would become a local folder `s3:`."""
    for word in argv:
        key, _, value = word.lstrip("+").partition("=")
        if re.fullmatch(PLACES, key) and re.match(r"['\"]?\w+://", value):
            raise UserError(
                f"{word}: this is an address, not a folder or file of this machine; mount it, and give the folder"
            )


def _is_place(key: str, value: str) -> bool:
    """Whether a value is a file or a folder."""
    mixed = key in MIXED_KEYS and value not in FORMATS
    return key in PATH_KEYS or (mixed and os.path.exists(os.path.expanduser(value)))  # noqa: PTH110, PTH111 (pathlib's fail at ~nobody)


def absolutize(word: str) -> str:
    """`data.dir=photos` with the folder in full: a later command may be typed elsewhere. Lists and quotes stay."""
    key, _, value = word.partition("=")
    plain = value.lower() in ("", "null", "true", "false")  # model.pretrained=true
    if not _is_place(key.lstrip("+"), value) or plain or any(mark in value for mark in ",'\"[]{}$"):
        return word
    path = Path(os.path.abspath(os.path.expanduser(value)))  # noqa: PTH100, PTH111 (a link stays one; ~nobody, too)
    if key.lstrip("+") == "data.masks" and not path.exists():  # it may be a folder in data.dir
        return word
    return f"{key}={path if re.fullmatch(r'[A-Za-z0-9_./:-]+', str(path)) else quote(path)}"


def _reject_several_projects() -> None:
    if len(paths.PROJECTS) > 1:
        raise UserError(
            f"This environment holds {len(paths.PROJECTS)} projects, {' and '.join(paths.PROJECTS)}, which would share "
            f"one {paths.NAME}: give each its own environment (make setup)"
        )


# Values that Hydra reads as something else than a name, and the names of files of shared parts.
NO_CHOICE = r"_.*|\{.*|null|true|false|nan|[+-]?(inf|[\d_]+\.?[\d_]*(e[+-]?\d+)?|\.\d+)"


def reject_bad_group_choices(argv: Sequence[str]) -> None:
    """Hydra ends `logger=null` in a bare traceback, and would compose a file of shared parts, `data=_base`."""
    asks = any(argument.startswith("-") for argument in argv)  # then a bare word may be an option's value
    for argument in argv:
        if "=" not in argument and not asks and not argument.startswith("~"):
            raise UserError(
                f"{argument}: give key=value, {argument}=... if that is the key; --help shows what there is"
            )
        group, _, value = argument.lstrip("+~").partition("=")
        if not group and argument[:1] not in "-~":
            raise UserError(f"{argument}: give key=value")
        if group and re.fullmatch(NO_CHOICE, value, re.IGNORECASE) and (paths.CONF / group).is_dir():
            choices = sorted(path.stem for path in (paths.CONF / group).glob("[!_]*.yaml"))
            nothing = value == "null" and "none" in choices
            instead = f"{group}=none" if nothing else f"one of {', '.join(choices) or 'default'}"
            raise UserError(f"{argument}: this group has no such choice; type {instead}")
