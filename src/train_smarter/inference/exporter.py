"""Export a network to ONNX or torch.export, and compare it with the original."""

from __future__ import annotations

import io
import json
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from train_smarter.errors import UserError

if TYPE_CHECKING:  # heavy: imported when a config has been composed and checked
    from collections.abc import Callable

    from torch import Tensor, nn
    from torch.export import ExportedProgram

    from train_smarter.data.base import Data
    from train_smarter.fit.module import Model

    Network = Callable[[Tensor], Tensor]

ONNX = ("onnx", "onnxruntime", "onnxscript")  # the extra's packages

# What torch says to itself while it exports and reads back.
NOISE = (
    "The tensor attributes .*_flat_weights.* were assigned during export",  # each LSTM keeps such a list
    "_check_is_size will be removed",
    "No complete tensor found in the group",  # said of weights that lie channels last; they are saved whole
    "The given buffer is not writable",
)
NOISY_LOGGERS = ("torch._export.serde.serialize", "torch.onnx", "onnxscript", "onnx_ir")


# ---- what is exported


def end_to_end(data: Data, model: Model) -> nn.Module:
    """The model with what stands before and behind it: raw input (B, ...) -> probabilities (B, K)."""
    from torch import nn

    class Whole(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, input: Tensor) -> Tensor:  # noqa: A002 (the name it has for the file's user)
            inputs, _ = data.on_after_batch_transfer((input, input), 0)  # labels are handed through
            return model.task.predict(model(inputs))["probabilities"]

    return Whole().eval()


def raw_examples(data: Data, count: int | None) -> Tensor:
    """Test examples as a user of the file has them, spread evenly over the split, which may lie in order of classes.

    Returns:
        uint8 images (N, C, H, W), or int64 token ids (N, T); at most `count`, None: all.
    """
    import torch

    test = data.examples["test"]
    count = len(test) if count is None else min(count, len(test))
    inputs: Tensor = test.take(torch.arange(count) * len(test) // count).inputs
    return inputs.contiguous() if inputs.dtype == torch.uint8 else inputs.long()


def metadata(data: Data, raw: Tensor) -> dict[str, str]:
    """What a user of the file has to know: class names and input as JSON, and for text the tokenizer's JSON."""
    facts = data.preprocess()
    shape = {"dtype": str(raw.dtype).removeprefix("torch."), "shape": ["batch", *raw.shape[1:]]}
    tokenizer = {"tokenizer": facts["tokenizer"]} if "tokenizer" in facts else {}
    return {"class_names": json.dumps(facts["names"]), "input": json.dumps(shape), **tokenizer}


def export_network(network: nn.Module, raw: Tensor, *, format: str, about: Mapping[str, str]) -> bytes:  # noqa: A002
    """The content of the file.

    Raises:
        UserError: the model does something that cannot be exported, or that ties it to one batch size.
    """
    import torch

    # The file keeps its example: nobody's photo. Two, since torch.export takes a batch of one for a constant.
    example = torch.zeros_like(raw[:1]).repeat_interleave(2, 0)
    network.requires_grad_(False)  # else torch warns while it takes a network apart
    try:
        with torch.no_grad():
            network(example)  # what is made once, as constants of the normalisation are, is made in earnest
            program = torch.export.export(network, (example,), dynamic_shapes=({0: torch.export.Dim("batch", min=1)},))
        for node in program.graph.nodes:
            node.meta.pop("stack_trace", None)  # paths of this machine
        return _to_onnx(program, about) if format == "onnx" else _to_pt2(program, about)
    except Exception as error:  # it fails in as many ways as models can be written
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        gist = " ".join((str(cause).strip() or repr(cause)).split("\n\n")[0].split())
        raise UserError(f"{type(network.model).__name__} cannot be exported, format={format}: {gist}") from error


def _to_pt2(program: ExportedProgram, about: Mapping[str, str]) -> bytes:
    import torch

    buffer = io.BytesIO()
    torch.export.save(program, buffer, extra_files=dict(about))
    return buffer.getvalue()


def _to_onnx(program: ExportedProgram, about: Mapping[str, str]) -> bytes:
    import torch

    onnx = torch.onnx.export(
        program,
        dynamo=True,
        input_names=["input"],
        output_names=["probabilities"],
        dynamic_shapes=({0: "batch"},),  # the axis' name
        custom_translation_table={torch.ops.aten.sort.stable: _sort_stable},
        external_data=False,
        verbose=False,
    )
    assert onnx is not None
    for node in onnx.model.graph.all_nodes():
        node.metadata_props.clear()  # where each came from, with paths of this machine
    onnx.model.metadata_props.clear()
    onnx.model.metadata_props.update(about)
    content: bytes = onnx.model_proto.SerializeToString()
    return content


def _sort_stable(self: Any, stable: bool | None = None, dim: int = -1, descending: bool = False) -> tuple[Any, Any]:  # noqa: ARG001
    """aten::sort.stable, which torch's exporter lacks; of equal elements, ONNX's TopK puts the first one first."""
    from onnxscript import ir, opset18

    op: Any = opset18  # its annotations know no symbolic values
    size = op.Gather(op.Shape(self), op.Constant(value_ints=[dim]))
    numbers = op.Cast(self, to=ir.DataType.INT32) if self.dtype == ir.DataType.BOOL else self
    values, order = op.TopK(numbers, size, axis=dim, largest=int(descending), sorted=1)
    return op.CastLike(values, self), order


# ---- how it is checked


def load_export(file: Path, *, format: str) -> Network:  # noqa: A002
    """The network of an exported file, as a user of it would have it."""
    import torch

    content = file.read_bytes()  # an open file cannot be renamed everywhere
    if format == "torch":
        module: Network = torch.export.load(io.BytesIO(content)).module()
        return module
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return lambda raw: torch.from_numpy(session.run(["probabilities"], {"input": raw.numpy()})[0])


@dataclass(frozen=True)
class Comparison:
    """How far an exported file is from its checkpoint.

    largest: the largest absolute difference of a probability; not a number where one of them is none.
    differ: examples of which another class is the most probable.
    """

    examples: int
    largest: float
    differ: int

    def __str__(self) -> str:
        classes = f"{self.differ} get another class" if self.differ else "all get the same class"
        return f"largest difference of a probability on {self.examples} test examples: {self.largest:.1e}; {classes}"


def compare_export(file: Network, network: Network, batches: Sequence[Tensor]) -> Comparison:
    """Holds the probabilities of the exported file against those of the checkpoint's own network."""
    import torch

    with torch.no_grad():
        given, wanted = (torch.cat([run(batch) for batch in batches]) for run in (file, network))
    differ = int((given.argmax(1) != wanted.argmax(1)).sum())
    return Comparison(len(wanted), float((given - wanted).abs().max()), differ)


@contextmanager
def silence_export() -> Iterator[None]:
    """Without what torch and its exporters say about their own affairs; errors still come through."""
    loggers = [logging.getLogger(name) for name in NOISY_LOGGERS]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            for note in NOISE:
                warnings.filterwarnings("ignore", note)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
