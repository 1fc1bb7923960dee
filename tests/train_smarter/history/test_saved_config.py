import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

import train_smarter
from train_smarter.errors import UserError
from train_smarter.history.arguments import argv_for_reader, argv_for_train
from train_smarter.history.find import best_job, checkpoint, find, find_run, jobs
from train_smarter.history.saved_config import load_saved_config, merge_saved_config, past_overrides, three_way_merge
from train_smarter.run.files import read_json, write_json

# ---- finding a past run


def made(folder: Path, *overrides: str, start: str = "2026-01-01T00:00:00") -> Path:
    """A run folder, as `train` leaves it."""
    (folder / ".hydra").mkdir(parents=True)
    OmegaConf.save(OmegaConf.create(list(overrides)), folder / ".hydra" / "overrides.yaml")
    (folder / "config.yaml").write_text("seed: 1\n")
    write_json(folder / "record.json", {"start": start})
    return folder


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    """Three runs; the second is the newest."""
    for name in ("2026-01-01_10_a", "2026-03-01_10_c", "2026-02-01_10_b"):
        made(tmp_path / "logs" / "train" / "runs" / name)
    return tmp_path / "logs"


def test_last_is_the_newest_run(logs: Path) -> None:
    (logs / "train" / "runs" / "3000.note").touch()
    assert find_run("last", logs).name == "2026-03-01_10_c"


@pytest.mark.parametrize(
    ("start", "last"), [("2025-12-31T10:00:00", "2026-03-01_10_c"), ("2026-04-01T10:00:00", "my-baseline")]
)
def test_a_run_named_by_hand_is_the_last_only_while_it_is_the_newest(logs: Path, start: str, last: str) -> None:
    made(logs / "train" / "runs" / "my-baseline", start=start)
    assert find_run("last", logs).name == last


