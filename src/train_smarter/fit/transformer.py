"""Pretrained transformers of Hugging Face, with a head for the task."""

import logging
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from train_smarter.data.hub import hub_access, import_extra
from train_smarter.data.token_rows import is_tokens
from train_smarter.errors import UserError
from train_smarter.fit.module import Model
from train_smarter.fit.pretrained import read_pretrained
from train_smarter.task.classification import Classification

log = logging.getLogger(__name__)

# Of a configuration, what names code, files or this very task, and not the shape of a network.
DROPPED = (
    "adapter",
    "architectures",
    "attn_implementation",
    "auto_map",
    "dtype",
    "experts_implementation",
    "id2label",
    "label2id",
    "num_labels",
    "problem_type",
    "quantization_config",
    "torch_dtype",
    "transformers_version",
)


class Transformer(Model):
    """A network of `transformers` for the class, the labels or the numbers of a text.

    {"input_ids": (B, T), "attention_mask": (B, T)}, int64 -> logits or values (B, K). Two classes have two logits in
    the network, as published weights do, and the task gets their difference (B, 1): loss and probabilities are equal.

    The network is made when training starts, or when a checkpoint is loaded: that holds its configuration and weights,
    so a trained model needs neither the folder nor the hub.

    Args:
        name: a folder, or a name on the hub. Weights are read from safetensors files; code in it is never run.
        config: changes of the network's configuration, for example {"hidden_dropout_prob": 0.2}.
        from_scratch: random weights in place of those of `name`.
        download: fetch what is not on this machine.
        architecture: the whole configuration of the network, as a checkpoint has it; None: that of `name`.
    """

    def __init__(
        self,
        *,
        name: str,
        config: Mapping[str, Any] | None = None,
        from_scratch: bool = False,
        download: bool = False,  # as in a saved config that lacks the key
        architecture: Mapping[str, Any] | None = None,
        **model: Any,
    ) -> None:
        super().__init__(**model)
        self.name, self.config, self.from_scratch = name, dict(config or {}), from_scratch
        self.may_download = download
        self.network: nn.Module | None = None
        if architecture is not None:
            self._make_network(architecture)

    def forward(self, inputs: Mapping[str, Tensor]) -> Tensor:
        assert self.network is not None, "the network is made by setup, or by loading a checkpoint"
        if not is_tokens(inputs):
            raise UserError(
                "model=transformer takes texts, {'input_ids': ..., 'attention_mask': ...}: set data.tokenizer, as "
                "conf/model/transformer.yaml does"
            )
        logits: Tensor = self.network(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"])["logits"]
        return logits[:, 1:] - logits[:, :1] if self._is_binary else logits

    @property
    def _is_binary(self) -> bool:
        return isinstance(self.task, Classification) and self.task.num_classes == 2

    # ---- when the network is made

    def setup(self, stage: str) -> None:
        if self.pretrained is True:
            self.pretrained = None  # the weights of `name` are loaded anyway
        if stage == "fit" and self.pretrained:
            self.make_layers_for(read_pretrained(str(self.pretrained)))
        if stage == "fit" and self.network is None:
            self._load_network()
        if self.network is not None:
            self._check_data(getattr(self.trainer, "datamodule", None))
        super().setup(stage)

    def make_layers_for(self, checkpoint: Mapping[str, Any]) -> None:
        if self.network is not None:
            return
        recorded = (checkpoint.get("hyper_parameters") or {}).get("architecture")
        if not isinstance(recorded, Mapping):
            raise UserError("the checkpoint holds no transformer: it lacks the configuration of the network")
        self._make_network(recorded)

    def _load_network(self) -> None:
        """Make the network of `name`."""
        transformers = import_extra("transformers", "model=transformer")
        with hub_access("model.name", self.name, download=self.may_download):
            found = transformers.AutoConfig.from_pretrained(self.name, trust_remote_code=False).to_dict()
            config = self._configuration({**found, **self.config})
            if self.from_scratch:
                network, fresh = transformers.AutoModelForSequenceClassification.from_config(config), ["all weights"]
            else:
                network, about = transformers.AutoModelForSequenceClassification.from_pretrained(
                    self.name,
                    config=config,
                    dtype=torch.float32,
                    ignore_mismatched_sizes=True,
                    output_loading_info=True,
                    trust_remote_code=False,
                    use_safetensors=True,
                )
                fresh = sorted({*about["missing_keys"], *(key for key, *_ in about["mismatched_keys"])})
        if len(fresh) == len(network.state_dict()):
            raise UserError(f"model.name={self.name} holds no weight of a {type(network).__name__}")
        afresh = f"; at random: {', '.join(fresh[:4])}{f' and {len(fresh) - 4} more' if len(fresh) > 4 else ''}"
        log.info("%s of %s%s", type(network).__name__, self.name, afresh if fresh else "")
        self._adopt(network, config)

    def _make_network(self, architecture: Mapping[str, Any]) -> None:
        """Make a network for weights that come from a checkpoint; nothing is read, whatever its file names."""
        transformers = import_extra("transformers", "model=transformer")
        with hub_access("model.architecture", str(architecture.get("model_type")), download=False):
            config = self._configuration(architecture)
            self._adopt(transformers.AutoModelForSequenceClassification.from_config(config), config)

    def _configuration(self, values: Mapping[str, Any]) -> Any:
        """A configuration for the outputs of the task, of plain values alone.

        Raises:
            UserError: it is of a network that classifies no texts.
        """
        transformers, kind = import_extra("transformers", "model=transformer"), str(values.get("model_type"))
        known = transformers.models.auto.modeling_auto.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES
        if kind not in known:
            raise UserError(f"model.name={self.name} is of the kind {kind}, of which transformers classifies no texts")
        plain = _plain({key: value for key, value in values.items() if key != "model_type"})
        labels = self.num_outputs + self._is_binary
        config = transformers.AutoConfig.for_model(kind, **plain, num_labels=labels)
        if config.pad_token_id is None:  # as the tokenizer pads without a token for it
            end = config.eos_token_id
            config.pad_token_id = end[0] if isinstance(end, list) else end
        return config

    def _adopt(self, network: nn.Module, config: Any) -> None:
        self.network = network.train(self.training)
        self.hparams["architecture"] = _plain(config.to_dict())

    def _check_data(self, data: Any) -> None:
        """Compare the texts with what the network has an embedding for.

        Raises:
            UserError: they are too long, or their tokenizer has more ids.
        """
        config: Any = getattr(self.network, "config", None)
        length, positions = getattr(data, "max_length", 0), getattr(config, "max_position_embeddings", None)
        if positions is not None and 0 < positions < length:
            raise UserError(
                f"data.max_length={length}, but the network of model.name={self.name} has {positions} positions: type "
                f"data.max_length={positions}"
            )
        ids = data.tokenizer.get_vocab_size() if getattr(data, "tokenizer_json", None) else 0  # of a TextData
        if ids > config.vocab_size:
            raise UserError(
                f"data.tokenizer={getattr(data, 'pretrained_tokenizer', None)} has {ids} ids, but the network of "
                f"model.name={self.name} knows {config.vocab_size}: give the tokenizer of the same model"
            )


def _plain(node: Any) -> Any:
    """A configuration without what is `DROPPED` or private, which could name code of the hub, at any depth."""
    if isinstance(node, Mapping):
        return {key: _plain(value) for key, value in node.items() if key not in DROPPED and str(key)[:1] != "_"}
    return [_plain(value) for value in node] if isinstance(node, list | tuple) else node
