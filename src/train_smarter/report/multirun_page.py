"""The report page of a multirun or search."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup
from omegaconf import OmegaConf

from train_smarter import paths
from train_smarter.errors import UserError
from train_smarter.history import find, saved_config, trials
from train_smarter.history.trials import Trial, Trials
from train_smarter.metric_names import headline
from train_smarter.report import formatting, listing, means, plot, runs, trial_plots
from train_smarter.report.formatting import Content
from train_smarter.report.html import MAX_NAME, MAX_TEXT, render, shrink_to_limit, truncate
from train_smarter.run import files, run_dir

if TYPE_CHECKING:
    from optuna import Study


MAX_GROUPS = 40  # means over seeds and folds shown


# ---- many runs


def multirun_page(folder: Path, *, study: "Study | None" = None) -> str:
    """study: of the search, where it is open already."""
    content, _ = listing.list_jobs(folder)
    found, why = (trials.from_study(study, folder), "") if study is not None else _load_trials(folder, content)
    best = next((one for one in found.trials if one.best), None)
    known = {
        "content": content,
        "found": found,
        "why": why,
        "best": best,
        "chosen": [f"{key}={_format_cell(value)}" for key, value in best.params.items()] if best else [],
        "came_to": _trial_outcome,
        "tested": _test_result(folder, best, content),
        "tiles": _count_states(found, best),
        "means": _means_section(content["groups"], found),
        "importances": _importance_plot(found),
        "repeat": _repeat_command(folder, content),
        "commands": _next_commands(folder, best, found),
    }
    return shrink_to_limit(lambda most: render("multirun.html", **known, **_trial_sections(found, most)))


def _trial_sections(found: Trials, most: int) -> Content:
    """What grows with the number of trials."""
    shown = found.trials[:most]
    return {
        "shown": [(one, [_format_cell(one.params.get(key)) for key in found.params]) for one in shown],
        "failures": [(one, truncate(one.trace, MAX_TEXT)) for one in _unfinished_trials(found)[:most]],
        "history": _history_plot(found, shown),
        "front": _pareto_plot(found, shown),
        "parallel": _parallel_plot(found, shown),
    }


def _load_trials(folder: Path, content: Content) -> tuple[Trials, str]:
    """Those of the study in the folder; without one, or with a damaged one, those that left a folder, and why."""
    if not (folder / "study.log").is_file():
        return trials.from_folders(content), ""
    try:
        return trials.from_study(trials.load_study(folder / "study.log"), folder), ""
    except Exception as error:  # a damaged file fails in many ways
        return trials.from_folders(content), f"study.log cannot be read ({error!r}): what follows is from the folders."


def _count_states(found: Trials, best: Trial | None) -> list[tuple[str, str]]:
    counts = [(state, str(found.count(state))) for state in trials.STATES if found.count(state)]
    if best is None or len(found.objectives) > 1:
        return counts
    return [(f"best {next(iter(found.objectives))}", _trial_outcome(best.values[0])), *counts]


def _test_result(folder: Path, best: Trial | None, content: Content) -> tuple[str, float] | None:
    """The headline metric of the best trial on the test split: a job of a grid has it, a search evaluates it last."""
    if best is None:
        return None
    run = next((run for run in content["jobs"] if Path(run["folder"]).name == best.name and "metrics" in run), None)
    known = None if run is None else runs.test_value(run)
    if run is not None and known is not None:
        return headline(run["metrics"]), known
    path = folder / best.name / "evaluate" / "results.json"
    try:
        results = files.read_json(path) if path.is_file() else {}
        name = headline(runs.declared_metrics(run or {}, results))
        later = results.get(f"test/{name}")
        return None if later is None else (name, float(later))
    except runs.DAMAGE:
        return None


def _format_cell(value: Any) -> str:
    """A choice, to four digits."""
    return (
        formatting.MISSING
        if value is None
        else f"{value:.4g}"
        if isinstance(value, float)
        else truncate(str(value), MAX_NAME)
    )


def _trial_outcome(value: float) -> str:
    """What a trial came to: a share, a loss, or a count."""
    return f"{value:.4f}" if abs(value) < 1000 else f"{value:.7g}"


def _trial_label(trial: Trial, objectives: Mapping[str, str]) -> str:
    """What is shown over a trial in a plot."""
    values = ", ".join(f"{name} {_trial_outcome(value)}" for name, value in zip(objectives, trial.values, strict=False))
    state = "" if trial.state == "complete" else f", {trial.state}"
    return f"{trial.name}{state}: {values}"


def _unfinished_trials(found: Trials) -> list[Trial]:
    """Those that were pruned or failed, with their reasons; the failed ones first."""
    return sorted((one for one in found.trials if one.reason), key=lambda one: one.state != "failed")


def _history_plot(found: Trials, shown: Sequence[Trial]) -> list[Markup]:
    plots = []
    for place, (name, mode) in enumerate(found.objectives.items()):
        points = [
            (one.name, number, one.values[place], one.state, _trial_label(one, found.objectives))
            for number, one in _numbered_trials(shown)
            if len(one.values) > place
        ]
        if points:
            alt = f"{name} of each trial in their order, and the best so far"
            plots.append(trial_plots.history(name, points, mode=mode, name=f"history-{place}", alt=alt))
    return plots


def _numbered_trials(shown: Sequence[Trial]) -> list[tuple[int, Trial]]:
    """Trials in the order of their numbers; a job's folder that has none counts by its place."""
    numbered = [(int(one.name) if one.name.isdigit() else place, one) for place, one in enumerate(shown)]
    return sorted(numbered, key=lambda pair: pair[0])