def test_a_run_is_found_by_its_name_or_folder(logs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = logs / "train" / "runs" / "2026-01-01_10_a"
    assert find_run("2026-01-01_10_a", logs) == folder
    assert find_run(str(folder), logs) == folder
    monkeypatch.chdir(folder.parent)
    assert find_run("./2026-01-01_10_a/", logs) == folder
    monkeypatch.setenv("HOME", str(logs))
    assert find_run("~/train/runs/2026-01-01_10_a", logs) == folder


def test_an_unknown_run_is_answered_with_the_nearest_name(logs: Path) -> None:
    with pytest.raises(
        UserError, match=r"run=2026-01-01_10_b is no run folder: .*; did you mean '2026-0\d-01_10_[ab]'\?"
    ):
        find_run("2026-01-01_10_b", logs)


def multirun(folder: Path, *best: float | None, mode: str = "max") -> Path:
    """A multirun with a job for each of the best values; None: it has no results."""
    for number, value in enumerate(best):
        job = made(folder / str(number), f"seed={number}", start=f"2026-05-0{number + 1}T00:00:00")
        (job / ".hydra" / "config.yaml").write_text(f"mode: {mode}\n")
        if value is not None:
            write_json(job / "results.json", {"best_value": value})
    hydra = {"overrides": {"task": ["model=cnn,mlp", "seed=0,1"], "hydra": ["hydra.mode=MULTIRUN"]}}
    OmegaConf.save(OmegaConf.create({"hydra": hydra}), folder / "multirun.yaml")
    return folder


def test_the_last_may_be_a_multirun_which_began_with_its_first_job(logs: Path) -> None:
    sweep = multirun(logs / "train" / "multiruns" / "2026-05", 0.5, 0.75)
    made(logs / "train" / "runs" / "older", start="2026-04-30T00:00:00")
    assert find("last", logs) == sweep
    made(logs / "train" / "runs" / "newer", start="2026-05-01T12:00:00")  # while the multirun was at work
    assert find("last", logs).name == "newer"
    assert find("last", logs, kinds=("multiruns",)) == sweep
    assert find("2026-05", logs) == sweep


def test_a_run_that_died_before_its_record_was_written_is_the_last_one_all_the_same(logs: Path) -> None:
    (logs / "train" / "runs" / "dead" / ".hydra").mkdir(parents=True)
    assert find("last", logs).name == "dead"


def test_last_is_the_newest_run_with_a_checkpoint_and_names_those_without(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, name in enumerate(("a", "b", "c")):
        made(tmp_path / "train" / "runs" / name, start=f"2026-01-0{number + 1}T10:00:00")
    assert find("last", tmp_path, key="resume").name == "c"  # none has one
    assert capsys.readouterr().err == ""
    checkpoints = tmp_path / "train" / "runs" / "a" / "checkpoints"
    checkpoints.mkdir()
    (checkpoints / "last.ckpt").touch()
    for key in ("run", "resume"):
        assert find("last", tmp_path, key=key).name == "a"
        assert capsys.readouterr().err == f"c and 1 more have no checkpoint; {key}=last is a\n"
    assert find("last", tmp_path, key="rerun").name == "c"
    assert find("c", tmp_path).name == "c"
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(("mode", "best"), [("max", "2"), ("min", "1")])
def test_of_a_multirun_the_best_trial_is_taken_and_said(
    logs: Path, mode: str, best: str, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = multirun(logs / "train" / "multiruns" / "a", float("nan"), 0.25, 0.75, None, mode=mode)
    assert find_run("a", logs) == sweep / best
    assert f"a is a multirun; its best trial is {best}, with 0." in capsys.readouterr().err
    assert [job.name for job in jobs(sweep)] == ["0", "1", "2", "3"]


def test_a_multirun_without_any_result_has_no_best_trial(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no trial is done: give one of its folders"):
        best_job(multirun(tmp_path / "a", None, None))


@pytest.mark.parametrize("reference", ["best", "~nobody", "a\tb"])
def test_a_run_like_no_other_is_answered_with_the_newest(logs: Path, reference: str) -> None:
    with pytest.raises(UserError, match=r"is no run folder: .*; the newest is 2026-03-01_10_c"):
        find_run(reference, logs)


def test_a_folder_that_is_no_run_is_refused(logs: Path) -> None:
    with pytest.raises(UserError, match="is no run folder"):
        find_run(str(logs), logs)


def test_without_any_run_there_is_no_last_one(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"run=last: there is nothing under .* yet: type train first"):
        find_run("last", tmp_path)
    with pytest.raises(UserError, match="run=a is no run folder"):
        find_run("a", tmp_path)


def test_a_run_that_ended_before_its_config_was_kept_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds no config: the run ended before it began"):
        load_saved_config(tmp_path)


# ---- commands that read a past run


def test_a_reading_command_sees_the_past_overrides_first_and_the_users_last(tmp_path: Path) -> None:
    folder = made(tmp_path / "train" / "runs" / "a", "data=phrases", "+model.x=1")
    assert argv_for_reader(["model.x=2", "run=last", "splits=[test]"], "evaluate", tmp_path) == [
        "data=phrases",
        "+model.x=1",
        f"run='{folder}'",
        f"hydra.run.dir='{folder}/evaluate'",
        "hydra.output_subdir=null",
        "model.x=2",
        "splits=[test]",
    ]


def test_a_run_without_overrides_has_none() -> None:
    assert past_overrides(Path("nowhere")) == []


def test_the_users_own_logs_are_searched(tmp_path: Path) -> None:
    folder = made(tmp_path / "mine" / "train" / "runs" / "a")
    words = argv_for_reader(["run=last", f"paths.logs={tmp_path}/mine"], "evaluate", tmp_path / "other")
    assert words[0] == f"run='{folder}'"
    assert words[-1] == f"paths.logs={tmp_path}/mine"


def test_a_question_to_hydra_about_a_run_reads_it(tmp_path: Path) -> None:
    folder = made(tmp_path / "train" / "runs" / "a", "data=phrases")
    words = argv_for_reader(["run=a", "--cfg", "job"], "evaluate", tmp_path)
    assert words[:2] == ["data=phrases", f"run='{folder}'"]
    assert words[-2:] == ["--cfg", "job"]


@pytest.mark.parametrize("words", [["--help"], ["--cfg", "job"], ["splits=[test]", "--info"]])
def test_a_question_to_hydra_needs_no_run(words: list[str], tmp_path: Path) -> None:
    assert argv_for_reader(words, "evaluate", tmp_path) == words


@pytest.mark.parametrize("words", [[], ["splits=[test]"], ["run="], ["run=a", "run=b"]])
def test_one_run_is_needed(words: list[str], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="evaluate needs one run: type evaluate run=last"):
        argv_for_reader(words, "evaluate", tmp_path)


ODD = [
    "a b",
    " a ",
    "a,b",
    "a=b",
    "a: b",
    "[a]",
    "{a: b}",
    "(1)",
    "it's",
    "''",
    'say "no"',
    "größer-日本",
    "null",
    "1.0",
    "~a",
    "#a",
    "%s",
    "a$b",
    "${a}",
    "\\${a}",
    "a\\b",
    "a\\\\b",
    "a\\'b",
    "a\\",
]


@pytest.mark.parametrize("name", ODD)
def test_a_folder_of_any_name_is_taken_literally(name: str, tmp_path: Path) -> None:
    folder = made(tmp_path / "train" / "runs" / name)
    parsed = OverridesParser.create().parse_overrides(argv_for_reader([f"run={name}"], "evaluate", tmp_path))
    cfg = OmegaConf.create({override.key_or_group: override.value() for override in parsed})
    assert cfg["run"] == str(folder)
    assert cfg["hydra.run.dir"] == str(folder / "evaluate")


@pytest.mark.parametrize("name", ODD)
def test_a_further_process_finds_the_folder_in_the_words_of_the_first(name: str, tmp_path: Path) -> None:
    made(tmp_path / "train" / "runs" / name)
    words = argv_for_reader([f"run={name}"], "evaluate", tmp_path)
    assert set(argv_for_reader(words, "evaluate", tmp_path / "elsewhere")) == set(words)


def test_hydra_composes_with_a_folder_of_any_name(tmp_path: Path, compose: Any) -> None:
    folder = made(tmp_path / "train" / "runs" / "a, [b]=${c} 'd\\e'")
    cfg = compose(*argv_for_reader([f"run={folder}"], "evaluate", tmp_path), verb="evaluate")
    assert cfg.run == str(folder)


# ---- train goes on with a past run, or does it again


def test_a_run_goes_on_with_its_own_words_in_its_own_folder_where_hydra_writes_nothing(tmp_path: Path) -> None:
    folder = made(tmp_path / "train" / "runs" / "a, [b]", "data=phrases", "resume=x", "rerun='y'")
    assert argv_for_train(["trainer.max_epochs=9", "resume=a, [b]"], tmp_path) == [
        "data=phrases",
        f"resume='{folder}'",
        f"hydra.run.dir='{folder}'",
        "hydra.output_subdir=null",
        "trainer.max_epochs=9",
    ]


def test_a_run_is_done_again_in_a_folder_of_its_own(tmp_path: Path) -> None:
    folder = made(tmp_path / "train" / "runs" / "a", "data=phrases")
    assert argv_for_train(["rerun=last", "-m", "seed=1,2"], tmp_path) == [
        "data=phrases",
        f"rerun='{folder}'",
        "-m",
        "seed=1,2",
    ]


def finished(folder: Path, *, monitor: str = "val/rmse", **results: Any) -> Path:
    """A run with results, whose best checkpoint is that of epoch 11."""
    made(folder, "data=phrases")
    (folder / "config.yaml").write_text("data: {val_fraction: 0.1}\n")
    content = {"monitor": monitor, "checkpoint": "best.ckpt", "best_value": 1.0, "best_epoch": 11, "epochs": 20}
    write_json(folder / "results.json", content | {"seconds": 1.0} | results)
    return folder


def test_a_refit_repeats_a_run_on_validation_too_for_the_epochs_of_its_best_checkpoint(tmp_path: Path) -> None:
    folder = finished(tmp_path / "train" / "runs" / "a")
    assert argv_for_train(["refit=last", "seed=2"], tmp_path) == [
        "data=phrases",
        f"rerun='{folder}'",
        "++data.refit=true",
        "monitor=train/loss",
        "trainer.max_epochs=12",
        "++trainer.max_steps=-1",
        "++trainer.max_time=null",
        "++trainer.limit_val_batches=0",
        "++callbacks.early_stopping=null",
        "++callbacks.checkpoint.monitor=null",
        "seed=2",
    ]


@pytest.mark.parametrize(
    ("results", "told"),
    [
        ({"monitor": "train/loss"}, r"validation did not choose its best checkpoint \(monitor=train/loss\)"),
        ({"monitor": "val/x hydra.run.dir=y"}, "validation did not choose its best checkpoint"),
        ({"best_epoch": None}, "validation did not choose its best checkpoint"),
    ],
)
def test_a_run_that_no_validation_chose_is_not_refit(tmp_path: Path, results: dict[str, Any], told: str) -> None:
    finished(tmp_path / "train" / "runs" / "a", **results)
    with pytest.raises(UserError, match=told):
        argv_for_train(["refit=a"], tmp_path)


def test_a_run_of_other_data_is_not_refit(tmp_path: Path) -> None:
    folder = finished(tmp_path / "train" / "runs" / "a")
    (folder / "config.yaml").write_text("data: {_target_: mine.Data}\n")
    with pytest.raises(UserError, match=r"refit=a: only a train_smarter\.Data can add its validation split"):
        argv_for_train(["refit=a"], tmp_path)


def test_a_multirun_goes_on_with_the_grid_that_it_began_with(tmp_path: Path) -> None:
    folder = multirun(tmp_path / "train" / "multiruns" / "a", 0.5)
    made(tmp_path / "train" / "runs" / "newer", start="2026-06-01")
    assert argv_for_train(["-m", "resume=last"], tmp_path) == [
        "model=cnn,mlp",
        "seed=0,1",
        f"resume='{folder}'",
        f"hydra.sweep.dir='{folder}'",
        "hydra.output_subdir=null",
        "-m",
    ]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["resume=a"], "resume=a is a multirun: type train -m resume=a"),
        (["-m", "resume=b"], "is one run, no multirun: type it without -m"),
        (["resume="], "train resume=last"),
        (["resume=b", "rerun=b"], "give one run to go on with"),
        (["rerun=b", "refit=b"], "give one run to go on with"),
        (["refit="], "train refit=<folder>"),
        (["resume=c"], "resume=c is no run folder: .*did you mean|resume=c is no run folder: .*the newest is a"),
        (["rerun=c"], "rerun=c is no run folder"),
        (["+resume=lastt"], "resume=lastt is no run folder: .* did you mean 'last'"),
        (["resume=b", "hydra.run.dir=/tmp"], "a run goes on in its own folder; leave it out, or type train rerun=b"),
    ],
)
def test_what_cannot_go_on_is_answered_with_what_can(tmp_path: Path, words: list[str], told: str) -> None:
    multirun(tmp_path / "train" / "multiruns" / "a", 0.5)
    made(tmp_path / "train" / "runs" / "b")
    with pytest.raises(UserError, match=told):
        argv_for_train(words, tmp_path)


def test_without_any_run_nothing_can_go_on(tmp_path: Path) -> None:
    for words in (["resume=last"], ["-m", "resume=last"], ["rerun=last"]):
        with pytest.raises(UserError, match="yet: type train first"):
            argv_for_train(words, tmp_path)


def search(folder: Path, *hydra: str) -> None:
    """Makes a multirun's folder that of a search, begun with words about the search."""
    content = {"overrides": {"task": ["search=digits_cnn"], "hydra": list(hydra)}}
    target = {"_target_": "train_smarter.search.sweeper.OptunaSweeper"}
    OmegaConf.save(OmegaConf.create({"hydra": {**content, "sweeper": target}}), folder / "multirun.yaml")


def test_a_search_goes_on_with_the_words_that_it_began_with(tmp_path: Path) -> None:
    folder = multirun(tmp_path / "train" / "multiruns" / "a", 0.5)
    hydra = ["hydra/launcher=process", "hydra.sweeper.n_trials=9", "hydra/sweeper/pruner=none", "hydra.mode=MULTIRUN"]
    search(folder, *hydra)
    expected = ["search=digits_cnn", *hydra[:3], f"hydra.sweep.dir='{folder}'", "hydra.sweeper.n_trials=20", "-m"]
    assert argv_for_train(["resume=a", "hydra.sweeper.n_trials=20", "-m"], tmp_path) == expected


@pytest.mark.parametrize(
    "word",
    [
        "hydra.sweeper.custom_search_space=os.system",
        "hydra.sweeper.storage=journal:///etc/passwd",
        "hydra.sweeper.sampler._target_=os.system",
        "hydra.callbacks.x._target_=os.system",
        "hydra.searchpath=[file:///tmp]",
        "hydra/launcher=process\n--config-dir=/tmp",
        "hydra/launcher=submitit_slurm",
        "hydra.sweeper.direction=${oc.env:SECRET}",
        "hydra.sweeper.n_trials=${oc.env:SECRET}",
    ],
)
def test_a_strangers_search_sets_nothing_else(tmp_path: Path, word: str) -> None:
    folder = multirun(tmp_path / "train" / "multiruns" / "a", 0.5)
    search(folder, word)
    with pytest.raises(UserError, match="is not taken over"):
        argv_for_train(["-m", "resume=a"], tmp_path)


@pytest.mark.parametrize(
    "word",
    [
        "callbacks.checkpoint.dirpath=/elsewhere",
        "callbacks.checkpoint.dirpath=choice(/elsewhere,/x)",
        "data.urls=[http://x]",
        "logger=wandb",
    ],
)
def test_a_strangers_multirun_names_no_place_and_no_address_unless_they_are_typed(tmp_path: Path, word: str) -> None:
    folder = multirun(tmp_path / "train" / "multiruns" / "a", 0.5)
    hydra = {"overrides": {"task": ["model=mlp", word], "hydra": []}}
    OmegaConf.save(OmegaConf.create({"hydra": hydra}), folder / "multirun.yaml")
    with pytest.raises(UserError, match="is not taken over: it names a file"):
        argv_for_train(["-m", "resume=a"], tmp_path)
    typed = "logger=csv" if word == "logger=wandb" else f"{word.partition('=')[0]}=mine"
    words = argv_for_train(["-m", "resume=a", typed], tmp_path)
    assert typed in words
    assert word not in words


def test_data_that_only_a_multiruns_folder_names_are_not_downloaded_to(tmp_path: Path) -> None:
    folder = multirun(tmp_path / "train" / "multiruns" / "a", 0.5)
    hydra = {"overrides": {"task": ["data.dir=/elsewhere"], "hydra": []}}
    OmegaConf.save(OmegaConf.create({"hydra": hydra}), folder / "multirun.yaml")
    assert argv_for_train(["-m", "resume=a"], tmp_path)[:2] == ["data.dir=/elsewhere", "++data.download=false"]


@pytest.mark.parametrize(
    "content", ["[]", "a: 1", "hydra: x", "hydra: {overrides: 3}", "hydra: {overrides: {task: ['${oc.env:HOME}']}}"]
)
def test_a_damaged_multirun_is_answered(tmp_path: Path, content: str) -> None:
    folder = multirun(tmp_path / "train" / "multiruns" / "a", 0.5)
    (folder / "multirun.yaml").write_text(content)
    with pytest.raises(UserError, match=r"multirun\.yaml"):
        argv_for_train(["-m", "resume=a"], tmp_path)


def test_a_trial_is_one_run_again_with_what_its_search_had_chosen(tmp_path: Path) -> None:
    made(tmp_path / "run", "optimizer.lr=0.01", "search=digits_mlp", "seed=3")
    choices = {
        "data": "digits",
        "model": "mlp",
        "experiment": "digits_mlp",
        "search": "digits_mlp",
        "hydra/help": "train",
    }
    OmegaConf.save(
        OmegaConf.create({"hydra": {"runtime": {"choices": choices}}}), tmp_path / "run" / ".hydra" / "hydra.yaml"
    )
    chosen = ["experiment=digits_mlp", "data=digits", "model=mlp"]
    assert past_overrides(tmp_path / "run") == [*chosen, "optimizer.lr=0.01", "seed=3"]


def test_other_words_are_left_alone(tmp_path: Path) -> None:
    assert argv_for_train(["-m", "seed=1,2", "--cfg"], tmp_path) == ["-m", "seed=1,2", "--cfg"]


@pytest.mark.parametrize("name", ODD)
def test_a_further_process_of_a_run_that_goes_on_leaves_its_words_alone(name: str, tmp_path: Path) -> None:
    made(tmp_path / "train" / "runs" / name)
    words = argv_for_train([f"resume={name}"], tmp_path)
    assert argv_for_train(words, tmp_path / "elsewhere") == words


# ---- nothing in a folder is trusted


@pytest.mark.parametrize(
    "planted",
    [
        "hydra.run.dir=/tmp",
        "+hydra.job_logging.handlers.file.filename=/tmp/x",
        "hydra/launcher=evil",
        "~hydra.callbacks",
        "--config-dir=/tmp",
        "-m",
        "no override",
    ],
)
def test_recorded_overrides_set_nothing_of_hydras_own(tmp_path: Path, planted: str) -> None:
    made(tmp_path / "a", "model=mlp", planted)
    with pytest.raises(UserError, match=r"overrides.yaml: .* is refused"):
        past_overrides(tmp_path / "a")


@pytest.mark.parametrize("content", ["a: [", "- a\n- b: ${", "\0"])
def test_a_damaged_file_is_named(tmp_path: Path, content: str) -> None:
    folder = made(tmp_path / "a")
    (folder / ".hydra" / "config.yaml").write_text(content)
    with pytest.raises(UserError, match=r"\.hydra/config\.yaml"):
        load_saved_config(folder)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("callbacks.checkpoint.dirpath", "/somewhere/else"),
        ("callbacks.checkpoint.dirpath", "${paths.run}/../../up"),
        ("logger.tensorboard.save_dir", "~/here"),
        ("trainer.default_root_dir", "../up"),
    ],
)
def test_a_recorded_path_that_leads_out_of_the_folder_is_refused_unless_it_is_typed(
    tmp_path: Path, compose: Any, key: str, value: str
) -> None:
    folder = made(tmp_path / "a")
    cfg = compose(f"paths.run={folder}")
    planted = cfg.copy()
    OmegaConf.update(planted, key, value)
    OmegaConf.save(planted, folder / ".hydra" / "config.yaml")
    with pytest.raises(UserError, match=f"its {key}=.* leads out of the run's folder"):
        merge_saved_config(cfg, folder, "train")
    again = compose(f"paths.run={folder}", f"{key}=elsewhere")
    OmegaConf.update(again, key, value)
    assert OmegaConf.select(merge_saved_config(again, folder, "train"), key)


