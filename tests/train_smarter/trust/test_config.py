"""A saved config beside what conf/ and the command line make of the same choices."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf

from train_smarter.errors import UserError
from train_smarter.trust import check_config, rebase_paths
from train_smarter.trust.nodes import raw

PL = "lightning.pytorch."


composed: dict[tuple[str, ...], DictConfig] = {}  # once for all tests: each takes its time


@pytest.fixture
def today(compose: Callable[..., DictConfig], tmp_path: Path) -> Callable[..., DictConfig]:
    """The config of `train` with words, for a run in tmp_path/run."""

    def of(*words: str) -> DictConfig:
        if words not in composed:
            composed[words] = compose(*words)
        cfg = composed[words].copy()
        cfg.paths.run, cfg.paths.logs = f"{tmp_path}/run", str(tmp_path)
        return cfg

    return of


@pytest.fixture
def check(today: Callable[..., DictConfig], tmp_path: Path) -> Callable[..., DictConfig]:
    """Checks the default run's config with changes planted in it."""

    def checked(
        change: dict[str, Any] | None = None, *, typed: tuple[str, ...] = (), words: tuple[str, ...] = ()
    ) -> Any:
        saved = today(*words)
        for key, value in (change or {}).items():
            OmegaConf.update(saved, key, value, force_add=True, merge=False)
        run = tmp_path / "run"
        return check_config(saved, today=today(*words), typed=typed, folder=run, home=run)

    return checked


def test_what_conf_says_is_accepted_and_stays_as_it_is(check: Callable[..., DictConfig], today: Any) -> None:
    assert check() == today()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("callbacks.checkpoint.dirpath", "/elsewhere"),
        ("callbacks.checkpoint.dirpath", "elsewhere"),
        ("callbacks.checkpoint.dirpath", "${paths.logs}/other"),
        ("callbacks.x", {"_target_": f"{PL}callbacks.OnExceptionCheckpoint", "dirpath": "/elsewhere"}),
        ("callbacks.x", {"_target_": f"{PL}callbacks.SpikeDetection"}),
        ("logger.tensorboard.save_dir", "~/x"),
        ("logger.tensorboard.name", "../../x"),
        ("trainer.default_root_dir", "../up"),
        ("trainer.profiler", {"_target_": f"{PL}profilers.SimpleProfiler", "dirpath": "."}),
        ("trainer.plugins", [{"_target_": f"{PL}plugins.io.AsyncCheckpointIO"}]),
        ("trainer.model_registry", "x/y"),
        ("trainer.strategy", "deepspeed_stage_3"),
        ("trainer.strategy", "colossalai"),
        ("trainer.strategy", {"_target_": f"{PL}strategies.DeepSpeedStrategy"}),
        ("seed", "${oc.env:SECRET}"),
        ("model.x", {"_args_": [1]}),
        ("callbacks.a", "${nowhere}"),
        ("data.urls", b"http://x"),
        ("callbacks", "x"),
        ("logger", ["x"]),
        ("paths", "/x"),
    ],
)
def test_a_planted_value_is_refused_unless_it_was_typed(check: Callable[..., DictConfig], key: str, value: Any) -> None:
    with pytest.raises(UserError, match=rf"its {key}\S*.* is (not taken over|refused)") as answer:
        check({key: value})
    if "type " in str(answer.value) and key not in ("callbacks", "logger", "paths", "callbacks.a"):
        check({key: value}, typed=(key,))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("callbacks.checkpoint.dirpath", "${paths.run}/others"),
        ("callbacks.checkpoint.filename", "{epoch:02d}"),
        ("callbacks.checkpoint.monitor", "val/f1"),
        ("callbacks.x", {"_target_": f"{PL}callbacks.Timer", "duration": "00:01:00:00"}),
        ("logger.csv", {"_target_": f"{PL}loggers.CSVLogger", "save_dir": "${paths.run}", "name": "a/b"}),
        ("trainer.strategy", "ddp_find_unused_parameters_true"),
        ("trainer.strategy", {"_target_": f"{PL}strategies.DDPStrategy", "find_unused_parameters": True}),
        ("trainer.profiler", "simple"),
        ("optimizer.lr", 0.5),
        ("seed", 7),
        ("tags", ["http://a.page"]),
    ],
)
def test_a_value_that_does_no_harm_is_taken_over(
    check: Callable[..., DictConfig], key: str, value: Any, tmp_path: Path
) -> None:
    checked, saved = check({key: value}), OmegaConf.create({})
    OmegaConf.update(saved, key, value, force_add=True)
    given = str(raw(checked, key.split("."))).replace(f"{tmp_path}/run", "${paths.run}")
    assert given == str(raw(saved, key.split(".")))


