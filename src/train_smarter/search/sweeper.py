"""The Optuna sweeper: adds pruning, resuming and parallel trials to the plugin's.

It takes the plugin's settings, samplers and search-space grammar; the loop is its own. Optuna is imported in `sweep`.
"""

from __future__ import annotations

import gc
import logging
import math
import sys
import threading
import traceback
from collections.abc import Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import CompactHydraException
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from hydra.utils import execution_whitelist, instantiate
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from train_smarter import paths
from train_smarter.errors import UserError
from train_smarter.run import trial as run_trial
from train_smarter.run.files import atomic_file
from train_smarter.run.results import read_objective
from train_smarter.run.signals import handle_signals
from train_smarter.search import study
from train_smarter.search.launcher import JobFailedError, JobKilledError, ProcessLauncher, release_memory
from train_smarter.search.progress import SearchProgress
from train_smarter.search.sampler import ALLOWED_TARGETS, grid_points, is_grid, make_sampler
from train_smarter.search.settings import check_count, check_name, check_rate, default_to_processes, parse_directions
from train_smarter.search.space import SearchSpace, parse_space
from train_smarter.terminal import echo
from train_smarter.trust import check_folder, check_trials, is_value_of

if TYPE_CHECKING:
    from optuna import Trial


USER_MISTAKES = (UserError, CompactHydraException, OmegaConfBaseException)


