"""What every data set, model, scheduler and optimizer in conf/ keeps to; found there, so a new one is held to it."""

import math
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.utils import get_class
from omegaconf import DictConfig, OmegaConf

from train_smarter.commands.train import run_train
from train_smarter.config.build import build, build_data, build_model
from train_smarter.config.check import check
from train_smarter.config.check import choices as chosen
from train_smarter.data.base import Data
from train_smarter.data.examples import SPLITS, count_rows, split_rows, take_rows
from train_smarter.errors import UserError
from train_smarter.inference import exporter
from train_smarter.inference.comparison import compare_export
from train_smarter.metric_names import task_metrics
from train_smarter.paths import CONF
from train_smarter.run.files import read_json
from train_smarter.task.base import Task, make_task
from train_smarter.task.classification import Classification
from train_smarter.trust.targets import check_targets

Compose = Callable[..., DictConfig]
Overrides = Callable[[str], list[str]]
Skip = Callable[[DictConfig], None]
FOUND: dict[str, tuple[str, str]] = {}  # task and data set of a model, as an earlier test found them
LIMITED = ["debug=limit", "data.batch_size=8", "data.eval_batch_size=16", "trainer=cpu", "callbacks.progress=null"]


def choices(group: str) -> list[str]:
    return sorted(path.stem for path in (CONF / group).glob("[!_]*.yaml") if path.stem != "none")


def shipped() -> list[Path]:
    """The choices and commands of conf/."""
    files = (file.relative_to(CONF) for file in CONF.rglob("*.yaml"))
    return sorted(CONF / file for file in files if file.parts[0] not in ("hydra", "local", "allowed.yaml"))


def refused(cfg: DictConfig) -> str:
    """The check's answer, or nothing."""
    try:
        check(cfg)
    except UserError as answer:
        return str(answer)
    return ""


def build_task(cfg: DictConfig) -> Task:
    config = OmegaConf.to_container(cfg.task, resolve=True)
    assert isinstance(config, dict)
    return make_task({str(key): value for key, value in config.items()})


