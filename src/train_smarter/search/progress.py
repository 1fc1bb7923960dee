"""What a search prints: a line per trial, the best one, and the commands to type next."""

from __future__ import annotations

import shlex
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from train_smarter import paths
from train_smarter.history import trials as history_trials
from train_smarter.quoting import to_cli
from train_smarter.run import run_dir
from train_smarter.run.files import read_json
from train_smarter.run.results import epochs_done, metrics_of, problem_names
from train_smarter.search.study import SharedStudy, next_name
from train_smarter.terminal import echo, echo_labelled, echo_prose, format_duration, format_metric, short_path

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial


class SearchProgress:
    """Prints how a search proceeds.

    Args:
        study: the search; folder: of its trials.
        objectives: names of the optimized metrics.
        storage: a URL of the user's, or None for the journal file in `folder`.
        n_trials: trials in all; n_jobs: how many run at a time.
    """

    def __init__(
        self,
        study: SharedStudy,
        folder: Path,
        *,
        objectives: Sequence[str],
        storage: str | None,
        n_trials: int,
        n_jobs: int,
    ) -> None:
        self.study, self.folder, self.objectives = study, folder, objectives
        self.storage, self.n_trials, self.n_jobs = storage, n_trials, n_jobs
        self.most_trials: int | None = None  # the points of a grid
        self.seconds: list[float] = []  # of the trials that ended in this process

    def print_trial(self, number: int) -> None:
        """A line: how a trial ended, the best so far, the time left."""
        trial = next(one for one in self.study.trials if one.number == number)
        ended, total = len(self.study.ended()), self.study.total
        if trial.duration:
            self.seconds.append(trial.duration.total_seconds())
        left = statistics.mean(self.seconds[-20:]) * (total - ended) / self.n_jobs if self.seconds else 0
        best = self.study.best()
        known = f" | best {best.value:.4f}, trial {best.number}" if best else ""
        ahead = f" | {format_duration(left)} left" if ended < total else ""
        width = len(str(total))
        line = f"{self.trial_line(trial)}; {_format_params(trial)}{known}{ahead}"
        style = "green" if best and best.number == number else ""
        echo_prose(f"[{ended:{width}}/{total}] trial {number}: {line}", style)

    def trial_line(self, trial: FrozenTrial) -> str:
        state = history_trials.state_of(trial)
        if state == "failed":
            return f"failed: {history_trials.last_error_line(trial.user_attrs.get('error', ''))}"
        epochs = epochs_done(self.folder / str(trial.number))
        values = ", ".join(
            f"{name} {value:.4f}" for name, value in zip(self.objectives, trial.values or [], strict=False)
        )
        what = f"pruned after {epochs} epochs, {values}" if state == "pruned" else f"{values}, {epochs} epochs"
        found = problem_names(self.folder / str(trial.number))
        wrong = f", {len(found)} found: {' '.join(found)}" if found else ""
        return f"{what}, {format_duration(trial.duration.total_seconds() if trial.duration else 0)}{wrong}"

    def print_best_trial(self, *, test: bool) -> None:
        if len(self.objectives) > 1:
            echo("Pareto front:")
            for trial in self.study.optuna.best_trials:
                echo_prose(f"  trial {trial.number}: {self.trial_line(trial)}; {_format_params(trial)}")
            return
        best = self.study.best()
        assert best is not None
        line = f"best: {self.objectives[0]} {best.value:.4f} in trial {best.number}: {_format_params(best)}"
        echo_prose(line, "bold green")
        if test and (results := _test_best_trial(self.folder / str(best.number))):
            names = sorted(metrics_of(results), key="test/loss".__eq__)
            told = ", ".join(f"{name} {format_metric(results[name])}" for name in names)
            echo_prose(f"its checkpoint on the test split, which no trial has seen: {told}")

    def print_next_commands(self, ended: int) -> None:
        name, go_on = self._display_name(), self._resume_command()
        journal = "" if self.storage else shlex.quote(short_path(self.folder / "study.log"))
        more = {
            "several seeds": f"train -m rerun={name} seed=1,2,3,4,5",  # of the best trial
            "compare": f"report run={name}",
            "TensorBoard": f"tensorboard --logdir {shlex.quote(short_path(self.folder))}",
            "dashboard": f"optuna-dashboard {journal or '<its storage>'}",
            "more trials": f"{go_on}{' with' if self.storage else ''} hydra.sweeper.n_trials={2 * self.n_trials}",
            "new study": f"the same command with {next_name(self.study.name)}",
        }
        if self.most_trials is not None and self.study.total >= self.most_trials:
            del more["more trials"]  # a grid has no more points
        if ended < self.study.total:
            more["resume"] = go_on
        echo("")
        echo_labelled(*(f"{what + ':':15}{command}" for what, command in more.items()))

    def print_resume_command(self) -> None:
        echo(f"interrupted; to resume, type: {self._resume_command()}")

    def _resume_command(self) -> str:
        """A storage of the user's own is not taken over from a folder, which may be a stranger's."""
        return "the same command" if self.storage else f"train -m resume={self._display_name()}"

    def _display_name(self) -> str:
        return run_dir.display_name(self.folder, paths.LOGS)


def _format_params(trial: FrozenTrial) -> str:
    return " ".join(f"{key}={to_cli(value, 4)}" for key, value in trial.params.items())


def _test_best_trial(folder: Path) -> dict[str, Any]:
    """The winner's metrics on the test split, asked for once; empty where its checkpoint is gone."""
    results = folder / "evaluate" / "results.json"
    if not results.is_file():
        command = [sys.executable, "-P", "-m", f"{paths.COMMANDS}.evaluate", f"run={folder}", "splits=[test]"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            echo(f"the winner could not be tested: {history_trials.last_error_line(done.stderr)}")
            return {}
    content: dict[str, Any] = read_json(results)
    return content
