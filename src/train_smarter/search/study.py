"""A search's study: where Optuna keeps it, which of its trials count, and whose they are.

Optuna is imported when a study is opened, not before.
"""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from train_smarter.errors import UserError
from train_smarter.history.trials import state_of
from train_smarter.run import record
from train_smarter.search.storage import open_storage

if TYPE_CHECKING:
    from optuna import Study as OptunaStudy
    from optuna import Trial
    from optuna.pruners import BasePruner
    from optuna.samplers import BaseSampler
    from optuna.trial import FrozenTrial


Direction = Literal["minimize", "maximize"]
MAX_RETRIES = 2  # how often the point of a trial that was cut off is asked again
MAX_TEXT = 20_000  # characters of an error that a study keeps; a database's text may end at 65,535 bytes
ORPHAN_SECONDS = 60  # seconds that a process has to end which a killed search has left behind


# ---- the study


class SharedStudy:
    """The trials of a search, in this process and in all others that share its storage.

    A trial counts when it has ended: complete, pruned or failed. One that was cut off, by the death of its process or
    of the search, is closed and does not count; its point is asked again, twice at most.

    Args:
        name, url: which study, and where it is stored.
        folder: of the search; each trial's lies in it, by its number.
        directions: "maximize" or "minimize", for each objective.
        total: how many trials there are to be.
        sampler: makes one for the trial of a number: so it draws the same, whichever process it runs in.
        suggest: draws a trial's values.
        values: what a run in a folder has come to, for each objective.
    """

    def __init__(
        self,
        name: str,
        url: str,
        folder: Path,
        *,
        directions: Sequence[Direction],
        total: int,
        sampler: Callable[[int], BaseSampler],
        pruner: BasePruner,
        suggest: Callable[[Trial], None],
        values: Callable[[Path], Sequence[float]],
    ) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        storage = open_storage(url)
        folder.mkdir(parents=True, exist_ok=True)
        self.name, self.url, self.folder, self.total = name, url, folder, total
        self.sampler, self.suggest, self.values = sampler, suggest, values
        self._thread = threading.Lock()
        with self.locked():
            self.optuna: OptunaStudy = optuna.create_study(
                study_name=name,
                storage=storage,
                sampler=sampler(0),
                pruner=pruner,
                directions=list(directions),
                load_if_exists=True,
            )
        self.first_files = len(self.trials)
        self._warned: set[str] = set()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """For one process and thread at a time; the system lets go of it when a process dies."""
        from filelock import FileLock

        with self._thread, FileLock(self.folder / ".lock"):
            yield

    @property
    def trials(self) -> list[FrozenTrial]:
        return self.optuna.get_trials(deepcopy=False)

    def ended(self) -> list[FrozenTrial]:
        """The trials that count."""
        return [trial for trial in self.trials if trial.state.is_finished() and not trial.user_attrs.get("cut_off")]

    def running(self) -> list[FrozenTrial]:
        from optuna.trial import TrialState

        return [trial for trial in self.trials if trial.state == TrialState.RUNNING]

    def counts(self) -> dict[str, int]:
        """How many trials are complete, pruned and failed."""
        states = [state_of(trial) for trial in self.ended()]
        return {state: states.count(state) for state in ("complete", "pruned", "failed")}

    def verify_or_record(self, search: Mapping[str, Mapping[str, Any]], files: Mapping[str, int]) -> None:
        """Notes what is searched and with which files, or holds it against what was noted when the study began.

        Raises:
            UserError: something else was searched then.
        """
        with self.locked():
            noted = self.optuna.user_attrs.get("search")
            if noted is not None and not (isinstance(noted, dict) and all(isinstance(p, dict) for p in noted.values())):
                raise UserError(f"study {self.name} is damaged: begin a new one, {next_name(self.name)}")
            if noted is None:
                self.optuna.set_user_attr("files", files)
                self.optuna.set_user_attr("search", search)
                return
        changed = [
            f"\n  {key}: {_format_setting(now)} instead of {_format_setting(before)}"
            for part in search
            for key in dict.fromkeys([*noted.get(part, {}), *search[part]])
            if (now := search[part].get(key)) != (before := noted.get(part, {}).get(key))
        ]
        if changed:
            raise UserError(
                f"study {self.name} has {len(self.ended())} trials of another search:{''.join(changed)}\n"
                f"Type it as it began, or begin a new study: {next_name(self.name)}"
            )

    def changed_files(self, files: Mapping[str, int]) -> list[str]:
        """Files that differ from those that the study began with; each is told once."""
        then = self.optuna.user_attrs.get("files", {})
        changed = {name for name in {*then, *files} if then.get(name) != files.get(name)} - self._warned
        self._warned |= changed
        return sorted(changed)

    # ---- whose trials are whose

    def claim(self) -> Trial | None:
        """The next trial, which is this process's now; None: all that are wanted have ended, or run somewhere."""
        with self.locked():
            if self._remaining() <= 0:
                self._close_interrupted()
            if self._remaining() <= 0:
                return None
            self.optuna.sampler = self.sampler(len(self.trials))
            trial = self.optuna.ask()
            self.suggest(trial)
            trial.set_user_attr("owner", {"host": platform.node(), "pid": os.getpid(), "start": _own_start_time()})
            return trial

    def enqueue(self, points: Sequence[Mapping[str, Any]]) -> None:
        """Puts points in line that no trial has, or had."""
        with self.locked():
            known = [trial.system_attrs.get("fixed_params", trial.params) for trial in self.trials]
            for point in points:
                if point not in known:
                    self.optuna.enqueue_trial(dict(point))

    def close_interrupted(self) -> int:
        """Closes trials whose process is gone, and asks their points again; returns how many there were."""
        with self.locked():
            return self._close_interrupted()

    def requeue(self, trial: Trial, *, died: bool = True) -> bool:
        """Closes a trial that was cut off; returns whether its point is asked again.

        Args:
            died: False: the search was asked to end, which may happen to a trial any number of times.
        """
        with self.locked():
            frozen = next(one for one in self.trials if one.number == trial.number)
            return self._requeue(frozen, died=died)

    def _remaining(self) -> int:
        return self.total - len(self.ended()) - len(self.running())

    def _close_interrupted(self) -> int:
        from optuna.trial import TrialState

        dead = [trial for trial in self.running() if not self._is_alive(trial)]
        for trial in dead:
            folder = self.folder / str(trial.number)
            self._wait_for_orphan(folder)
            became = record.status(folder)
            if became in ("done", "pruned"):  # and nobody was left to tell
                self._report_orphan(trial, folder, pruned=became == "pruned")
            elif not self._requeue(trial, died=became == "killed"):  # else it ended because the search was gone
                self.optuna._storage.set_trial_user_attr(trial._trial_id, "error", "its process died each time")
                self.optuna.tell(trial.number, state=TrialState.FAIL)
        return len(dead)

    def _report_orphan(self, trial: FrozenTrial, folder: Path, *, pruned: bool) -> None:
        from optuna.trial import TrialState

        try:
            self._report(trial.number, None if pruned else self.values(folder), pruned=pruned)
        except (UserError, KeyError, ValueError, TypeError, ArithmeticError) as error:
            self.optuna._storage.set_trial_user_attr(trial._trial_id, "error", str(error))
            self.optuna.tell(trial.number, state=TrialState.FAIL)

    def _requeue(self, trial: FrozenTrial, *, died: bool = True) -> bool:
        from optuna.trial import TrialState

        if trial.state.is_finished():  # another machine took it for dead, and has done this
            return True
        deaths = int(trial.user_attrs.get("deaths", 0)) + died
        if deaths > MAX_RETRIES:
            return False
        # One that was cut off while its values were drawn has a point only if it was given one.
        point = trial.params if "owner" in trial.user_attrs else trial.system_attrs.get("fixed_params")
        asked = any(other.user_attrs.get("repeats") == trial.number for other in self.trials)
        if point and not asked:  # first: else a death in between would lose it
            self.optuna.enqueue_trial(point, user_attrs={"deaths": deaths, "repeats": trial.number})
        self.optuna._storage.set_trial_user_attr(trial._trial_id, "cut_off", True)
        self.optuna.tell(trial.number, state=TrialState.FAIL)
        return True

    def _is_alive(self, trial: FrozenTrial) -> bool:
        """Whether the search that runs a trial is alive; of another machine, its run's record tells."""
        owner = trial.user_attrs.get("owner")
        if not isinstance(owner, dict):  # it is set before the lock is let go of
            return False
        if owner.get("host") == platform.node():
            start = record.process_start_time(owner.get("pid"))
            return start is not None and start == owner.get("start")
        begun = trial.datetime_start or datetime.now()
        young = (datetime.now() - begun).total_seconds() < 5 * record.HEARTBEAT
        return young or record.status(self.folder / str(trial.number)) == "running"

    def _wait_for_orphan(self, folder: Path) -> None:
        """A process of a search that was killed notices, saves and ends by itself."""
        end = time.monotonic() + ORPHAN_SECONDS
        while record.status(folder) == "running" and time.monotonic() < end:
            time.sleep(0.2)

    # ---- how they ended

    def report_result(self, trial: Trial, values: Sequence[float] | None, error: str | None = None) -> None:
        """Closes a trial that has come to its end: with its values, or failed with a traceback, or pruned.

        Pruning is known from what the job noted itself.
        """
        from optuna.exceptions import UpdateFinishedTrialError
        from optuna.trial import TrialState

        if error is not None:
            with suppress(UpdateFinishedTrialError):  # another machine took this one for dead
                trial.set_user_attr("error", _shorten_error(error))
            self.optuna.tell(trial, state=TrialState.FAIL, skip_if_finished=True)
            return
        frozen = next(one for one in self.trials if one.number == trial.number)
        self._report(trial.number, values, pruned="pruned" in frozen.user_attrs)

    def _report(self, number: int, values: Sequence[float] | None, *, pruned: bool) -> None:
        from optuna.trial import TrialState

        if pruned:
            self.optuna.tell(number, state=TrialState.PRUNED, skip_if_finished=True)
        else:
            self.optuna.tell(number, values, skip_if_finished=True)

    def best(self) -> FrozenTrial | None:
        """The best complete trial; None: there is none, or there are several objectives."""
        if len(self.optuna.directions) > 1 or not self.counts()["complete"]:
            return None
        return self.optuna.best_trial

    def results(self) -> dict[str, Any]:
        """The content of optimization_results.yaml, as the plugin writes it."""
        if len(self.optuna.directions) > 1:
            front = [{"params": dict(t.params), "values": list(t.values)} for t in self.optuna.best_trials]
            return {"name": "optuna", "solutions": front}
        best = self.best()
        return {"name": "optuna"} | ({"best_params": dict(best.params), "best_value": best.value} if best else {})

    def delete(self) -> None:
        """Takes back what was begun: nothing has been run."""
        import optuna

        optuna.delete_study(study_name=self.name, storage=open_storage(self.url))
        shutil.rmtree(self.folder, ignore_errors=True)
        open_storage.cache_clear()


def next_name(name: str) -> str:
    """The override that begins a new study, as a shell takes it."""
    return shlex.quote(f"hydra.sweeper.study_name={name}_2")


def fingerprints(*folders: Path) -> dict[str, int]:
    """Of each Python and YAML file in the folders, to tell whether it has changed."""
    return {
        str(file.relative_to(folder.parent)): zlib.crc32(file.read_bytes())
        for folder in folders
        for file in sorted(folder.rglob("*"))
        if file.suffix in (".py", ".yaml")
    }


def _own_start_time() -> str | None:
    return record.process_start_time(os.getpid())


def _shorten_error(error: str) -> str:
    """How it begins and how it ends; what is between has the most repeats."""
    head = MAX_TEXT // 4
    return error if len(error) <= MAX_TEXT else f"{error[:head]}\n...\n{error[head - MAX_TEXT :]}"


def _format_setting(value: Any) -> str:
    return "nothing" if value is None else str(value)
