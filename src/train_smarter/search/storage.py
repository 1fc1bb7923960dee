"""Open the storage of a study."""

from __future__ import annotations

import functools
import json
import logging
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from train_smarter.errors import UserError, file_error
from train_smarter.run.trial import TrialRef

if TYPE_CHECKING:
    from optuna import Trial
    from optuna.pruners import BasePruner
    from optuna.storages import BaseStorage

log = logging.getLogger(__name__)


@functools.cache
def open_storage(url: str) -> BaseStorage:
    """Opens a storage once a process.

    Args:
        url: journal:///path for a file, else what SQLAlchemy takes: sqlite:///path, postgresql://user@host/name.
    """
    from optuna.storages import JournalStorage, RDBStorage
    from optuna.storages.journal import JournalFileBackend

    try:
        if not url.startswith("journal://"):
            return RDBStorage(url)
        file = Path(url.removeprefix("journal://"))
        file.parent.mkdir(parents=True, exist_ok=True)
        _drop_partial_line(file)
        _check_lines(file)
        return JournalStorage(JournalFileBackend(str(file)))
    except UserError:
        raise
    except OSError as error:
        raise UserError(f"hydra.sweeper.storage={url} cannot be opened: {file_error(error)}") from error
    except ImportError as error:
        driver = getattr(error.__cause__, "name", None) or str(error)
        raise UserError(f"hydra.sweeper.storage={url} needs its driver: uv pip install {driver}") from error
    except Exception as error:  # the system's, SQLAlchemy's, or the driver's
        gist = str(error).strip().splitlines()[0]
        raise UserError(
            f"hydra.sweeper.storage={url} cannot be opened: {gist}; if it is damaged, move it away to begin again"
        ) from error


def _drop_partial_line(file: Path) -> None:
    """What a process was writing when it was killed; the next line would be added to it, and be lost with it."""
    from optuna.storages.journal import JournalFileSymlinkLock

    lock = JournalFileSymlinkLock(str(file))  # no other process is writing now
    lock.acquire()
    try:
        with file.open("ab+") as log:
            log.seek(0)
            content = log.read()
            if content and not content.endswith(b"\n"):
                log.truncate(content.rfind(b"\n") + 1)
    finally:
        lock.release()


def _check_lines(file: Path) -> None:
    """Refuse a journal with a line that is no entry: Optuna notices one at the end only when it has written more."""
    with file.open("rb") as log:
        for number, line in enumerate(log, 1):
            try:
                known = isinstance(json.loads(line)["op_code"], int)
            except (ValueError, LookupError, TypeError):
                known = False
            if not known:
                name = shlex.quote(str(file))
                raise UserError(
                    f"{file} is damaged: line {number} is no entry of a study; to continue with the lines before it, "
                    f"type head -n {number - 1} {name} > {name}.new && mv {name}.new {name}"
                )


def load_trial(of: TrialRef, pruner: BasePruner) -> Trial:
    """The trial of a job, to report to; it draws nothing."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.RandomSampler()
    study = optuna.load_study(study_name=of.study, storage=open_storage(of.storage), sampler=sampler, pruner=pruner)
    (frozen,) = (trial for trial in study.get_trials(deepcopy=False) if trial.number == of.number)
    return optuna.Trial(study, frozen._trial_id)
