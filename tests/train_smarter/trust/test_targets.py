"""Which classes a config may build: none too many, none too few."""

import importlib
import importlib.util
import inspect
import os
import pkgutil
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from train_smarter.errors import UserError
from train_smarter.trust import check_targets, targets

PL = "lightning.pytorch."


def public_classes(package: str) -> Iterator[tuple[str, type]]:
    """Each public class of a package's public modules, by each name under which it is found."""
    if importlib.util.find_spec(package) is None:  # of an extra
        return
    home = importlib.import_module(package)
    inside = pkgutil.walk_packages(getattr(home, "__path__", []), f"{package}.", onerror=lambda _: None)
    for module in [package, *(found.name for found in inside)]:
        if any(part.startswith("_") for part in module.split(".")):
            continue
        try:
            content = vars(importlib.import_module(module))
        except Exception:  # it needs what this machine has not
            continue
        for name, value in content.items():
            if isinstance(value, type) and not name.startswith("_"):
                yield f"{module}.{name}", value


def fitting(place: str) -> list[tuple[str, type]]:
    """The classes that a slot takes."""
    slot = targets.SLOTS[place]
    module, _, name = slot.base.rpartition(".")
    base = getattr(importlib.import_module(module), name)
    packages = [name for name in slot.packages if name != "lightning.Trainer"]  # a class
    return [found for package in packages for found in public_classes(package) if issubclass(found[1], base)]


# ---- none too few


@pytest.mark.parametrize("module", ["torch.optim", "torch.optim.lr_scheduler", f"{PL}callbacks", f"{PL}profilers"])
def test_every_class_that_torch_and_lightning_offer_there_is_allowed(module: str) -> None:
    place = {"torch.optim": "optimizer", "torch.optim.lr_scheduler": "scheduler.torch_scheduler"}.get(module, "")
    place = place or {"callbacks": "callbacks.x", "profilers": "trainer.profiler"}[module.rpartition(".")[2]]
    offered = importlib.import_module(module)
    slot = targets.SLOTS[place.replace(".x", ".*")]
    home, _, base = slot.base.rpartition(".")
    names = getattr(offered, "__all__", None) or vars(offered)
    classes = [name for name in names if isinstance(getattr(offered, name), type)]
    classes = [
        name for name in classes if issubclass(getattr(offered, name), getattr(importlib.import_module(home), base))
    ]
    assert len(classes) > 5
    for name in classes:
        if name != "LambdaCallback":
            assert check_targets({"_target_": f"{module}.{name}"}, place)[0] == f"{module}.{name}"


def test_a_class_of_ones_own_package_is_allowed_in_its_slot() -> None:
    assert check_targets({"_target_": "sample_project.model.cnn.CNN"}, "model")
    assert check_targets({"flip": {"_target_": "train_smarter.data.augment.Flip"}}, "data.augment")
    with pytest.raises(UserError, match=r"give a public subclass of \S+LightningModule"):
        check_targets({"_target_": "train_smarter.data.augment.Flip"}, "model")


# ---- none too many


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("data", "os.system"),
        ("data", "train_smarter.data.download.fetch"),
        ("data", "train_smarter.data.base.os.system"),
        ("model", "torch.hub.load"),
        ("model", "torch.nn.Linear"),
        ("model", "torch.nn.functional.torch.hub.load"),
        ("model", f"{PL}demos.boring_classes.BoringModel"),
        ("optimizer", "torch.optim.lr_scheduler.StepLR"),
        ("optimizer", "torch.optim.optimizer._use_grad_for_differentiable"),
        ("optimizer", "torch.optim._functional.adam"),
        ("scheduler.torch_scheduler", "torch.optim.Adam"),
        ("callbacks.x", f"{PL}callbacks.ModelCheckpoint._link_checkpoint"),
        ("callbacks.x", f"{PL}callbacks.LambdaCallback"),
        ("callbacks.x", f"{PL}callbacks.lambda_function.LambdaCallback"),
        ("callbacks.x", f"{PL}callbacks"),
        ("callbacks.x", f"{PL}callbacks.model_checkpoint.os"),
        ("callbacks.x", f"{PL}loggers.CSVLogger"),
        ("logger.x", f"{PL}loggers.csv_logs.ExperimentWriter"),
        ("logger.x", "lightning.fabric.loggers.CSVLogger"),
        ("trainer", f"{PL}callbacks.ModelCheckpoint"),
        ("trainer", f"{PL}cli.LightningCLI"),
        ("trainer.strategy", "lightning.fabric.strategies.DDPStrategy"),
        ("trainer.profiler", "torch.profiler.profile"),
        ("data.augment.x", "torchvision.transforms.v2.Lambda"),
        ("model", 7),
        ("model", "CNN"),
        ("model", "train_smarter..CNN"),
        ("model", "sample_project.model.cnn.CNN "),
        ("model", "train_smarter.__init__.load"),
        ("model", "train_smarter.not_there.CNN"),
    ],
)
def test_what_does_not_fit_a_slot_is_refused(path: str, target: object) -> None:
    with pytest.raises(UserError, match=r"is refused: give a public subclass of [\w.]+ from [\w., ]+"):
        check_targets({"_target_": target}, path)