class OptunaSweeper(Sweeper):
    """Runs trials until there are `n_trials` in the study, whenever and wherever they were run.

    Args:
        sampler, pruner: configs of Optuna's.
        direction: minimize or maximize; a list where `optimized_metric` is one.
        storage: a URL; None: a journal file in the study's folder.
        study_name: which study.
        n_trials: how many trials there are to be in all.
        n_jobs: how many at a time.
        max_failures: in a row, and the search stops.
        max_failure_rate: of all trials, above which it stops.
        params: what is searched, in the words of the command line.
        custom_search_space: path to a function of (cfg, trial) that draws more.
    """

    def __init__(
        self,
        *,
        sampler: DictConfig,
        pruner: DictConfig,
        direction: Any,
        storage: str | None,
        study_name: str,
        n_trials: int,
        n_jobs: int,
        max_failures: int,
        max_failure_rate: float,
        params: DictConfig | None = None,
        custom_search_space: str | None = None,
    ) -> None:
        self.sampler, self.pruner, self.storage, self.study_name = sampler, pruner, storage, check_name(study_name)
        self.directions = parse_directions(direction)
        self.n_trials, self.n_jobs = check_count("n_trials", n_trials), check_count("n_jobs", n_jobs)
        self.max_failures = check_count("max_failures", max_failures)
        self.max_failure_rate = check_rate(max_failure_rate)
        self.params: dict[str, Any] = {str(key): value for key, value in (params or {}).items()}
        self.custom_search_space = custom_search_space
        self.failed_in_a_row, self.failures = 0, 0  # here, since this process began
        self.stopped, self.sampler_is_frozen = threading.Event(), False  # no further trial begins; memory is frozen

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.cfg, self.folder = config, Path(str(config.hydra.sweep.dir)).absolute()
        if self.n_jobs > 1 and str(config.hydra.launcher.get("_target_")).endswith("BasicLauncher"):
            default_to_processes(config)  # jobs of one process would take turns
        self.jobs = Plugins.instance().instantiate_launcher(
            config=config, hydra_context=hydra_context, task_function=task_function
        )
        if isinstance(self.jobs, ProcessLauncher):
            self.jobs.n_jobs = self.n_jobs
        # A trial is one line, ours.
        logging.getLogger("hydra._internal.core_plugins.basic_launcher").setLevel(logging.WARNING)

    def sweep(self, arguments: list[str]) -> None:
        """Runs what is left of the search.

        Args:
            arguments: the overrides that were typed; a sweep among them is a part of the search space.

        Raises:
            UserError: it cannot begin, or its first trial showed a mistake.
            SystemExit: 1, if trials failed.
        """
        typed = [*(f"{key}={value}" for key, value in self.params.items()), *arguments]
        space = parse_space(typed, more=bool(self.custom_search_space))
        self._check_directions()
        new = not self.folder.exists()
        if not new:
            check_folder(self.folder)
        self.study = self._open(space)
        self.progress = SearchProgress(
            self.study,
            self.folder,
            objectives=self._objectives(),
            storage=self.storage,
            n_trials=self.n_trials,
            n_jobs=self.n_jobs,
        )
        with handle_signals():
            try:
                self._verify_or_record(space)
                self._run_trials(space)
            except USER_MISTAKES:
                if new and not self.study.ended():
                    self.study.delete()
                raise
            except (KeyboardInterrupt, SystemExit):
                self.progress.print_resume_command()
                raise
            finally:
                gc.unfreeze()  # `_finish_trial` froze it
        self._finish()

    # ---- before the first trial

    def _check_directions(self) -> None:
        if (objectives := self._objectives()) and len(objectives) != len(self.directions):
            raise UserError(
                f"optimized_metric={','.join(objectives)} has {len(objectives)} names, hydra.sweeper.direction "
                f"{len(self.directions)}: type 'hydra.sweeper.direction=[maximize,minimize]', one for each"
            )

    def _objectives(self) -> list[str]:
        names = self.cfg.get("optimized_metric", self.cfg.get("monitor"))
        return list(names) if isinstance(names, ListConfig) else [str(names)]

    def _open(self, space: SearchSpace) -> study.SharedStudy:
        url = self.storage or f"journal://{self.folder}/study.log"
        return study.SharedStudy(
            self.study_name,
            url,
            self.folder,
            directions=self.directions,
            total=self.n_trials,
            sampler=lambda number: make_sampler(self.sampler, number),
            pruner=instantiate(self.pruner, _execution_whitelist_=execution_whitelist(ALLOWED_TARGETS, reset=True)),
            suggest=lambda trial: self._suggest(trial, space),
            values=lambda folder: _to_numbers(read_objective(folder, self.cfg)),
        )

    def _verify_or_record(self, space: SearchSpace) -> None:
        """Holds the study against what is to be searched, and takes up what an earlier start left behind."""
        there = [path.name for path in self.folder.iterdir() if path.name.isdigit()]
        known = len(self.study.trials)  # after the look: another process's trial has its number before its folder
        if unknown := [name for name in there if int(name) >= known]:
            raise UserError(
                f"{self.folder} holds trials that the study does not know ({', '.join(sorted(unknown, key=int)[:5])}): "
                f"begin a new one, {study.next_name(self.study_name)}"
            )
        directions = dict(zip(self._objectives(), self.directions, strict=True))
        self.study.verify_or_record(space.describe(directions), self._files())
        check_trials(self.study.trials, space.distributions, more=bool(self.custom_search_space), study=self.study_name)
        with atomic_file(self.folder / "multirun.yaml") as part:
            OmegaConf.save(self.cfg, part)
        cut_off = self.study.close_interrupted()
        if is_grid(self.sampler):
            # `n_trials` beyond the points are not run.
            points = grid_points(space, seed=self.sampler.get("seed") or 0)
            self.study.total = min(self.n_trials, len(points))
            self.progress.most_trials = len(points)
            self.study.enqueue(points)
        ended = len(self.study.ended())
        if ended:
            again = f"; {cut_off} interrupted trials run again" if cut_off else ""
            echo(f"study {self.study_name} resumed: {ended} of {self.study.total} trials are done{again}")
        elif not self.study.first_files:
            names = ", ".join(space.distributions)
            echo(f"study {self.study_name}: {self.study.total} trials over {names}, in {self.folder}")

    def _suggest(self, trial: Trial, space: SearchSpace) -> None:
        for key, distribution in space.distributions.items():
            trial._suggest(key, distribution)
        if self.custom_search_space:
            trusted = execution_whitelist((self.custom_search_space,), reset=True)
            draw = instantiate({"_target_": self.custom_search_space, "_partial_": True}, _execution_whitelist_=trusted)
            draw(self.cfg, trial)
        for key, value in trial.params.items():  # one that waited had a value already, which Optuna only warns of
            if not is_value_of(trial.distributions[key], value):
                raise UserError(f"study {self.study_name} is refused: it has {key}={value!r} for trial {trial.number}")

    def _files(self) -> dict[str, int]:
        return study.fingerprints(*paths.SOURCES)

    # ---- trials

    def _run_trials(self, space: SearchSpace) -> None:
        """Runs trials until none is left; of processes, each slot takes the next trial as soon as it is free."""
        if not isinstance(self.jobs, ProcessLauncher) or self.n_jobs == 1:
            self._run_batches(space, width=1 if isinstance(self.jobs, ProcessLauncher) else self.n_jobs)
            return
        with ThreadPoolExecutor(self.n_jobs) as pool:
            slots = [pool.submit(self._run_batches, space) for _ in range(self.n_jobs)]
            try:
                done, _ = wait(slots, return_when=FIRST_EXCEPTION)
                for slot in done:
                    slot.result()
            except BaseException:
                self.stopped.set()
                self.jobs.stop()
                raise

    def _run_batches(self, space: SearchSpace, *, width: int = 1) -> None:
        """width: trials that are launched together, by a launcher of somebody else's that runs them side by side."""
        while not self.stopped.is_set():
            claimed = [trial for _ in range(width) if (trial := self.study.claim())]
            if not claimed:
                return
            self._warn_changed_files()
            for trial, returned in zip(claimed, self._launch(claimed, space), strict=True):
                self._finish_trial(trial, returned)
            if self._too_many_failures():
                self.stopped.set()

    def _launch(self, trials: Sequence[Trial], space: SearchSpace) -> Sequence[JobReturn]:
        jobs = [self._overrides(trial, space) for trial in trials]
        try:
            return self.jobs.launch(jobs, initial_job_idx=trials[0].number)
        except Exception as error:  # its config does not even compose
            return [JobReturn(_return_value=error, status=JobStatus.FAILED) for _ in jobs]
        except BaseException:  # the search is asked to end
            for trial in trials:
                self.study.requeue(trial, died=False)
            raise

    def _overrides(self, trial: Trial, space: SearchSpace) -> list[str]:
        ticket = run_trial.TrialRef(self.study.url, self.study_name, trial.number)
        return [*space.overrides(trial.params), f"hydra.sweep.subdir={trial.number}", ticket.override()]

    def _finish_trial(self, trial: Trial, returned: JobReturn) -> None:
        """Tells the study how a trial ended, and the user in a line."""
        try:
            values = self._values(returned)
        except USER_MISTAKES as error:
            if not self.study.ended():
                raise
            self._fail_trial(trial, error)
        except JobKilledError as error:
            stopped = self.stopped.is_set()
            if not self.study.requeue(trial, died=not stopped):
                self._fail_trial(trial, error)
            elif not stopped:
                echo(f"trial {trial.number}: {error}; its point runs again")
        except Exception as error:
            self._fail_trial(trial, error)
        else:
            self.failed_in_a_row = 0
            self.study.report_result(trial, values)
            self.progress.print_trial(trial.number)
        release_memory(returned)
        if (
            not self.sampler_is_frozen
        ):  # what the first trial imported stays: looking through it takes half a second each time
            gc.freeze()
            self.sampler_is_frozen = True

    def _values(self, returned: JobReturn) -> list[float]:
        value = returned._return_value  # `return_value` would print the error first
        if returned.status != JobStatus.COMPLETED:
            raise value if isinstance(value, Exception) else RuntimeError(f"it ended with {value!r}")
        return _to_numbers(value)

    def _fail_trial(self, trial: Trial, error: Exception) -> None:
        self.failed_in_a_row += 1
        self.failures += 1
        told = (
            str(error)
            if isinstance(error, JobFailedError | JobKilledError)
            else "".join(traceback.format_exception(error))
        )
        self.study.report_result(trial, None, error=told)
        self.progress.print_trial(trial.number)

    def _too_many_failures(self) -> bool:
        counts = self.study.counts()
        rate = counts["failed"] / max(1, sum(counts.values()))
        return self.failed_in_a_row >= self.max_failures or rate > self.max_failure_rate

    def _warn_changed_files(self) -> None:
        if changed := self.study.changed_files(self._files()):
            echo(
                f"since this study began, {', '.join(changed)} changed: later trials may not compare with earlier ones"
            )

    # ---- after the last one

    def _finish(self) -> None:
        OmegaConf.save(OmegaConf.create(self.study.results()), self.folder / "optimization_results.yaml")
        if elsewhere := len(self.study.running()):
            echo(f"{elsewhere} trials still run elsewhere; the last to end concludes the study")
            return
        counts = self.study.counts()
        ended = sum(counts.values())
        told = ", ".join(f"{number} {state}" for state, number in counts.items() if number)
        echo("", f"{ended} of {self.study.total} done: {told}")
        if ended < self.study.total and self._too_many_failures():
            echo(
                f"stopped: {self.failed_in_a_row} trials failed in a row, {counts['failed']} of {ended} in all; to "
                "bear more, raise hydra.sweeper.max_failures or hydra.sweeper.max_failure_rate"
            )
        if counts["complete"]:
            self.progress.print_best_trial(test=self.cfg.get("test", True))
        if self.cfg.get("report", True):
            from train_smarter.report import page  # here: it draws

            page.write_at_end(self.folder, study=self.study.optuna)
        self.progress.print_next_commands(ended)
        if self.failures:
            sys.exit(1)


def _to_numbers(returned: Any) -> list[float]:
    """What a job returned, for each objective."""
    if returned is None:
        raise ValueError(
            "the objective was never measured: the run ended before its first validation; give it more "
            "trainer.max_steps, or validate sooner: trainer.val_check_interval=0.1"
        )
    values = [float(one) for one in (returned if isinstance(returned, list | tuple) else [returned])]
    if not all(map(math.isfinite, values)):
        raise FloatingPointError(f"the objective is {returned}")
    return values
