"""A network of transformers trains, evaluates and is exported as any other; a tiny random BERT stands for it."""

import json
import logging
import os
import pickle
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from lightning import Callback
from torch import Tensor
from torch.optim import AdamW

from sample_project.tiny_bert import PAD, POSITIONS, config, save_bert, save_tokenizer
from train_smarter.callbacks.resume_checkpoint import ResumeCheckpoint
from train_smarter.data.examples import Examples, RawDataset
from train_smarter.data.hub import _hub_answers
from train_smarter.data.text_data import TextData
from train_smarter.errors import UserError
from train_smarter.fit.transformer import Transformer
from train_smarter.history.restore import load_weights
from train_smarter.inference.exporter import end_to_end, export_network, load_export, metadata, silence_export
from train_smarter.task.base import Task
from train_smarter.task.classification import Classification
from train_smarter.task.multilabel import Multilabel
from train_smarter.task.regression import Regression

transformers = pytest.importorskip("transformers", reason="the extra hf is not installed")
pytestmark = pytest.mark.filterwarnings("ignore")  # of transformers' own

BARE: dict[str, Any] = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False, "max_epochs": 2}
BARE |= {"enable_model_summary": False, "enable_checkpointing": False, "use_distributed_sampler": False}
TWO = ["the film was good", "bad"]
Changed = Callable[[Path], object]


@pytest.fixture(scope="session")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_bert(tmp_path_factory.mktemp("bert"))


class Reviews(TextData):
    """40 reviews of 1 to 12 words to train; a good one is of class 1, and of 1.0 as a number."""

    def __init__(self, folder: Path | str, **text: Any) -> None:
        settings = {"num_classes": 2, "max_length": 12, "vocab_size": None, "batch_size": 6, "val_fraction": 0.2}
        super().__init__(**{**settings, "tokenizer": str(folder), **text})

    def read(self) -> RawDataset:
        texts = [f"{'the film was it ' * (i % 4)}{'good' if i % 2 else 'bad'}{' plot' * (i // 4)}" for i in range(48)]
        labels = torch.arange(48) % 2
        return RawDataset(["bad", "good"], Examples(texts[:40], labels[:40]), test=Examples(texts[40:], labels[40:]))


def made(bert: Path, task: Task | None = None, **options: Any) -> Transformer:
    """A model whose network is made, as `setup` does it."""
    model = Transformer(name=str(bert), task=task or Classification(num_classes=2), **options)
    model._load_network()
    return model


def batch(data: TextData | None = None, texts: list[str] = TWO, *, bert: Path) -> dict[str, Tensor]:
    data = data or Reviews(bert)
    if data.tokenizer_json is None:
        data._load_pretrained_tokenizer(str(bert))
    inputs: dict[str, Tensor] = data.collate(texts)[0]
    return inputs


# ---- the numbers of transformers


@pytest.mark.parametrize(
    ("task", "labels", "targets"),
    [
        (Classification(num_classes=2), 2, torch.tensor([1, 0])),
        (Classification(num_classes=3), 3, torch.tensor([2, 0])),
        (Regression(num_targets=1, scale_targets=False), 1, torch.tensor([[0.3], [-2.0]])),
        (Multilabel(num_labels=3), 3, torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]])),
    ],
    ids=["two classes", "three classes", "numbers", "labels"],
)
def test_the_loss_is_that_of_transformers(tmp_path: Path, task: Task, labels: int, targets: Tensor) -> None:
    folder = save_bert(tmp_path, labels=labels)
    model, inputs = made(folder, task).eval(), batch(bert=folder)
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    wanted = theirs(**inputs, labels=targets)
    outputs = model(inputs)
    assert task.loss(outputs, targets).item() == pytest.approx(wanted.loss.item(), abs=1e-6)
    if labels == 2:
        assert isinstance(task, Classification)
        assert task.probabilities(outputs).allclose(wanted.logits.softmax(1), atol=1e-6)
    else:
        assert outputs.equal(wanted.logits)


def test_the_gradients_of_two_classes_are_those_of_two_logits(bert: Path) -> None:
    model, inputs, targets = made(bert).eval(), batch(bert=bert), torch.tensor([1, 0])
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(bert).eval()
    theirs(**inputs, labels=targets).loss.backward()
    model.task.loss(model(inputs), targets).backward()
    own = dict(model.named_parameters())
    assert len(own) == len(list(theirs.parameters()))
    for name, parameter in theirs.named_parameters():
        gradient = own[f"network.{name}"].grad
        assert gradient is not None
        assert gradient.allclose(parameter.grad, atol=1e-6), name