def test_addresses_and_checksums_are_those_of_conf(
    check: Callable[..., DictConfig], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    planted = {"data.urls": ["http://evil"], "data.md5": "0", "data.mirror": "http://evil"}
    checked = check(planted, words=("data=figures",))
    assert checked.data.urls == ["https://figures.invalid/figures.npz"]
    assert checked.data.md5 == "0123456789abcdef0123456789abcdef"
    assert "mirror" not in checked.data
    assert "data.urls is as in conf/ today, not as saved; to use another one, type data.urls=..." in caplog.text
    typed = check(planted, words=("data=figures",), typed=("data.urls",))
    assert typed.data.urls == ["http://evil"]


def test_a_logger_that_sends_data_elsewhere_is_left_out_unless_conf_has_it(check: Callable[..., DictConfig]) -> None:
    planted = {"logger.x": {"_target_": f"{PL}loggers.WandbLogger", "project": "p"}}
    assert list(check(planted).logger) == ["tensorboard"]
    assert list(check(words=("logger=wandb",)).logger) == ["wandb"]


def test_weights_are_downloaded_for_nobody_who_did_not_type_it(
    check: Callable[..., DictConfig], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    words, planted = ("model=torchvision",), {"model.pretrained": True, "model.download": True}
    assert check(planted, words=words).model.download is False
    assert "model.pretrained=true uses weights that are on this machine" in caplog.text
    assert check(planted, words=words, typed=("model.pretrained",)).model.download is True
    assert check(words=words).model.download is True


def test_data_elsewhere_are_read_and_nothing_is_downloaded_to_them(
    check: Callable[..., DictConfig], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    checked = check({"data.dir": "/photos", "model.pretrained": "/a.ckpt"}, words=("data=figures",))
    assert checked.data.download is False
    assert "read from where the run's config says: data.dir=/photos, model.pretrained=/a.ckpt" in caplog.text
    assert check({"data.dir": "/photos"}, words=("data=figures",), typed=("data.dir",)).data.download
    assert check({"data.download": True, "data.dir": "/photos"}, words=("data=figures",)).data.download is False


@pytest.mark.parametrize(
    "planted",
    [{"data.path": "stranger"}, {"data.tokenizer": "stranger"}, {"data.name": "x", "data.download": True}],
)
def test_data_are_not_fetched_by_a_name_that_only_a_run_has(
    check: Callable[..., DictConfig], planted: dict[str, Any]
) -> None:
    assert check(planted, words=("data=figures",)).data.download is False
    assert check(planted, words=("data=figures",), typed=tuple(planted)).data.download


def test_a_model_is_not_fetched_by_a_name_that_only_a_run_has(check: Callable[..., DictConfig]) -> None:
    words = ("data=phrases", "model=transformer", "model.name=mine")
    assert check(words=words).model.download  # what was typed again
    for planted in ({"model.name": "stranger"}, {"model.name": "stranger", "model.download": True}):
        checked = check(planted, words=words)
        assert (checked.model.download, checked.data.download) == (False, False)  # the tokenizer is the model's
        assert check(planted, words=words, typed=("model.name",)).model.download
    assert "download" not in check({"model.name": "stranger"}).model  # another model would not take it


def test_where_runs_are_is_not_a_saved_configs_to_say(check: Callable[..., DictConfig], tmp_path: Path) -> None:
    checked = check({"paths.run": "/elsewhere", "paths.logs": "/elsewhere", "trainer.default_root_dir": None})
    assert checked.paths.run == f"{tmp_path}/run"
    assert checked.paths.logs == str(tmp_path)
    assert checked.trainer.default_root_dir == f"{tmp_path}/run"
    assert checked.callbacks.checkpoint.dirpath == f"{tmp_path}/run/checkpoints"


def test_a_value_behind_a_broken_neighbour_or_an_interpolation_is_seen(check: Callable[..., DictConfig]) -> None:
    with pytest.raises(UserError, match=r"callbacks\.a=\$\{nowhere\} leads nowhere"):
        check({"callbacks.a": "${nowhere}", "callbacks.checkpoint.dirpath": "/elsewhere"})
    with pytest.raises(UserError, match=r"callbacks\.a\.dirpath"):
        check({"planted": {"dirpath": "/elsewhere"}, "callbacks.a": "${planted}"})
    with pytest.raises(UserError, match=r"its data=.* is not a group|its data\.urls=.* is an address"):
        check({"tags": {"urls": ["http://x"]}, "data": "${tags}"})


def test_an_interpolation_that_could_change_later_is_the_text_that_was_checked(
    check: Callable[..., DictConfig], tmp_path: Path
) -> None:
    inside = {"a": {"7": "${paths.run}/x"}, "seed": 7, "callbacks.checkpoint.dirpath": "${a.${seed}}"}
    checked = check(inside)
    checked.seed, checked.a["7"] = 8, "/elsewhere"
    assert checked.callbacks.checkpoint.dirpath == f"{tmp_path}/run/x"
    with pytest.raises(UserError, match="leads nowhere"):
        check({**inside, "seed": None})
    assert checked.callbacks.resume_checkpoint.dirpath == f"{tmp_path}/run/checkpoints"


def test_files_of_the_old_run_are_named_relative_to_the_new_one(tmp_path: Path) -> None:
    old = tmp_path / "old"
    saved = OmegaConf.create(
        {
            "paths": {"run": "/first/place"},
            "callbacks": {"a": {"dirpath": f"{old}/checkpoints"}, "b": {"folder": "/first/place"}, "c": {"n": 1}},
            "logger": {"t": {"save_dir": "/first/placebo"}},
            "data": {"dir": f"{old}/photos"},
        }
    )
    moved = OmegaConf.to_container(rebase_paths(saved, old), resolve=False)
    assert isinstance(moved, dict)
    assert moved["callbacks"]["a"] == {"dirpath": "${paths.run}/checkpoints"}
    assert moved["callbacks"]["b"] == {"folder": "${paths.run}"}
    assert moved["logger"] == {"t": {"save_dir": "/first/placebo"}}
    assert moved["data"] == {"dir": f"{old}/photos"}  # read, wherever the run is