def test_the_newest_start_is_the_one_gone_back_to(tmp_path: Path) -> None:
    folder = made(tmp_path / "a", "seed=1")
    for number in (2, 10):
        (folder / f".hydra_{number}").mkdir()
        (folder / f".hydra_{number}" / "config.yaml").write_text(f"seed: {number}\n")
        (folder / f".hydra_{number}" / "overrides.yaml").write_text(f"- seed={number}\n- resume='x'\n")
    (folder / ".hydra_11.part").mkdir()
    assert load_saved_config(folder).seed == 10
    assert past_overrides(folder) == ["seed=10"]


def test_a_checkpoint_is_a_name_or_a_file(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    for name in ("best", "last"):
        torch.save({}, tmp_path / "checkpoints" / f"{name}.ckpt")
    assert checkpoint(tmp_path, "last") == tmp_path / "checkpoints" / "last.ckpt"
    assert checkpoint(tmp_path, str(tmp_path / "checkpoints" / "best.ckpt")).name == "best.ckpt"
    with pytest.raises(UserError, match="has best, last; type checkpoint=best or checkpoint=<file>"):
        checkpoint(tmp_path, "first")
    with pytest.raises(UserError, match="has no checkpoint"):
        checkpoint(tmp_path / "nowhere", "best")


# ---- the recorded config and the user's own overrides


def test_without_overrides_the_recorded_config_stays() -> None:
    composed = {"model": {"dropout": 0.9, "new": 1}}  # conf/ has been edited since the run
    assert three_way_merge({"model": {"dropout": 0.2}}, composed, composed) == {"model": {"dropout": 0.2}}


def test_an_override_changes_the_recorded_config_and_nothing_else_does() -> None:
    past = {"model": {"dropout": 0.2, "hidden": 8}, "seed": 1}
    before = {"model": {"dropout": 0.9, "hidden": 64}, "seed": 5}
    after = {"model": {"dropout": 0.9, "hidden": 32}, "seed": 5}
    assert three_way_merge(past, before, after) == {"model": {"dropout": 0.2, "hidden": 32}, "seed": 1}


def test_an_override_that_asks_for_what_conf_says_now_changes_nothing() -> None:
    assert three_way_merge({"a": 1}, {"a": 2}, {"a": 2}) == {"a": 1}


def test_an_override_may_add_and_remove_keys() -> None:
    past, before = {"a": 1, "b": {"c": 2, "d": 3}}, {"a": 1, "b": {"c": 2, "d": 3}}
    assert three_way_merge(past, before, {"a": 1, "b": {"c": 2, "e": 4}}) == {"a": 1, "b": {"c": 2, "e": 4}}
    assert three_way_merge(past, before, {"b": {"c": 2, "d": 3}}) == {"b": {"c": 2, "d": 3}}


def test_an_override_of_a_key_that_is_newer_than_the_run_is_kept() -> None:
    assert three_way_merge({"a": 1}, {"a": 1, "new": 2}, {"a": 1, "new": 3}) == {"a": 1, "new": 3}
    assert three_way_merge({"a": 1}, {"a": 1, "new": {"x": 2}}, {"a": 1, "new": {"x": 3}}) == {"a": 1, "new": {"x": 3}}


def test_an_override_may_turn_a_value_into_a_group_and_back() -> None:
    assert three_way_merge({"s": None}, {"s": None}, {"s": {"lr": 1}}) == {"s": {"lr": 1}}
    assert three_way_merge({"s": {"lr": 1}}, {"s": {"lr": 1}}, {"s": None}) == {"s": None}
    assert three_way_merge({"s": [1, 2]}, {"s": [1, 2]}, {"s": [3]}) == {"s": [3]}


def test_another_choice_of_a_group_replaces_what_differs() -> None:
    past = {"optimizer": {"_target_": "Adam", "lr": 0.01, "betas": [0.9, 0.99]}}
    before = {"optimizer": {"_target_": "Adam", "lr": 0.001, "betas": [0.9, 0.99]}}
    after = {"optimizer": {"_target_": "SGD", "lr": 0.1, "momentum": 0.9}}
    assert three_way_merge(past, before, after) == after


def test_the_recorded_config_itself_is_left_alone() -> None:
    past = {"a": {"b": 1}}
    three_way_merge(past, {"a": {"b": 1}}, {"a": {"b": 2}})
    assert past == json.loads('{"a": {"b": 1}}')


def test_from_python_a_run_gives_its_model_and_data(past_run: Path) -> None:
    model, data = train_smarter.load(past_run)
    data.setup()
    images, labels = data.examples["test"].inputs, data.examples["test"].targets
    right = model(data.normalize(images)).argmax(1) == labels  # type: ignore[attr-defined]
    assert right.double().mean().item() == read_json(past_run / "results.json")["test/accuracy"]
    assert not model.training
    with pytest.raises(UserError, match="no run folder"):
        train_smarter.load("nowhere")
