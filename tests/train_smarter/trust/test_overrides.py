from pathlib import Path

import pytest

from train_smarter.errors import UserError
from train_smarter.trust import choices, keys, name_data, split_overrides

FILE = Path("overrides.yaml")


@pytest.mark.parametrize(
    "word",
    [
        "model=mlp",
        "data=phrases",
        "callbacks=[default,none]",
        "logger=[tensorboard,csv]",
        "logger=none",
        "optimizer.lr=0.1",
        "+optimizer.betas=[0.9,0.99]",
        "~callbacks.early_stopping",
        "callbacks.resume_checkpoint.every_minutes=null",
        "callbacks.checkpoint.filename='{epoch:02d}'",
        "callbacks.checkpoint.dirpath=${paths.run}/ckpt",
        "callbacks.checkpoint.monitor=val/loss",
        "trainer.max_time='00:01:00:00'",
        "data.dir=/photos",
        "paths.data=/scratch",
        "model.pretrained=/a.ckpt",
        "optimizer.lr=choice(0.1,0.2)",
        "seed=1,2",
        "tags=[a,b]",
        "data.size=${data.shape}",
    ],
)
def test_a_word_that_does_no_harm_returns_as_it_is(word: str) -> None:
    assert split_overrides([word], FILE).safe == [word]


@pytest.mark.parametrize(
    "word",
    [
        "logger=wandb",
        "logger=[tensorboard,mlflow]",
        "logger=../x",
        "model=../../x",
        "data=/etc/x",
        "callbacks.checkpoint.dirpath=/elsewhere",
        "callbacks.checkpoint.dirpath='${paths.run}/../x'",
        "callbacks.checkpoint.dirpath=${paths.logs}/x",
        "callbacks.checkpoint.dirpath=choice(/elsewhere,/x)",
        "callbacks.checkpoint.dirpath=/a,/b",
        "callbacks={x: {dirpath: /elsewhere}}",
        "+logger.x._target_=lightning.pytorch.loggers.WandbLogger",
        "trainer.default_root_dir=.",
        "data.urls=[http://x]",
        "data={urls: [http://x]}",
        "data.md5=abc",
        "ckpt_path=http://x/a.ckpt",
        "+model.host=x",
        "data.urls={http://x: 1}",
        "tags=[${oc.env:SECRET}]",
        "x='\\${oc.env:SECRET}'",
        "x={a: {b: '${oc.env:SECRET}'}}",
        "x=choice('${oc.env:SECRET}',1)",
    ],
)
def test_a_word_that_may_do_harm_is_set_apart_with_its_key(word: str) -> None:
    words = split_overrides([word], FILE)
    assert words.safe == []
    assert [unsafe for _, unsafe in words.unsafe] == [word]


@pytest.mark.parametrize(
    "word", ["run=a", "resume=last", "rerun=x", "paths.run=/x", "paths={run: /x, data: /y}", "~paths", "paths.root=/x"]
)
def test_where_runs_are_is_the_users_to_say(word: str) -> None:
    assert split_overrides([word], FILE) == ([], [])


@pytest.mark.parametrize(
    "word",
    [
        "hydra.run.dir=/tmp",
        "++hydra.job.env_set.PATH=/x",
        "+hydra={run: {dir: /x}}",
        "hydra/launcher=process",
        "~hydra.callbacks",
        "+model@hydra.callbacks.evil=mlp",
        "+model@_global_=mlp",
        "+model@paths=mlp",
        "--config-dir=/tmp",
        "-m",
        "no override",
        "output=/x",
        "checkpoint=/x",
        "tta=flip",
        "+splits=[test]",
        "tags=[a\x1b]",
    ],
)
def test_a_word_that_no_run_has_is_refused(word: str) -> None:
    with pytest.raises(UserError, match=r"overrides\.yaml: .* is refused"):
        split_overrides(["model=mlp", word], FILE)


def test_choices_and_keys_of_words_are_told_apart() -> None:
    words = ["model=mlp", "+a.b=1", "data={dir: x, augment: {flip: {p: 1}}}", "~x.y", "no word", "-m"]
    assert choices(words) == ["model=mlp"]
    assert keys(["model=mlp", "+a.b=1", "~x.y", "-m", "a b", "x={y: {z: 1}, w: []}"]) == ["a.b", "x.y", "x.y.z", "x.w"]


@pytest.mark.parametrize(
    ("word", "named"),
    [
        ("data.dir=/x", True),
        ("paths.data=/x", True),
        ("data.truncation_side=right", False),
        ("data=digits", False),
        ("model.pretrained=/x", False),
    ],
)
def test_words_say_where_data_are_or_do_not(word: str, named: bool) -> None:
    assert name_data([word]) == named
