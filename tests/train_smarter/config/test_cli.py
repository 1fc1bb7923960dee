import importlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.errors import CompactHydraException

from train_smarter import paths
from train_smarter.config import cli
from train_smarter.config.cli import absolutize
from train_smarter.config.cli import command as run_command
from train_smarter.errors import UserError

Command = Callable[..., subprocess.CompletedProcess[str]]
Answered = Callable[..., "Answer"]

# Runs each command of its input, a line of JSON, in one process in which importing torch fails.
WITHOUT_TORCH = """
import contextlib, importlib, io, json, sys, traceback
sys.modules["torch"] = None
from hydra.core.global_hydra import GlobalHydra
for line in sys.stdin:
    sys.argv = json.loads(line)
    GlobalHydra.instance().clear()
    out, err, code = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            importlib.import_module("train_smarter.commands." + sys.argv[0]).main()
        except SystemExit as end:
            code = end.code
        except BaseException:
            traceback.print_exc()
            code = 1
    print(json.dumps([code, out.getvalue(), err.getvalue()]), flush=True)
"""


class Answer(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


@pytest.fixture(scope="module")
def answered(_use_sample_project: None) -> Iterator[Answered]:
    """A function that runs a verb in a process in which importing torch fails; it starts once, which takes long."""
    words = [sys.executable, "-c", WITHOUT_TORCH]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        typed, shown = process.stdin, process.stdout

        def answer(*words: str) -> Answer:
            typed.write(json.dumps(words) + "\n")
            typed.flush()
            return Answer(*json.loads(shown.readline()))

        yield answer
        typed.close()


@pytest.mark.parametrize(
    ("verb", "words", "told"),
    [
        ("train", ["--help"], "train resume=last"),
        ("train", ["--cfg", "job"], "_target_: sample_project.model.cnn.CNN"),
        ("evaluate", ["--help"], "evaluate run=last"),
    ],
)
def test_help_and_config_are_shown_without_importing_torch(
    answered: Answered, verb: str, words: list[str], told: str
) -> None:
    done = answered(verb, *words)
    assert (done.returncode, done.stderr) == (0, "")
    assert told in done.stdout


def test_a_misspelt_key_is_answered_in_two_lines_with_the_nearest_right_name(answered: Answered) -> None:
    done = answered("train", "modle=cnn")
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 2
    assert "Did you mean" in done.stderr
    assert "'model'" in done.stderr


@pytest.mark.parametrize(
    ("verb", "word", "told"),
    [
        ("train", "model=cn", "did you mean 'cnn'?"),
        ("train", "logger=null", "type logger=none"),
        ("train", "model=_base", "type one of cnn, factors, gru, linear, lstm, mlp"),
        ("train", "local=null", "type one of default"),
        ("evaluate", "-m", "type it without -m"),
        ("train", "optimizer=null", "type one of adam, adamw, "),
        ("train", "data.batch_size=0", "data.batch_size=0: give a whole number of at least 1"),
        ("train", "data.batch_size=[", "data.batch_size=["),
        ("train", "resume", "resume: give key=value, resume=... if that is the key"),
        ("train", "resume=nowhere", "resume=nowhere is no run folder"),
        ("evaluate", "splits=[test]", "type evaluate run=last"),
        ("evaluate", "run=/nowhere", "run=/nowhere is no run folder"),
        ("train", "paths.logs=s3://bucket/logs", "not a folder or file of this machine"),
    ],
)
def test_a_mistake_costs_no_import_of_torch_and_ends_in_exit_code_2(
    answered: Answered, verb: str, word: str, told: str
) -> None:
    done = answered(verb, word)
    assert (done.returncode, done.stdout) == (2, "")
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def message(*words: str, verb: str = "train") -> str:
    """What a command line is answered with before anything is composed, or by the composition."""
    try:
        cli._reject_addresses(words)
        cli.reject_bad_group_choices(words)
        with initialize_config_dir(str(paths.CONF)):
            hydra_compose(verb, list(words))
    except (UserError, CompactHydraException) as error:
        return str(cli.explain(error))
    raise AssertionError("it is accepted")


@pytest.mark.parametrize(
    ("word", "parts"),
    [
        ("optimizer=0.1", ["optimizer=0.1", "type one of adam, adamw, "]),
        ("data=1e3", ["data=1e3", "digits"]),
        ("scheduler=true", ["scheduler=true", "cosine"]),
        ("=5", ["=5: give key=value"]),
        ("ckpt_path=gs://bucket/best.ckpt", ["gs://bucket/best.ckpt", "mount it"]),
        ("data.batch_size=32,64", ["type -m data.batch_size=32,64", "'data.batch_size=[32,64]'"]),
        ("optimizer.lr=choice(0.1,0.2)", ["type -m 'optimizer.lr=choice(0.1,0.2)'"]),
        ("trainer.gradient_clip_val=choice(null,0.5)", ["null cannot", "'trainer.gradient_clip_val=null,0.5'"]),
        ("tags=[a,b", ["'tags=[a,b' cannot be parsed", "no viable alternative"]),
        ("trainer.epochs=3", ["trainer.epochs", "Did you mean: 'max_epochs'"]),
        ("trainer.strategy=fsdp", ["Key 'strategy' is not in struct", "use +trainer.strategy=fsdp"]),
    ],
)
def test_hydras_refusals_give_the_reason_and_what_to_type(word: str, parts: list[str]) -> None:
    answer = message(word)
    assert all(part in answer for part in parts), answer
    assert "docs/" not in answer


@pytest.mark.parametrize(
    "word",
    ["hydra.sweeper.storage=sqlite:///study.db", "callbacks=[checkpoint,progress]", "data.dir=photos", "tags=[a]"],
)
def test_an_address_where_one_will_do_and_a_list_of_choices_are_accepted(word: str) -> None:
    cli._reject_addresses([word])
    cli.reject_bad_group_choices([word])


SHORT = ["model=mlp", "trainer=cpu", "callbacks=none", "logger=none", "trainer.max_epochs=1", "test=false"]


def test_lightnings_refusal_within_the_training_is_one_message_and_its_traceback_is_in_the_log(
    typed: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    code, answer = typed(*SHORT, "trainer.val_check_interval=1000")
    assert code == 2
    assert "`val_check_interval` (1000) must be less than or equal" in answer
    assert "type trainer.val_check_interval=1.0" in answer
    assert "Traceback" not in answer
    (log,) = tmp_path.glob("train/runs/*/train.log")
    assert "Traceback (most recent call last)" in log.read_text()
    assert "fit_loop.py" in log.read_text()


def test_a_fault_in_the_users_own_model_shows_its_lines_alone_unless_all_are_wanted(
    typed: Callable[..., tuple[int, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "own_forward.py"
    file.write_text("import torch\n\ndef forward(self, inputs):\n    return torch.nn.Linear(3, 2)(inputs)\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "own_forward", raising=False)
    monkeypatch.setattr("sample_project.model.mlp.MLP.forward", importlib.import_module("own_forward").forward)
    code, answer = typed(*SHORT)
    assert code == 1
    assert f'File "{file}", line 4, in forward' in answer
    assert answer.splitlines()[-1].startswith(f"{file}:4: RuntimeError in forward: ")
    assert "mat1 and mat2 shapes cannot be multiplied" in answer.splitlines()[-1]
    assert "lightning" not in answer.partition("Traceback")[2]
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    code, answer = typed(*SHORT)
    assert code == 1
    assert "lightning/pytorch/trainer/trainer.py" in answer


@pytest.mark.parametrize(
    ("typed", "seen"),
    [
        ("data.dir=photos", f"data.dir={Path.cwd() / 'photos'}"),
        ("+data.dir=~/photos", f"+data.dir={Path.home() / 'photos'}"),
        ("data.dir=/photos", "data.dir=/photos"),
        ("data.dir=one,two", "data.dir=one,two"),
        ("data.dir='my photos'", "data.dir='my photos'"),
        ("data.dir=/my photos (1)", "data.dir='/my photos (1)'"),
        ("ckpt_path=null", "ckpt_path=null"),
        ("model=cnn", "model=cnn"),
    ],
)
def test_a_path_is_taken_in_full_for_commands_typed_elsewhere(typed: str, seen: str) -> None:
    assert absolutize(typed) == seen


def test_a_refused_run_leaves_no_folder(command: Command, tmp_path: Path) -> None:
    assert command("train", "data.batch_size=0").returncode == 2
    assert not list((tmp_path / "train" / "runs").iterdir())


def test_a_refused_run_takes_nothing_of_the_users_away(command: Command, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.log").touch()
    assert command("train", "data.batch_size=0", f"hydra.run.dir={tmp_path}/mine").returncode == 2
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["notes.log"]


@pytest.mark.parametrize("group", ["callbacks", "debug", "experiment", "logger", "scheduler"])
def test_a_group_that_may_be_empty_has_a_none(group: str) -> None:
    assert (paths.CONF / group / "none.yaml").is_file()


@pytest.mark.parametrize("kind", ["mistake", "error", "warning"])
def test_nothing_that_a_command_prints_steers_a_terminal(kind: str, tmp_path: Path) -> None:
    """Not even the traceback of a fault, or a library's warning."""
    raised = {"mistake": "raise UserError(text)", "error": "raise ValueError(text)", "warning": "warnings.warn(text)"}
    program = f"""
import warnings
from train_smarter.config.cli import command
from train_smarter.errors import UserError
def act(cfg):
    text = "\\x1b[31mred\\x9b"
    {raised[kind]}
command("report", act)
"""
    (tmp_path / "program.py").write_text(program)
    done = subprocess.run([sys.executable, tmp_path / "program.py"], capture_output=True, text=True, check=False)
    assert (done.returncode, "\\x1b[31mred\\x9b" in done.stderr) == ({"mistake": 2, "error": 1}.get(kind, 0), True)
    assert "\x1b" not in done.stderr + done.stdout


def test_on_a_login_node_of_a_cluster_a_run_says_nothing_of_srun(
    compose: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from train_smarter.config.build import build

    (tmp_path / "srun").write_text("#!/bin/sh\n")
    (tmp_path / "srun").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    build(compose("trainer=cpu"))  # a warning would be an error here


@pytest.mark.parametrize("choice", ["run", "default", "disabled", "none", "stdout"])
def test_every_handler_of_a_job_logging_has_a_class(choice: str) -> None:
    with initialize_config_dir(str(paths.CONF)):
        cfg = hydra_compose("train", [f"hydra/job_logging={choice}"], return_hydra_config=True)
    handlers = cfg.hydra.job_logging.get("handlers", {})
    assert [name for name, one in handlers.items() if "class" not in one] == []


def test_ctrl_c_that_becomes_another_error_is_still_ctrl_c(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_: Any) -> list[str]:
        try:
            raise KeyboardInterrupt
        finally:
            None.flags  # type: ignore[attr-defined]  # noqa: B018 (as in OmegaConf: a node that is only half made)

    monkeypatch.setattr(sys, "argv", ["train"])
    with pytest.raises(SystemExit) as caught:
        run_command("train", lambda _: None, interrupted)
    assert caught.value.code == 130
