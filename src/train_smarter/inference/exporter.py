"""Export a network to ONNX or torch.export."""

from __future__ import annotations

import io
import json
import logging
import math
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from train_smarter.errors import UserError
from train_smarter.inference.predictor import CheckedNetwork, task_of
from train_smarter.inference.reader import split_batches

if TYPE_CHECKING:  # heavy: imported when a config has been composed and checked
    from collections.abc import Callable

    from lightning import LightningDataModule, LightningModule
    from torch import Tensor
    from torch.export import ExportedProgram

    from train_smarter.data.examples import Batch, Tree
    from train_smarter.task.base import Task

    Network = Callable[..., Any]
    EndToEnd = Any  # an nn.Module: the tensors of raw inputs -> {name: tensor}, or the tensor if there is only one

ONNX = ("onnx", "onnxruntime", "onnxscript")  # the extra's packages

# What torch says to itself while it exports and reads back.
NOISE = (
    "The tensor attributes .*_flat_weights.* were assigned during export",  # each LSTM keeps such a list
    "_check_is_size will be removed",
    "No complete tensor found in the group",  # said of weights that lie channels last; they are saved whole
    "The given buffer is not writable",
    "# The axis name: .* will not be used",  # of the second input, whose axis is that of the first
)
NOISY_LOGGERS = ("torch._export.serde.serialize", "torch.onnx", "onnxscript", "onnx_ir")


# ---- what is exported


def end_to_end(data: LightningDataModule, model: LightningModule, raw: Tree) -> EndToEnd:
    """The model with the preprocessing before it and the task's `predict` behind it.

    Args:
        raw: a few examples, as a user of the file has them.

    Raises:
        UserError: the inputs are not tensors, or the outputs do not fit the task.
    """
    import torch
    from torch import Tensor, nn
    from torch.utils._pytree import tree_flatten, tree_unflatten

    from train_smarter.data.examples import split_rows

    leaves, structure = tree_flatten(raw)
    if others := [type(leaf).__name__ for leaf in leaves if not isinstance(leaf, Tensor)]:
        raise UserError(f"an exported model takes tensors, but the inputs hold a {others[0]}; nothing is written")
    task = task_of(model)
    network = CheckedNetwork(task, model)

    def preprocess(leaves: Sequence[Tensor]) -> Any:
        return data.on_after_batch_transfer((tree_unflatten(leaves, structure), None), 0)[0]

    class Whole(nn.Module):
        def __init__(self, outputs: Mapping[str, Tensor]) -> None:
            super().__init__()
            self.model, self.decisions = model, task.decisions
            self.outputs = {name: _describe_rows(values) for name, values in outputs.items()}

        def forward(self, input: Tensor, *others: Tensor) -> Any:  # noqa: A002 (the name it has for the file's user)
            prediction = task.predict(model(preprocess([input, *others])))
            return prediction if len(prediction) > 1 else next(iter(prediction.values()))

    with torch.no_grad():
        few = tree_flatten(next(split_rows(raw, 2)))[0]
        outputs = network.predict(preprocess(few), len(few[0]))
    return Whole(outputs).eval()


