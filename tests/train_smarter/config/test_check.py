from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, read_write

from train_smarter.config.check import check
from train_smarter.errors import UserError

Compose = Callable[..., DictConfig]

# What a user may type, and what the answer must hold.
MISTAKES = {
    "data.batch_size=0": ["data.batch_size=0", "at least 1"],
    "optimizer.lr=-1": ["optimizer.lr=-1", "above 0"],
    "optimizer.lr=fast": ["optimizer.lr='fast'"],
    "trainer.max_epochs=abc": ["trainer.max_epochs='abc'"],
    "trainer.max_epochs=0": ["trainer.max_epochs=0", "-1"],
    "trainer.max_steps=0": ["trainer.max_steps=0", "-1"],
    "model.dropout=1.5": ["model.dropout=1.5", "below 1"],
    "model.batch_norm=1": ["model.batch_norm=1", "true or false"],
    "seed=abc": ["seed='abc'"],
    "data.split_seed=-1": ["data.split_seed=-1"],
    "trainer.limit_val_batches=0": ["monitor=val/accuracy is not measured", "monitor=train/accuracy"],
    "data.fold=7": ["data.fold=7", "0 to 4"],
    "monitor=val/acc": ["monitor='val/acc'", "did you mean 'val/accuracy'?"],
    "mode=min": ["mode=min with monitor=val/accuracy", "mode=max"],
    "data=phrases": ["model=cnn does not fit data=phrases", "data.shape"],
    "model=lstm": ["model=lstm does not fit data=digits", "data.vocab_size"],
    "data=images": ["data.dir has no value yet"],
    "train=false": ["ckpt_path", "evaluate run=last"],
    "ckpt_path=/nowhere.ckpt": ["ckpt_path=/nowhere.ckpt: there is no such file"],
    "model.pretrained=3": ["model.pretrained=3: give a file, true or null"],
    "model.freeze=head": ["model.freeze='head': give none, backbone, or a number of blocks"],
    "model.layer_decay=0": ["model.layer_decay=0: give a number above 0 and up to 1"],
    "model.unfreeze_epoch=2": ["model.unfreeze_epoch=2 has no effect, since nothing is frozen: add model.freeze=back"],
    "model.freeze=backbone model.unfreeze_epoch=20": [
        "the run ends before, with trainer.max_epochs=20; give at most 19"
    ],
    "model.pretrained=/nowhere.ckpt": ["model.pretrained=/nowhere.ckpt: there is no such file"],
    "callbacks.early_stopping.patience=two": ["callbacks.early_stopping.patience='two'"],
}


@pytest.mark.parametrize(("typed", "told"), MISTAKES.items(), ids=MISTAKES)
def test_a_mistake_is_answered_with_what_was_given_and_what_is_accepted(
    compose: Compose, typed: str, told: list[str]
) -> None:
    with pytest.raises(UserError) as answer:
        check(compose(*typed.split()))
    assert all(part in str(answer.value) for part in told), answer.value
    assert "\n" not in str(answer.value)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("scheduler.interval=step", "a metric of an epoch, not of a step: type scheduler.interval=epoch"),
        (
            "monitor=train/loss scheduler.monitor=val/loss trainer.limit_val_batches=0",
            "scheduler.monitor=val/loss is not measured with trainer.limit_val_batches=0: type "
            "scheduler.monitor=train/loss",
        ),
    ],
)
def test_a_plateau_schedule_without_values_to_look_at_is_refused(compose: Compose, words: str, told: str) -> None:
    with pytest.raises(UserError) as answer:
        check(compose("scheduler=plateau", *words.split()))
    assert told in str(answer.value)


def test_balanced_weights_and_a_balanced_sampler_are_not_used_together(compose: Compose) -> None:
    with pytest.raises(UserError, match="both together the rare ones more: give one of them"):
        check(compose("data.sampler=balanced", "task.class_weights=balanced"))