@pytest.fixture(params=choices("data"))
def data(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def fitting(compose: Compose, facts: Overrides, small: Overrides) -> Callable[..., DictConfig]:
    """Compose a small model with a data set that it fits and that is there without a download."""

    def make(model: str, *words: str) -> DictConfig:
        own = sorted(choices("data"), key=lambda name: bool(facts(name)))  # a sample takes longer to read
        if ": ???" in (CONF / "model" / f"{model}.yaml").read_text(encoding="utf8"):
            pytest.skip(f"model={model} needs a value that only a user knows")
        # With the task of the data set, else with any.
        pairs = product(["", *choices("task")], own)
        for task, data in [FOUND[model]] if model in FOUND else pairs:
            chosen_task = [f"task={task}"] if task else []
            cfg = compose(f"data={data}", f"model={model}", *chosen_task, *facts(data), *small(model), *words)
            if not refused(cfg) and (facts(data) or type(build_data(cfg)).download is Data.download):
                FOUND[model] = task, data
                return cfg
        pytest.skip(f"no data set here fits model={model} without a download")

    return make


@pytest.mark.parametrize("model", choices("model"))
def test_every_model_trains_and_evaluates_on_a_data_set(
    fitting: Callable[..., DictConfig], tmp_path: Path, model: str
) -> None:
    train_and_evaluate(fitting(model, *LIMITED), tmp_path / "run")


def test_every_data_set_trains_and_evaluates_a_model(
    compose: Compose, facts: Overrides, small: Overrides, skip_without_files: Skip, tmp_path: Path, data: str
) -> None:
    for model in choices("model"):
        cfg = compose(f"data={data}", f"model={model}", *facts(data), *LIMITED, *small(model))
        skip_without_files(cfg)
        if not refused(cfg):
            train_and_evaluate(cfg, tmp_path / "run")
            return
    pytest.skip(f"no model here fits data={data}; scaffold.py add model, or remove data {data}")


@pytest.mark.slow
@pytest.mark.parametrize("model", choices("model"))
def test_every_model_trains_and_evaluates_on_every_data_set_that_it_fits(
    compose: Compose,
    facts: Overrides,
    small: Overrides,
    skip_without_files: Skip,
    tmp_path: Path,
    data: str,
    model: str,
) -> None:
    cfg = compose(f"data={data}", f"model={model}", *facts(data), *LIMITED, *small(model))
    skip_without_files(cfg)
    if "not installed" in (refusal := refused(cfg)):
        pytest.skip(refusal)
    if refusal:
        assert f"model={model} does not fit data={data}" in refusal
    else:
        train_and_evaluate(cfg, tmp_path / "run")


def train_and_evaluate(cfg: DictConfig, run: Path) -> None:
    best = run_train(cfg)
    assert best is not None
    assert math.isfinite(best)
    results = read_json(run / "results.json")
    wanted = {f"{split}/{metric}" for split in SPLITS for metric in task_metrics(cfg)}
    wanted -= {name for name in wanted - results.keys() if name.startswith("train/")}  # a task may measure no training
    assert {name for name in wanted if math.isfinite(results[name])} == wanted
    checkpoint = run / "checkpoints" / "best.ckpt"
    torch.load(checkpoint, weights_only=True)
    loaded = get_class(cfg.model._target_).load_from_checkpoint(checkpoint)  # type: ignore[attr-defined]
    assert sum(value.numel() for value in loaded.state_dict().values()) > 0  # a solved model has buffers alone


@pytest.mark.parametrize("model", choices("model"))
def test_every_model_gives_the_same_outputs_from_its_exported_file(
    fitting: Callable[..., DictConfig], tmp_path: Path, model: str
) -> None:
    cfg = fitting(model)
    data, network = build_data(cfg), build_model(cfg).eval()
    raw = exporter.raw_examples(data, 20, network.task)
    module = exporter.end_to_end(data, network, raw)
    file = tmp_path / "model.pt2"
    try:
        with exporter.silence_export():
            file.write_bytes(exporter.export_network(module, raw, format="torch", about={}))
    except UserError as answer:  # a network may be of a kind that torch.export cannot follow
        pytest.skip(str(answer))
    again = exporter.load_export(file, format="torch")
    for size in (1, 7, 20):  # within the tolerance of conf/export.yaml
        assert compare_export(again, module, split_rows(take_rows(raw, torch.arange(size)), size)).largest < 1e-4, (
            f"{size} at once"
        )


@pytest.mark.slow
@pytest.mark.parametrize("model", choices("model"))
def test_every_model_fits_some_data_set(compose: Compose, facts: Overrides, model: str) -> None:
    for task, data in product(["", *choices("task")], choices("data")):  # with the task of the data set, else with any
        answer = refused(compose(f"data={data}", f"model={model}", *([f"task={task}"] if task else []), *facts(data)))
        if not answer:
            return
        assert "does not fit" in answer or "no value yet" in answer or "not installed" in answer
    pytest.skip(f"no data set here has what model={model} needs; scaffold.py add data, or remove model {model}")


@pytest.mark.slow
def test_every_data_set_can_be_looked_at(
    compose: Compose, facts: Overrides, skip_without_files: Skip, tmp_path: Path, data: str
) -> None:
    cfg = compose(f"data={data}", "debug=data", "trainer=cpu", *facts(data))
    skip_without_files(cfg)
    run_train(cfg)
    found = read_json(tmp_path / "run" / "data.json")
    assert [one["split"] for one in found["splits"]] == list(SPLITS)
    assert found["views"]
    assert (tmp_path / "run" / "data.html").is_file()


def test_every_data_set_fits_its_task_and_has_every_class_to_train_on(
    compose: Compose, facts: Overrides, skip_without_files: Skip, data: str
) -> None:
    cfg = compose(f"data={data}", *facts(data))
    skip_without_files(cfg)
    module = build_data(cfg)
    module.prepare_data()
    module.setup()
    task = build_task(cfg)
    for split in SPLITS:
        examples = module.examples[split]
        assert len(examples) > 0
        if examples.targets is not None:
            assert len(examples) == count_rows(examples.targets)
        task.check(task.targets((examples.inputs, examples.targets)), split)
    if isinstance(task, Classification):
        assert set(module.examples["train"].targets.tolist()) == set(range(task.num_classes))
        assert len(module.names) == task.num_classes
    first = module.examples
    module.setup()
    assert module.examples is first, "setup is to find its work done"


# ---- what trains the default model on the default data set

SCHEDULES = [  # every scheduler and every optimizer once; the other pairs are slow
    pytest.param(scheduler, optimizer, marks=[] if 0 in (row, column) else [pytest.mark.slow])
    for row, scheduler in enumerate(choices("scheduler"))
    for column, optimizer in enumerate(choices("optimizer"))
]
Components = Any


@pytest.fixture
def components(
    compose: Compose, facts: Overrides, small: Overrides, skip_without_files: Skip
) -> Callable[..., Components]:
    """Build the default model and data set with overrides."""

    def make(*overrides: str) -> Components:
        compose()
        data, model = (chosen()[group] for group in ("data", "model"))
        bare = ["logger=none", "callbacks=none", "trainer=cpu", "debug=limit"]
        cfg = compose(*facts(data), *small(model), *bare, *overrides)
        skip_without_files(cfg)
        return build(cfg)

    return make


@pytest.mark.parametrize(("scheduler", "optimizer"), SCHEDULES)
def test_every_scheduler_goes_with_every_optimizer(
    components: Callable[..., Components], scheduler: str, optimizer: str
) -> None:
    run = components(f"scheduler={scheduler}", f"optimizer={optimizer}")
    before = [parameter.clone() for parameter in run.model.parameters()]
    try:
        run.trainer.fit(run.model, datamodule=run.data)
    except ValueError as error:
        if "momentum" not in str(error):
            raise
        pytest.skip(f"scheduler={scheduler} changes the momentum, and optimizer={optimizer} has none")
    assert any(not torch.equal(old, new) for old, new in zip(before, run.model.parameters(), strict=True))


@pytest.mark.parametrize("trainer", choices("trainer"))
def test_every_trainer_composes_and_passes_the_check(compose: Compose, facts: Overrides, trainer: str) -> None:
    compose()
    own = facts(chosen()["data"])
    cfg = compose(f"trainer={trainer}", *own)
    check(cfg)
    OmegaConf.update(cfg, "trainer.num_nodes", 2, force_add=True)
    check(cfg)


@pytest.mark.parametrize("precision", ["bf16-mixed", "64-true"])
def test_other_precisions_train(components: Callable[..., Components], precision: str) -> None:
    run = components(f"trainer.precision={precision}")
    run.trainer.fit(run.model, datamodule=run.data)
    assert math.isfinite(float(run.trainer.callback_metrics["val/loss"]))


BUILT: dict[str, int] = {}  # the number of callbacks of a run with all of them, by what is added to the default


@pytest.mark.parametrize("name", [name for name in choices("callbacks") if name != "default"])
def test_every_callback_can_be_removed_by_a_null(compose: Compose, facts: Overrides, name: str) -> None:
    added = [] if name in compose().callbacks else [f"callbacks=[default,{name}]"]
    words = [*facts(chosen()["data"]), *added]
    key = name if added else "default"
    BUILT[key] = BUILT.get(key) or len(build(compose(*words)).trainer.callbacks)  # type: ignore[attr-defined]
    without = build(compose(*words, f"callbacks.{name}=null"))
    assert len(without.trainer.callbacks) < BUILT[key]  # type: ignore[attr-defined]


@pytest.mark.parametrize("file", shipped(), ids=lambda file: str(file.relative_to(CONF)))
def test_every_class_that_a_choice_names_is_allowed(file: Path) -> None:
    content = OmegaConf.to_container(OmegaConf.load(file), resolve=False)
    group = file.relative_to(CONF).parts[0] if file.parent != CONF else ""
    whole = "@package _global_" in file.read_text(encoding="utf8")
    path = "" if whole or not group else group
    for key, part in content.items() if not path and isinstance(content, dict) else [(path, content)]:
        if key not in ("hydra", "defaults"):
            check_targets(part, str(key))


@pytest.mark.gpu
@pytest.mark.parametrize("model", choices("model"))
def test_every_model_trains_on_a_gpu_by_deterministic_algorithms_alone(
    fitting: Callable[..., DictConfig], model: str
) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    words = ["trainer=gpu", "trainer.deterministic=true", "debug=limit", "callbacks.progress=null"]
    assert run_train(fitting(model, *words)) is not None