def raw_examples(data: LightningDataModule, count: int | None, task: Task) -> Tree:
    """Test examples as a user of the file has them.

    Those of a `Data` are spread evenly over the split, which may be in the order of the classes; of another
    LightningDataModule they are the first.

    Returns:
        uint8 images (N, C, H, W), floats, or other integers as int64; or a dict or tuple of such tensors; at most
        `count`, None: all.
    """
    import torch

    from train_smarter.data.base import Data
    from train_smarter.data.examples import count_rows, map_tensors, read_rows

    if isinstance(data, Data):
        data.prepare_data()
        data.setup()
        inputs = data.examples["test"].inputs
        total = count_rows(inputs)
        count = total if count is None else min(count, total)
        inputs = read_rows(inputs, torch.arange(count) * total // count)
    else:
        inputs = _first_inputs(split_batches(data, "test", task), count)
    return map_tensors(_as_given, inputs)


def _first_inputs(batches: Iterable[Batch], count: int | None) -> Tree:
    import torch
    from torch.utils._pytree import tree_map

    from train_smarter.data.examples import count_rows, map_tensors

    collected: list[Tree] = []
    missing = math.inf if count is None else count
    for inputs, _ in batches:
        collected.append(inputs)
        missing -= count_rows(inputs)
        if missing <= 0:
            break
    if not collected:
        raise UserError("the test split is empty: an exported model is compared with its checkpoint on test examples")
    joined = tree_map(lambda *parts: torch.cat(parts) if isinstance(parts[0], torch.Tensor) else parts[0], *collected)
    return map_tensors(lambda part: part[:count], joined)


def _as_given(inputs: Tensor) -> Tensor:
    """Tensors of a data set as a user of the file has them: small integers save memory here alone."""
    import torch

    large = inputs.is_floating_point() or inputs.dtype in (torch.uint8, torch.bool)
    return inputs.contiguous() if large else inputs.long()


def input_names(raw: Tree) -> list[str]:
    """`input`, the keys of a dict, or `input_0`, `input_1`, ... of a tuple."""
    from torch.utils._pytree import SequenceKey, tree_flatten_with_path

    names = []
    for path, _ in tree_flatten_with_path(raw)[0]:
        parts = [str(getattr(entry, "key", getattr(entry, "idx", ""))) for entry in path]
        names.append("_".join(["input", *parts] if not path or isinstance(path[0], SequenceKey) else parts))
    return names


def metadata(data: LightningDataModule, raw: Tree, network: EndToEnd) -> dict[str, str]:
    """What a user of the file has to know as JSON: inputs, outputs, names, a table's columns, a text's tokenizer.

    Of interactions, names are `items` and `users`, by index, and `titles`.
    """
    from torch import Tensor
    from torch.utils._pytree import tree_leaves

    from train_smarter.data.base import Data

    leaves = zip(input_names(raw), tree_leaves(raw), strict=True)
    inputs = {name: _describe_rows(leaf, axes) for (name, leaf), axes in zip(leaves, dynamic_axes(raw), strict=True)}
    about = {"input": json.dumps(inputs["input"] if isinstance(raw, Tensor) else inputs)}
    about["outputs"] = json.dumps(network.outputs)
    facts = data.preprocess() if isinstance(data, Data) else {}
    if facts.get("names"):
        kind = "class_names" if getattr(data, "num_classes", None) is not None else "names"
        about["items" if "users" in facts else kind] = json.dumps(facts["names"])
    about |= {key: json.dumps(facts[key]) for key in ("columns", "users", "titles") if facts.get(key)}
    return about | ({"tokenizer": facts["tokenizer"]} if "tokenizer" in facts else {})


def dynamic_axes(raw: Tree) -> list[dict[int, str]]:
    """The axes of each input whose size a user of the file chooses, by name."""
    from train_smarter.data.interactions import is_histories
    from train_smarter.data.token_rows import is_tokens

    lengths = dict.fromkeys(raw, "tokens") if is_tokens(raw) else {"history": "items"} if is_histories(raw) else {}
    return [{0: "batch"} | ({1: lengths[name]} if name in lengths else {}) for name in input_names(raw)]


def _describe_rows(tensor: Tensor, axes: Mapping[int, str] = MappingProxyType({0: "batch"})) -> dict[str, Any]:
    shape = [axes.get(axis, size) for axis, size in enumerate(tensor.shape)]
    return {"dtype": str(tensor.dtype).removeprefix("torch."), "shape": shape}


def export_network(
    network: EndToEnd,
    raw: Tree,
    *,
    format: str,  # noqa: A002
    about: Mapping[str, str],
    max_length: int | None = None,
) -> bytes:
    """The content of the file.

    Args:
        max_length: tokens of a text, at most, where their number is the user's choice.

    Raises:
        UserError: the model does something that cannot be exported, or that ties it to one batch size.
    """
    import torch
    from torch.utils._pytree import tree_leaves

    # The file keeps its example: nobody's photo. Two, since torch.export takes a batch of one for a constant.
    example = tuple(torch.zeros_like(leaf[:1]).repeat_interleave(2, 0) for leaf in tree_leaves(raw))
    most = {"tokens": max_length}
    axes = dynamic_axes(raw)
    dims = {name: torch.export.Dim(name, min=1, max=most.get(name)) for each in axes for name in each.values()}
    shapes = _as_arguments([{axis: dims[name] for axis, name in each.items()} for each in axes])
    network.requires_grad_(False)  # else torch warns while it takes a network apart
    try:
        with torch.no_grad():
            network(*example)  # what is made once, as constants of the normalisation are, is made in earnest
            program = torch.export.export(network, example, dynamic_shapes=shapes)
        for node in program.graph.nodes:
            node.meta.pop("stack_trace", None)  # paths of this machine
        return _to_onnx(program, about, raw, network) if format == "onnx" else _to_pt2(program, about)
    except Exception as error:  # it fails in as many ways as models can be written
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        gist = " ".join((str(cause).strip() or repr(cause)).split("\n\n")[0].split())
        raise UserError(f"{type(network.model).__name__} cannot be exported, format={format}: {gist}") from error


def _as_arguments(values: Sequence[Any]) -> tuple[Any, ...]:
    """A value for each input as the arguments of `forward(input, *others)`."""
    return (values[0],) if len(values) == 1 else (values[0], tuple(values[1:]))


def _to_pt2(program: ExportedProgram, about: Mapping[str, str]) -> bytes:
    import torch

    buffer = io.BytesIO()
    torch.export.save(program, buffer, extra_files=dict(about))
    return buffer.getvalue()


def _to_onnx(program: ExportedProgram, about: Mapping[str, str], raw: Tree, network: EndToEnd) -> bytes:
    import torch

    outputs = list(network.outputs)
    inputs = [f"input_{name}" if name in outputs else name for name in input_names(raw)]  # ONNX has one set of names
    onnx = torch.onnx.export(
        program,
        dynamo=True,
        input_names=inputs,
        output_names=outputs,
        dynamic_shapes=_as_arguments(dynamic_axes(raw)),  # the names of the axes
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


# ---- the file that was written


def load_export(file: Path, *, format: str) -> Network:  # noqa: A002
    """The network of an exported file, as a user of it would have it: tensors -> {name: tensor}, or one tensor."""
    import torch

    content = file.read_bytes()  # an open file cannot be renamed everywhere
    if format == "torch":
        module: Network = torch.export.load(io.BytesIO(content)).module()
        return module
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    inputs, outputs = ([end.name for end in ends] for ends in (session.get_inputs(), session.get_outputs()))

    def run(*leaves: Tensor) -> Any:
        arrays = session.run(outputs, {name: leaf.numpy() for name, leaf in zip(inputs, leaves, strict=True)})
        tensors = {name: torch.from_numpy(array) for name, array in zip(outputs, arrays, strict=True)}
        return tensors if len(tensors) > 1 else tensors[outputs[0]]

    return run


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