# Mistakes that would end within the training, or be accepted in silence: each dict is one command line.
TOGETHER: list[dict[str, list[str]]] = [
    {
        "trainer.limit_train_batches=0": ["trainer.limit_train_batches=0", "at least 1", "train=false"],
        "trainer.limit_test_batches=0.0": ["trainer.limit_test_batches=0.0", "test=false"],
        "trainer.limit_val_batches=nan": ["trainer.limit_val_batches=nan", "at least 1"],
        "trainer.val_check_interval=0": ["trainer.val_check_interval=0", "share of the epoch"],
        "trainer.check_val_every_n_epoch=0": ["trainer.check_val_every_n_epoch=0", "at least 1"],
        "trainer.max_time=1h": ["trainer.max_time='1h'", "days:hours:minutes:seconds"],
        "trainer.precision=bf16-true": ["trainer.precision=bf16-true", "bf16-mixed"],
        "+trainer.gradient_clip_algorithm=foo": ["trainer.gradient_clip_algorithm='foo'", "norm or value"],
        "+trainer.min_epochs=30": ["trainer.min_epochs=30 is more than trainer.max_epochs=20"],
        "trainer.devices=0": ["trainer.devices=0", "auto"],
        "optimizer.lr=inf": ["optimizer.lr=inf", "finite"],
        "+optimizer.eps=-1": ["optimizer.eps=-1", "at least 0"],
        "data.batch_size=99999999999999999999": ["data.batch_size=99999999999999999999", "below 2**63"],
        "data.std=0": ["data.std=0", "above 0"],
        "data.augment.flip.p=2": ["data.augment.flip.p=2", "from 0 to 1"],
        "data.augment.mixup=0.2": ["data.augment.mixup=0.2", "type data.augment.mixup.alpha=0.2"],
        "data.augment.erase=0.25": ["data.augment.erase=0.25", "type data.augment.erase.p=0.25"],
        "+data.augment.mine=1": ["data.augment.mine=1", "type data.augment.mine.<setting>=1"],
        "data.sampler=weighted": ["data.sampler='weighted'", "give balanced, or null"],
        "task.class_weights=balance": ["task.class_weights=balance", "give 10 numbers", "or balanced"],
        "callbacks.resume_checkpoint.every_minutes=-1": ["callbacks.resume_checkpoint.every_minutes=-1", "above 0"],
        "callbacks.early_stopping.monitor=val/acc": ["callbacks.early_stopping.monitor=val/acc", "'val/accuracy'"],
        "tags=baseline": ["tags=baseline", "'tags=[baseline]'"],
    },
    {
        "trainer.val_check_interval=7.5": ["trainer.val_check_interval=7.5", "whole number of batches"],
        "trainer.check_val_every_n_epoch=null": ["counts batches over all epochs", "trainer.val_check_interval=100"],
        "data.std=[0.5,0]": ["data.std=[0.5, 0]", "each"],
        "task.class_weights=[1,2]": ["task.class_weights=[1, 2]", "give 10 numbers"],
        "tags=[1e3]": ["1000.0 is not a word", "in quotes"],
    },
    {
        "task.class_weights=[a,1,1,1,1,1,1,1,1,1]": ["task.class_weights=['a', 1", "give 10 numbers"],
    },
    {
        "task.class_weights=[-1,1,1,1,1,1,1,1,1,1]": ["[-1, 1", "at least 0"],
    },
    {
        "task.class_weights=[0,0,0,0,0,0,0,0,0,0]": ["some of them above 0"],
    },
]


@pytest.mark.parametrize("mistakes", TOGETHER, ids=len)
def test_every_mistake_of_a_command_line_has_its_line(compose: Compose, mistakes: dict[str, list[str]]) -> None:
    with pytest.raises(UserError) as answer:
        check(compose(*mistakes))
    lines = str(answer.value).splitlines()[-len(mistakes) :]
    for word, parts in mistakes.items():
        assert any(all(part in line for part in parts) for line in lines), (word, lines)


def test_a_name_of_the_field_is_checked_in_a_model_of_the_users_own(compose: Compose) -> None:
    own = ["+model.attention_dropout=1", "+model.patch_size=0", "+model.hidden_dims=64", "+model.num_heads=2.5"]
    with pytest.raises(UserError) as answer:
        check(compose(*own))
    keys = [line.strip().partition("=")[0] for line in str(answer.value).splitlines()[1:]]
    assert keys == ["model.attention_dropout", "model.patch_size", "model.hidden_dims", "model.num_heads"]


def test_what_a_users_own_class_may_take_is_no_problem(compose: Compose) -> None:
    own = ["+model.attention_dropout=null", "+model.hidden_dims=[]", "+model.size=small", "+model.noise=gaussian"]
    own += ["data.mean=imagenet", "+data.fill=nan", "+callbacks.mine={every_n_epochs: 0}", "tags=[2026,a]"]
    check(compose(*own, "trainer.val_check_interval='00:00:15:00'", "+trainer.profiler=simple", "scheduler=cosine"))


def test_limits_of_0_are_no_problem_where_that_part_is_left_out(compose: Compose) -> None:
    check(compose("test=false", "trainer.limit_test_batches=0"))


def test_16_bits_need_a_gpu(compose: Compose) -> None:
    with pytest.raises(UserError, match=r"trainer\.precision=16-mixed needs a GPU.*trainer\.precision=bf16-mixed"):
        check(compose("trainer=cpu", "trainer.precision=16-mixed"))


