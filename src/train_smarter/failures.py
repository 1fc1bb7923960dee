"""What an error is for the user: a mistake in the setup, with one message, or a fault in code, with its lines."""

import functools
import linecache
import re
import sys
import sysconfig
import traceback
from pathlib import Path

from train_smarter import paths
from train_smarter.errors import UserError, file_error

LONGEST = 12  # lines of a library's message
# What to type, by the message of Lightning or torch. The first that fits is added.
HINTS = (
    (
        r"val_check_interval.*number of the training batches",
        "type trainer.val_check_interval=1.0 to validate once an epoch, or add trainer.check_val_every_n_epoch=null to "
        "count batches over all epochs",
    ),
    (
        r"requested to check ([\d.e-]+) of the `(\w+)_dataloader`",
        r"trainer.limit_\2_batches=\1 is less than one batch: give a higher share, or a whole number of batches",
    ),
    (r"loading state_dict", "give the config that the checkpoint was trained with, or type evaluate run=<its run>"),
    (r"find_unused_parameters", "type trainer.strategy=ddp_find_unused_parameters_true"),
    (r"deterministic", "type trainer.deterministic=warn"),
    (r"(?i)\bstrategy\b", "choose another trainer.strategy, for example ddp, or leave it out"),
    (r"(?i)accelerator|backend found|machine only has|\bcuda\b|\bgpus?\b", "trainer=auto takes what this machine has"),
)
MEMORY = (
    r"(?i)out of memory|(not enough|can't allocate) memory|failed to allocate|CUDNN_STATUS_ALLOC|CUBLAS_STATUS_ALLOC"
)


def as_user_error(error: BaseException) -> UserError | None:
    """The one message that answers an error; None: it is a fault in code, which needs its traceback."""
    known, cause = _chain(error), _unwrap(error)
    if mistakes := [one for one in known if isinstance(one, UserError)]:
        return mistakes[0]
    if is_out_of_memory(cause):
        return UserError(
            f"not enough memory: {message_of(cause).splitlines()[0]}; give a smaller data.batch_size (with "
            "trainer.accumulate_grad_batches, a step can have as many examples), or a smaller model"
        )
    if isinstance(cause, OSError) and cause.errno:
        return file_error(cause)
    if own_frames(cause) or _is_engine(_file(cause)):
        return None
    return UserError(f"{message_of(cause)}{hint_for(str(cause))}")


def is_out_of_memory(error: BaseException) -> bool:
    return isinstance(error, MemoryError) or re.search(MEMORY, str(error)) is not None


def message_of(error: BaseException) -> str:
    """All of an error's message, without blank lines; its type, where the message alone would be a riddle."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if len(lines) > LONGEST:
        lines = [*lines[:LONGEST], "..."]
    text = "\n  ".join(lines)
    plain = type(error).__name__ in ("MisconfigurationException", "ValueError", "RuntimeError", "UserError")
    return text if text and plain else f"{type(error).__name__}: {text}".removesuffix(": ")


def hint_for(message: str) -> str:
    """`; ` and what to type, or nothing."""
    found = ((re.search(pattern, message, re.DOTALL), hint) for pattern, hint in HINTS)
    return next((f"; {match.expand(hint)}" for match, hint in found if match), "")


def explain_construction(error: Exception, key: str, target: object) -> Exception:
    """The answer to an error of a class that is built from the part `key` of the config; the error, if it has none."""
    cause, mistake = _unwrap(error), as_user_error(error)
    if mistake is not None and mistake in _chain(error):
        return mistake
    if mistake is None and isinstance(cause, ValueError | RuntimeError | TypeError):  # a value of the config, usually
        mistake = UserError(f"{message_of(cause)}{hint_for(str(cause))}")
    if mistake is None:
        return error
    places = [f"{_short(frame.filename)}:{frame.lineno}" for frame in own_frames(error)[-1:]]
    return UserError(f"{key}: {mistake} (in {', '.join([str(target), *places])})")


# ---- faults in code


def own_frames(error: BaseException) -> list[traceback.FrameSummary]:
    """The lines of the user's own code that an error passed through: not the engine's, nor an installed package's."""
    found = traceback.extract_tb(_unwrap(error).__traceback__)
    return [frame for frame in found if not (_is_engine(frame.filename) or _is_installed(frame.filename))]


def own_traceback(error: BaseException) -> str:
    """The traceback of a fault in the user's own code, without the frames of libraries, and a line that sums it up."""
    cause, frames = _unwrap(error), own_frames(error)
    last = frames[-1]
    summary = f"{_short(last.filename)}:{last.lineno}: {type(cause).__name__} in {last.name}: {message_of(cause)}"
    shown = "".join(traceback.format_list(frames))
    return f"Traceback of your own code (HYDRA_FULL_ERROR=1 shows all of it):\n{shown}{summary}"


def _chain(error: BaseException | None) -> list[BaseException]:
    found = []
    while error is not None and error not in found:
        found.append(error)
        error = error.__cause__
    return found


def _unwrap(error: BaseException) -> BaseException:
    """Without Hydra's own error around that of a class."""
    while type(error).__name__ == "InstantiationException" and error.__cause__ is not None:
        error = error.__cause__
    return error


def _file(error: BaseException) -> str:
    """The file whose code raised it."""
    frames = traceback.extract_tb(error.__traceback__)
    return frames[-1].filename if frames else ""


def _is_engine(file: str) -> bool:
    return Path(file).is_relative_to(paths.ENGINE)


def _is_installed(file: str) -> bool:
    if file.startswith("<") or not linecache.getline(file, 1):
        return True
    inside = any(Path(file).is_relative_to(folder) for folder in _libraries())
    return inside and not any(Path(file).is_relative_to(folder) for folder in paths.SOURCES)


@functools.cache
def _libraries() -> tuple[str, ...]:
    return tuple({sys.prefix, sys.base_prefix, *sysconfig.get_paths().values()})


def _short(file: str) -> str:
    """A file as an editor opens it from the project's root."""
    path = Path(file)
    return str(path.relative_to(paths.ROOT)) if path.is_relative_to(paths.ROOT) else file