def test_padding_changes_no_prediction(bert: Path) -> None:
    model, inputs = made(bert).eval(), batch(bert=bert)
    more = torch.full((2, 5), PAD)
    longer = {
        "input_ids": torch.cat([inputs["input_ids"], more], 1),
        "attention_mask": torch.cat([inputs["attention_mask"], more * 0], 1),
    }
    alone = batch(texts=TWO[1:], bert=bert)
    assert alone["input_ids"].shape[1] < inputs["input_ids"].shape[1]
    assert model(longer).allclose(model(inputs), atol=1e-5)
    assert model(alone).allclose(model(inputs)[1:], atol=1e-5)


# ---- texts


def test_texts_have_the_tokens_of_transformers_own_tokenizer(bert: Path) -> None:
    theirs = transformers.AutoTokenizer.from_pretrained(bert)(TWO, padding=True, return_tensors="pt")
    own = batch(bert=bert)
    assert own["input_ids"].equal(theirs["input_ids"])
    assert own["attention_mask"].equal(theirs["attention_mask"])


def test_a_long_text_is_cut_and_keeps_its_special_tokens(bert: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    data = Reviews(bert, max_length=99, truncation_side="left")
    tokens = batch(data, ["good " * 50 + "bad"], bert=bert)["input_ids"][0].tolist()
    assert (len(tokens), tokens[0], tokens[-2:]) == (POSITIONS, 4, [8, 5])  # [CLS] ... bad [SEP]
    assert data.max_length == POSITIONS
    assert f"texts are cut to the {POSITIONS} tokens" in caplog.text


def test_an_example_reads_as_its_text(bert: Path) -> None:
    data = Reviews(bert)
    inputs = batch(data, bert=bert)
    assert data.decode({key: rows[1] for key, rows in inputs.items()}) == "bad"


def test_texts_of_different_lengths_come_from_the_cache(bert: Path, tmp_path: Path) -> None:
    class Cached(Reviews):
        reads = 0

        def fingerprint(self) -> Any:
            return 1

        def read(self) -> RawDataset:
            Cached.reads += 1
            return super().read()

    first, second = (Cached(bert, dir=str(tmp_path)) for _ in range(2))
    first.setup()
    second.setup()
    assert Cached.reads == 1
    for split in ("train", "val", "test"):
        one, other = first.examples[split], second.examples[split]
        assert one.targets.equal(other.targets)
        assert one.inputs.read()["input_ids"].equal(other.inputs.read()["input_ids"])
    Cached(bert, dir=str(tmp_path), max_length=5).setup()
    assert Cached.reads == 2


# ---- a run


class Record(Callback):
    """Notes the ids of every training batch; stops the run before a batch."""

    def __init__(self, stop: int | None = None) -> None:
        self.stop, self.seen, self.lengths = stop, [], []  # type: ignore[var-annotated]

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:  # noqa: ARG002
        if trainer.global_step == self.stop:
            raise KeyboardInterrupt
        self.seen.append(batch[0]["input_ids"])
        self.lengths.append(batch[0]["attention_mask"].sum(1))


def fit(bert: Path, *callbacks: Callback, resume: Path | None = None, **model: Any) -> lightning.Trainer:
    lightning.seed_everything(3, verbose=False)
    settings = {"name": str(bert), "task": Classification(num_classes=2), "optimizer": partial(AdamW, lr=0.01)}
    network = Transformer(**{**settings, **model})
    if resume is not None:  # as `train` does
        network.make_layers_for(torch.load(resume, weights_only=True))
    trainer = lightning.Trainer(**BARE, callbacks=list(callbacks))
    trainer.fit(network, datamodule=Reviews(bert), ckpt_path=resume, weights_only=True)
    return trainer


def weights(trainer: lightning.Trainer) -> dict[str, Tensor]:
    return trainer.lightning_module.state_dict()


def test_a_run_that_goes_on_within_an_epoch_ends_with_the_same_weights_bit_for_bit(
    bert: Path, tmp_path: Path, equal: Callable[[Any, Any], bool]
) -> None:
    whole, broken, rest = Record(), Record(stop=8), Record()
    straight = fit(bert, whole)
    assert len(whole.seen) == 2 * 6  # 32 texts in batches of 6
    with pytest.raises(SystemExit):
        fit(bert, ResumeCheckpoint(dirpath=str(tmp_path), every_n_steps=2), broken)
    last = tmp_path / "last.ckpt"
    assert torch.load(last, weights_only=True)["resume"]["batch"] == 2
    resumed = fit(bert, ResumeCheckpoint(dirpath=str(tmp_path)), rest, resume=last, name="a folder that is gone")
    assert equal(rest.seen, whole.seen[8:])
    assert equal(weights(resumed), weights(straight))


def test_training_has_dropout_and_evaluation_has_none(bert: Path) -> None:
    model, inputs = made(bert, config={"hidden_dropout_prob": 0.5}), batch(bert=bert)
    assert model.network is not None
    assert model.network.training
    assert not model(inputs).equal(model(inputs))
    model.eval()
    assert model(inputs).equal(model(inputs))


def test_batches_of_training_are_padded_to_their_own_longest_text(bert: Path) -> None:
    record = Record()
    fit(bert, record)
    for ids, lengths in zip(record.seen, record.lengths, strict=True):
        assert ids.shape[1] == int(lengths.max())
    assert len({ids.shape[1] for ids in record.seen}) > 1


def test_a_checkpoint_needs_no_folder(bert: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(bert, tmp_path / "bert")
    trainer = fit(folder)
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    shutil.rmtree(folder)
    data, model = Reviews(folder), Transformer(name=str(folder), task=Classification(num_classes=2))
    load_weights(data, model, tmp_path, tmp_path / "a.ckpt")
    loaded = Transformer.load_from_checkpoint(tmp_path / "a.ckpt", weights_only=True).eval()
    inputs, _ = data.collate(TWO)
    trained = trainer.lightning_module.eval()
    assert model(inputs).equal(trained(inputs))
    assert loaded(inputs).equal(trained(inputs))


def test_a_run_starts_from_the_weights_of_a_run(bert: Path, tmp_path: Path) -> None:
    fit(bert).save_checkpoint(tmp_path / "a.ckpt")
    given = torch.load(tmp_path / "a.ckpt", weights_only=True)["state_dict"]
    model = Transformer(name="gone", pretrained=str(tmp_path / "a.ckpt"), task=Classification(num_classes=2))
    trainer: Any = lightning.Trainer(**BARE)
    model.trainer = trainer
    trainer.datamodule = Reviews(bert)
    trainer.datamodule.setup()
    model.setup("fit")
    assert all(value.equal(given[key]) for key, value in model.state_dict().items())


def test_other_classes_start_afresh(bert: Path) -> None:
    model = made(bert, Classification(num_classes=5)).eval()
    assert model(batch(bert=bert)).shape == (2, 5)


def test_random_weights_in_place_of_those_of_the_folder(bert: Path, tmp_path: Path) -> None:
    shutil.copy(bert / "config.json", tmp_path)  # no weights
    random = made(tmp_path, from_scratch=True, config={"num_hidden_layers": 1})
    assert not any("layer.1." in key for key in random.state_dict())
    taken, own = made(bert).state_dict(), random.state_dict()
    key = "network.bert.embeddings.word_embeddings.weight"
    assert not taken[key].equal(own[key])


# ---- an exported file


@pytest.mark.slow
@pytest.mark.parametrize("format", ["torch", "onnx"])
def test_an_exported_file_takes_texts_of_any_length(bert: Path, tmp_path: Path, format: str) -> None:  # noqa: A002
    if format == "onnx":
        pytest.importorskip("onnxscript")
    data, model = Reviews(bert), made(bert).eval()
    raw = batch(data, bert=bert)
    network = end_to_end(data, model, raw)
    about = metadata(data, raw, network)
    assert json.loads(about["input"])["input_ids"] == {"dtype": "int64", "shape": ["batch", "tokens"]}
    with silence_export():
        content = export_network(network, raw, format=format, about=about, max_length=data.max_length)
    file = tmp_path / ("model.onnx" if format == "onnx" else "model.pt2")
    file.write_bytes(content)
    run = load_export(file, format=format)
    for texts in (["it"], ["the film was not good", "bad", "good"], ["good " * 30]):
        inputs = data.collate(texts)[0]
        given = run(inputs["input_ids"], inputs["attention_mask"])
        assert given.allclose(model.task.predict(model(inputs))["probabilities"], atol=1e-6)


# ---- what is refused, and says why


def refusal(bert: Path, **data: Any) -> str:
    model = Transformer(name=str(bert), task=Classification(num_classes=2))
    trainer = lightning.Trainer(**BARE)
    with pytest.raises(UserError) as refused:
        trainer.fit(model, datamodule=Reviews(**{"folder": bert, **data}))
    return str(refused.value)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    told = refusal(tmp_path / "none")
    assert told.startswith(f"data.tokenizer={tmp_path / 'none'}: ")
    assert len(told.splitlines()) == 1


def test_more_tokens_than_positions_are_refused(tmp_path: Path) -> None:
    folder = save_bert(tmp_path, max_position_embeddings=8)
    assert "data.max_length=12" in refusal(folder)
    assert "type data.max_length=8" in refusal(folder)


def test_the_tokenizer_of_another_model_is_refused(bert: Path, tmp_path: Path) -> None:
    folder = save_bert(tmp_path, vocab_size=9)
    assert "has 14 ids, but the network" in refusal(folder, folder=bert)


def test_a_network_that_classifies_no_texts_is_refused(bert: Path, tmp_path: Path) -> None:
    transformers.ViTConfig().save_pretrained(tmp_path)
    save_tokenizer(tmp_path)
    assert "is of the kind vit, of which transformers classifies no texts" in refusal(tmp_path, folder=bert)


def test_weights_that_do_not_fit_at_all_are_refused(bert: Path, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    folder = shutil.copytree(bert, tmp_path / "other")
    save_file({"other": torch.zeros(1)}, folder / "model.safetensors", metadata={"format": "pt"})
    assert "holds no weight of a BertForSequenceClassification" in refusal(folder)


# ---- a model from a stranger


class Evil:
    def __reduce__(self) -> Any:
        return os.mkdir, (os.environ["MARKER"],)


def _pickled(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Evil()))


def _with_code(folder: Path) -> None:
    (folder / "evil.py").write_text("import os\nos.mkdir(os.environ['MARKER'])\n")
    for name, entry in (("config.json", "AutoConfig"), ("tokenizer_config.json", "AutoTokenizer")):
        content = json.loads((folder / name).read_text())
        content["auto_map"] = {entry: "evil.Evil", "AutoModelForSequenceClassification": "evil.Evil"}
        (folder / name).write_text(json.dumps(content))


@pytest.mark.parametrize("plant", [_pickled, _with_code], ids=["a pickle", "code"])
def test_a_folder_of_a_model_runs_nothing(
    bert: Path, tmp_path: Path, plant: Changed, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, marker = shutil.copytree(bert, tmp_path / "evil"), tmp_path / "marker"
    monkeypatch.setenv("MARKER", str(marker))
    plant(folder)
    with suppress(UserError):  # or it trains
        fit(folder)
    assert not marker.exists()


def test_weights_that_are_no_safetensors_are_refused(bert: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(bert, tmp_path / "old")
    (folder / "model.safetensors").unlink()
    state = transformers.AutoModelForSequenceClassification.from_pretrained(bert).state_dict()
    torch.save(state, folder / "pytorch_model.bin")
    assert "safetensors" in refusal(folder)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[list[str]]:
    """A server in place of huggingface.co that notes what it is asked for."""
    seen: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(self.path)
            self.send_error(404)

        do_HEAD = do_POST = do_GET  # noqa: N815

        def log_message(self, *_: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)
    monkeypatch.setattr(
        "huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    _hub_answers.cache_clear()
    yield seen
    server.shutdown()
    server.server_close()
    _hub_answers.cache_clear()


def test_a_name_on_the_hub_is_looked_up_where_it_may_be_fetched_only(hub: list[str]) -> None:
    def load(download: bool) -> str:
        with pytest.raises(UserError) as refused:
            made(Path("stranger/model"), download=download)
        return str(refused.value)

    assert "nothing is downloaded that only a run's config names" in load(download=False)
    assert hub == []
    load(download=True)
    assert hub  # the server would have noticed


def test_a_hub_that_cannot_be_reached_is_one_line_at_once(hub: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # nobody listens
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", f"http://127.0.0.1:{unused.getsockname()[1]}")
        with pytest.raises(UserError, match="it is not on this machine, and the hub cannot be reached"):
            made(Path("some/model"), download=True)
    assert hub == []


def test_a_tokenizer_on_the_hub_is_looked_up_where_it_may_be_fetched_only(hub: list[str]) -> None:
    for download in (False, True):
        assert hub == []
        with pytest.raises(UserError, match=r"data\.tokenizer=stranger/model: "):
            Reviews("stranger/model", download=download).setup()
    assert hub


def test_a_recorded_network_names_no_code_of_the_hub(hub: list[str]) -> None:
    evil: dict[str, Any] = {"_attn_implementation": "stranger/kernel", "attn_implementation": "stranger/kernel"}
    evil |= {"auto_map": {"AutoConfig": "stranger/model--evil.Evil"}, "quantization_config": {"quant_method": "x"}}
    model = Transformer(
        name="stranger/model", architecture={**config().to_dict(), **evil}, task=Classification(num_classes=2)
    )
    assert hub == []
    assert model.network is not None
    made_config: Any = model.network.config
    assert made_config._attn_implementation in ("sdpa", "eager")
    assert not {*evil} & {*model.hparams["architecture"]}