@pytest.mark.parametrize("schedule", ["cosine", "onecycle"])
def test_a_schedule_that_plans_for_the_end_needs_one(compose: Compose, schedule: str) -> None:
    check(compose(f"scheduler={schedule}", "trainer.max_epochs=-1", "trainer.max_steps=100"))
    with pytest.raises(UserError, match=f"scheduler={schedule} has to know.*trainer.max_epochs"):
        check(compose(f"scheduler={schedule}", "trainer.max_epochs=-1"))


def test_what_only_a_training_uses_is_no_problem_when_a_past_run_is_read(compose: Compose) -> None:
    past = ["run=/past", "optimizer.lr=inf", "scheduler.torch_scheduler.gamma=nan", "trainer.precision=bf16-true"]
    check(compose("scheduler=step", *past[1:], f"+{past[0]}"))


# ---- what a launcher started, and what the trainer is set for


@pytest.mark.parametrize(
    ("variables", "words", "answer"),
    [
        ({"WORLD_SIZE": "2", "RANK": "0"}, [], "WORLD_SIZE=2.*makes 1: type trainer.devices=2"),
        ({"WORLD_SIZE": "4", "RANK": "1", "LOCAL_WORLD_SIZE": "2"}, ["trainer=ddp_sim"], "[+]trainer.num_nodes=2"),
        ({"SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "2"}, [], "SLURM_NTASKS=2.*trainer.devices=2"),
        ({"SLURM_NTASKS": "4", "SLURM_NNODES": "2"}, ["trainer=ddp_sim"], "--nodes=2 --ntasks-per-node=2"),
        ({"WORLD_SIZE": "many", "RANK": "0"}, [], "WORLD_SIZE='many' in the environment is not a whole number"),
    ],
)
def test_more_processes_than_the_trainer_is_set_for_are_refused(
    compose: Compose, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], words: list[str], answer: str
) -> None:
    cfg = compose("trainer=cpu" if not words else words[0])
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=answer):
        check(cfg)


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"WORLD_SIZE": "2", "RANK": "1"}, ["trainer=ddp_sim"]),
        ({"WORLD_SIZE": "4", "RANK": "1"}, ["trainer=ddp_sim", "+trainer.num_nodes=2"]),
        ({"WORLD_SIZE": "8", "RANK": "1"}, ["trainer=ddp"]),  # all GPUs of a machine: not known here
        ({"SLURM_NTASKS": "2", "SLURM_JOB_NAME": "interactive"}, ["trainer=cpu"]),
        ({"WORLD_SIZE": "2"}, ["trainer=cpu"]),  # of a cluster's nodes, before a launcher starts
    ],
)
def test_as_many_processes_as_the_trainer_is_set_for_are_no_problem(
    compose: Compose, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], words: list[str]
) -> None:
    cfg = compose(*words)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    check(cfg)


def test_the_default_has_no_problem(compose: Compose) -> None:
    check(compose())


def test_all_problems_come_in_one_message(compose: Compose) -> None:
    with pytest.raises(UserError) as answer:
        check(compose("data.batch_size=0", "optimizer.lr=0", "model.dropout=2"))
    assert str(answer.value).splitlines()[0] == "3 problems:"
    assert len(str(answer.value).splitlines()) == 4


def test_a_folder_of_images_that_is_not_there_is_named(compose: Compose, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere is not a folder"):
        check(compose("data=images", f"data.dir={tmp_path}/nowhere"))


@pytest.mark.parametrize("size", ["-3", "1.5"])
def test_a_bad_value_that_another_key_copies_is_named_once(compose: Compose, tmp_path: Path, size: str) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
    cfg = compose("data=images", f"data.dir={tmp_path}", "model=mlp", f"data.size={size}")
    with pytest.raises(UserError) as caught:
        check(cfg)
    assert str(caught.value) == f"data.size={size}: give a whole number of at least 1"


def test_a_word_as_the_size_of_images_is_left_to_their_class(compose: Compose, tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
    check(compose("data=images", f"data.dir={tmp_path}", "model=mlp", "data.size=big"))


def test_a_logger_that_is_not_installed_is_refused_with_the_command_that_installs_it(
    compose: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(UserError, match=r"logger=wandb .* uv pip install -e '\.\[wandb\]'"):
        check(compose("logger=wandb"))


@pytest.mark.parametrize("several", ["trainer=ddp_sim", "trainer=ddp", "trainer.devices=2", "trainer.devices=[0,1]"])
def test_a_multirun_of_several_processes_a_job_is_refused(compose: Compose, several: str) -> None:
    cfg = compose(several)
    check(cfg)  # a single run may
    hydra = HydraConfig.get()
    with read_write(cast(DictConfig, hydra)):
        hydra.mode = RunMode.MULTIRUN
    with pytest.raises(UserError, match="add hydra/launcher=process"):
        check(cfg)