def _pareto_plot(found: Trials, shown: Sequence[Trial]) -> Markup | None:
    """Of two objectives or more, the first two."""
    names = tuple(found.objectives)[:2]
    points = [
        (one.name, *one.values[:2], one.best, _trial_label(one, found.objectives))
        for one in shown
        if len(one.values) > 1
    ]
    if not points:
        return None
    return trial_plots.scatter(names, points, name="front", alt=f"{names[0]} and {names[1]} of each trial")


def _importance_plot(found: Trials) -> list[Markup]:
    return [
        trial_plots.bars(
            f"importance for {objective}",
            weights,
            unit="share of the variance",
            name=f"importance-{place}",
            alt=f"importances for {objective}",
        )
        for place, (objective, weights) in enumerate(found.importances.items())
    ]


def _parallel_plot(found: Trials, shown: Sequence[Trial]) -> Markup | None:
    """Trials that have a value, through the most important of their parameters."""
    known = [one for one in shown if one.values]
    if len(known) < 2 or not found.params:
        return None
    columns = {key: [one.params.get(key) for one in known] for key in found.params[: plot.AXES]}
    for place, (name, mode) in enumerate(found.objectives.items()):
        reached = [at for at, one in enumerate(known) if len(one.values) > place]
        heights = trial_plots.clip_outliers([known[at].values[place] for at in reached], mode)
        by_place = dict(zip(reached, heights, strict=True))
        columns[f"{name} "] = list(map(by_place.get, range(len(known))))  # a space more than a choice of that name
    strengths = [1 - place / len(known) for place in range(len(known))]  # the best come first
    texts = [_trial_label(one, found.objectives) for one in known]
    alt = f"parallel coordinates of {len(known)} trials"
    return trial_plots.parallel(
        columns, [one.name for one in known], strengths, texts, log=found.log_scaled, name="parallel", alt=alt
    )


def _means_section(groups: Sequence[Content], found: Trials) -> Content:
    groups = groups[:MAX_GROUPS]
    names = {shlex.join(group["overrides"]) or "all": group["best"] for group in groups}
    if not names:
        return {}
    rows = [means.mean_row(group) for group in groups]
    alt = "mean and deviation of each group"
    drawn = (
        trial_plots.error_bars(next(iter(found.objectives)), names, name="means", alt=alt) if len(names) > 1 else None
    )
    return {"columns": means.mean_columns(groups), "rows": rows, "plot": drawn}


def _repeat_command(folder: Path, content: Content) -> list[tuple[str, str]]:
    """The command that began it, with commit, versions and hardware: those of its first job that has a record."""
    for job in find.jobs(folder):
        try:
            facts = dict(runs.run_facts(runs.run_sections(job)))
        except UserError:
            continue
        if "command" in facts:
            kept = ("command", "start", "commit", "packages", "hardware")
            return [("folder", content["folder"]), *((name, facts[name]) for name in kept if name in facts)]
    return [("folder", content["folder"])]


def _is_finished_grid(folder: Path, found: Trials) -> bool:
    """Whether no trial can be added: each point of a grid is one, and none is waiting."""
    sampler = OmegaConf.select(saved_config.load_yaml(folder / "multirun.yaml"), "hydra.sweeper.sampler._target_")
    return str(sampler).endswith(".GridSampler") and not found.count("waiting")


def _next_commands(folder: Path, best: Trial | None, found: Trials) -> dict[str, str]:
    """What to type next. A search that keeps its study elsewhere goes on by the command that began it alone."""
    name, commands = run_dir.display_name(folder, paths.LOGS), {}
    goes_on = not found.is_study or (folder / "study.log").is_file()
    if best is not None:
        one, of = ("the best", "") if len(found.objectives) == 1 else (f"trial {best.name}", f"/{best.name}")
        commands[f"{one} in full, with several seeds"] = f"train -m rerun={name}{of} seed=1,2,3,4,5"
        commands[f"{one}, on a separate page"] = f"report run={name}/{best.name}"
    if goes_on and found.count("complete") + found.count("pruned") < len(found.trials):
        commands["what is left to do"] = f"train -m resume={name}"
    if goes_on and found.is_study and not _is_finished_grid(folder, found):
        commands["more trials"] = f"train -m resume={name} hydra.sweeper.n_trials={2 * len(found.trials)}"
    return commands