def test_the_line_that_would_allow_a_class_names_the_slot_as_a_user_types_it() -> None:
    with pytest.raises(UserError, match=r"allowed\.yaml:\n  optimizer: \[timm\]"):
        check_targets({"optimizer": {"_target_": "timm.optim.Lamb"}}, "model")
    with pytest.raises(UserError) as answer:  # no line would help
        check_targets({"_target_": "torch.nn.Linear"}, "optimizer")
    assert "allowed" not in str(answer.value)


@pytest.mark.parametrize(
    ("path", "node"),
    [
        ("model", {"x": {"_target_": "torch.nn.Linear"}}),
        ("callbacks.x", {"y": [{"_target_": f"{PL}callbacks.Timer"}]}),
        ("trainer", {"plugins": {"_target_": f"{PL}plugins.io.AsyncCheckpointIO"}}),
        ("trainer", {"callbacks": [{"_target_": f"{PL}callbacks.Timer"}]}),
        ("data", {"augment": {"_target_": "train_smarter.data.augment.Flip"}}),
        ("seed", {"_target_": "sample_project.model.cnn.CNN"}),
    ],
)
def test_where_no_class_is_built_none_is_allowed(path: str, node: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="no class is built there"):
        check_targets(node, path)


@pytest.mark.parametrize("key", ["_execution_whitelist_", "_isolate_", "_other_"])
def test_hydras_own_keys_are_refused(key: str) -> None:
    with pytest.raises(UserError, match=f"model.x.{key} is refused"):
        check_targets({"x": {key: 1}}, "model")


# ---- a line in conf/allowed.yaml


@pytest.fixture
def allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    file = tmp_path / "allowed.yaml"
    monkeypatch.setattr(targets, "_allowlist", lambda: file)
    targets._allowed.cache_clear()
    yield file
    targets._allowed.cache_clear()


def test_a_line_allows_a_package_in_one_slot_or_in_all_and_the_base_class_still_counts(allowed: Path) -> None:
    allowed.write_text(f"any: [{PL}demos]\noptimizer: torch.nn\nmodel.loss: [torch.nn.HuberLoss]\n")
    assert check_targets({"_target_": f"{PL}demos.boring_classes.BoringModel"}, "model")
    assert check_targets({"_target_": f"{PL}demos.boring_classes.BoringDataModule"}, "data")
    network = {"_target_": "sample_project.model.cnn.CNN", "loss": {"_target_": "torch.nn.HuberLoss"}}
    assert check_targets(network, "model")
    for path, target in (
        ("model", f"{PL}demos.boring_classes.BoringDataModule"),
        ("optimizer", "torch.nn.Linear"),
        ("model.loss", "torch.nn.MSELoss"),
        ("model.loss", "torch.nn.functional.huber_loss"),
    ):
        with pytest.raises(UserError, match="is refused"):
            check_targets({"_target_": target}, path)


@pytest.mark.parametrize("content", ["- a\n", "a: 1\n", "a: [1]\n", "a: [\n", "\0"])
def test_a_damaged_file_is_answered(allowed: Path, content: str) -> None:
    allowed.write_text(content)
    with pytest.raises(UserError, match=r"allowed\.yaml"):
        check_targets({"_target_": "sample_project.model.cnn.CNN"}, "model")


def test_an_empty_file_allows_nothing_more(allowed: Path) -> None:
    allowed.write_text("")
    assert check_targets({"_target_": "sample_project.model.cnn.CNN"}, "model")


# ---- what a class does when it is built

WATCHED = ("os.", "shutil.", "socket.", "subprocess.", "tempfile.", "urllib.", "pty.", "ftplib.", "smtplib.")
recorded: list[tuple[str, tuple[Any, ...]]] = []
watching = False


def _watch(event: str, given: tuple[Any, ...]) -> None:
    if not watching:
        return
    writes = event == "open" and isinstance(given[2], int) and bool(given[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
    if writes or (event.startswith(WATCHED) and event not in ("os.listdir", "os.scandir", "os.walk", "os.fwalk")):
        recorded.append((event, given))


@pytest.fixture(scope="module")
def hook() -> None:
    sys.addaudithook(_watch)  # for ever: there is no way to take it back


@pytest.mark.usefixtures("hook")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of what is built by half
@pytest.mark.parametrize("place", [place for place in targets.SLOTS if targets.SLOTS[place].packages])
def test_no_class_of_a_slot_does_anything_when_it_is_built(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each one, with nothing but a word for each argument that it needs, and none that writes or sends."""
    global watching
    monkeypatch.chdir(tmp_path)
    built, done = 0, {}
    for name, kind in fitting(place):
        if kind.__name__ in ("MLFlowLogger", "WandbLogger", "CometLogger", "LitLogger"):
            continue  # never from a run: trust/config.py leaves them out
        needed = [
            argument.name
            for argument in list(inspect.signature(kind).parameters.values())
            if argument.default is argument.empty
            and argument.kind in (argument.POSITIONAL_OR_KEYWORD, argument.KEYWORD_ONLY)
        ]
        recorded.clear()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            watching = True
            try:
                kind(**dict.fromkeys(needed, "word"))
                built += 1
            except Exception:  # a word is not what it needs: so it has not been built
                pass
            finally:
                watching = False
        if recorded:
            done[name] = list(recorded)
    assert not done
    assert not list(tmp_path.iterdir())
    assert built or place.startswith(("optimizer", "scheduler", "model")), "nothing could be built"
