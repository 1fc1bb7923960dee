"""Which weights of a model train, from which epoch on, and how fast.

A network is a list of blocks, from its inputs to its outputs, in the order in which its layers are defined. The last
one is the head.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.optim import Optimizer

from train_smarter.errors import UserError

CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


@dataclass
class Block:
    """Layers that are frozen together and share a learning rate.

    modules: with all modules in them; those of a container are blocks of their own.
    """

    name: str
    modules: list[nn.Module]
    parameters: list[nn.Parameter]


class FineTuning:
    """Freezes blocks, unfreezes them at an epoch, and makes the optimizer's parameter groups.

    Args:
        freeze: "none"; "backbone", all but the head; or N, the first N blocks. False and True of older checkpoints are
            "none" and "backbone".
        unfreeze_epoch: the first epoch, from 0, in which frozen weights train, too; None: never.
        layer_decay: factor on the learning rate from a block to the one before it.
        decay_norms: False: no weight decay on parameters of one dimension, which norms and biases have.
    """

    def __init__(
        self,
        *,
        freeze: str | int = "none",
        unfreeze_epoch: int | None = None,
        layer_decay: float = 1.0,
        decay_norms: bool = True,
    ) -> None:
        names = {False: "none", True: "backbone"}
        self.freeze = names[freeze] if isinstance(freeze, bool) else freeze
        self.unfreeze_epoch, self.layer_decay, self.decay_norms = unfreeze_epoch, layer_decay, decay_norms
        self._modules: list[nn.Module] = []
        self._parameters: list[nn.Parameter] = []  # frozen here; what a model froze by itself stays frozen

    def start(self, model: nn.Module) -> str | None:
        """Freeze; return what was frozen, for the log."""
        blocks = self._blocks_to_freeze(model)
        self._modules = [module for block in blocks for module in block.modules if _has_state(module)]
        self._parameters = [p for block in blocks for p in block.parameters if p.requires_grad]
        for parameter in self._parameters:
            parameter.requires_grad_(False)
        if not blocks:
            return None
        count = sum(parameter.numel() for parameter in self._parameters)
        until = "" if self.unfreeze_epoch is None else f", until epoch {self.unfreeze_epoch}"
        ends = blocks[0].name if len(blocks) == 1 else f"{blocks[0].name} to {blocks[-1].name}"
        total = len(split_blocks(model))
        return f"frozen: {len(blocks)} of {total} blocks, {ends} ({count:,} parameters){until}"

    def start_epoch(self, epoch: int) -> bool:
        """Keep the statistics of frozen norms, or unfreeze; return whether this call has unfrozen weights."""
        due = self.unfreeze_epoch is not None and epoch >= self.unfreeze_epoch and bool(self._modules)
        for module in self._modules:
            module.training = due  # dropout has no state, and still drops
        for parameter in self._parameters if due else ():
            parameter.requires_grad_(True)
        if due:
            self._modules, self._parameters = [], []
        return due

    def groups(self, model: nn.Module) -> list[Any]:
        """What the optimizer gets: parameters, or groups of them with their own learning rate and weight decay.

        Frozen weights that train later are among them from the start, so that schedules and checkpoints know them.
        """
        later = {id(p) for p in self._parameters} if self.unfreeze_epoch is not None else set()
        trained = [p for p in model.parameters() if p.requires_grad or id(p) in later]
        if self.layer_decay == 1 and self.decay_norms:
            return trained
        groups: dict[tuple[str, bool], dict[str, Any]] = {}
        chosen = {id(p) for p in trained}
        for name, factor, parameters in self._rates(model):
            for parameter in parameters:
                if id(parameter) not in chosen:
                    continue
                plain = parameter.ndim <= 1 and not self.decay_norms
                title = f"{name}, no weight decay" if plain else name
                group = {"params": [], "name": title, "lr_factor": factor} | ({"weight_decay": 0.0} if plain else {})
                groups.setdefault((name, plain), group)["params"].append(parameter)
        return list(groups.values())

    def _rates(self, model: nn.Module) -> Iterator[tuple[str, float, list[nn.Parameter]]]:
        """Name, factor on the learning rate, and parameters of each block; the head, whose factor is 1, first."""
        if self.layer_decay == 1:
            yield "weights", 1.0, list(model.parameters())
            return
        for distance, block in enumerate(reversed(split_blocks(model))):
            yield block.name, self.layer_decay**distance, block.parameters

    def _blocks_to_freeze(self, model: nn.Module) -> list[Block]:
        if self.freeze == "none":
            return []
        *body, _ = split_blocks(model)
        if self.freeze == "backbone":
            return body
        number = self.freeze
        if not isinstance(number, int) or not 0 <= number <= len(body):
            numbered = ", ".join(f"{place} {block.name}" for place, block in enumerate(body, 1))
            raise UserError(
                f"model.freeze={number}: give none, backbone, or how many of the blocks before the head of "
                f"{type(model).__name__}, 0 to {len(body)}: {numbered}"
            )
        return body[:number]


def set_rates(optimizer: Optimizer) -> None:
    """Multiply the learning rate of each group by its `lr_factor`, which an optimizer does not know."""
    for group in optimizer.param_groups:
        group["lr"] *= group.pop("lr_factor", 1.0)


def split_blocks(model: nn.Module) -> list[Block]:
    """The blocks of a model in the order of its modules; the last one is the head.

    The head is all that is not in `model.backbone`, where there is one, else the last layer with parameters. Layers of
    containers, and of modules that hold a row of modules of one kind (the layers of a transformer), are blocks of their
    own; a norm belongs to the block before it.
    """
    head = _head(model)
    apart = {id(module) for module in head.modules}
    known = {id(parameter) for parameter in head.parameters}
    blocks: list[Block] = []
    loose: list[tuple[nn.Module, list[nn.Parameter]]] = []  # parameters of containers: of the inputs, usually
    for name, module, whole in _walk(model, "", apart):
        parts = [part for part in (module.modules() if whole else [module]) if id(part) not in apart]
        found = [p for part in parts for p in part.parameters(recurse=False) if id(p) not in known]
        known |= {id(parameter) for parameter in found}
        if not whole:
            loose.append((module, found))
        elif blocks and _is_norm(module):
            blocks[-1].modules += parts
            blocks[-1].parameters += found
        elif found:
            blocks.append(Block(name, parts, found))
    for module, found in [(module, found) for module, found in loose if found]:
        if not blocks:
            blocks.append(Block(type(module).__name__, [], []))
        blocks[0].modules.append(module)
        blocks[0].parameters[:0] = found
    return [*blocks, head]


def _head(model: nn.Module) -> Block:
    backbone = getattr(model, "backbone", None)
    if isinstance(backbone, nn.Module):
        others = {name: child for name, child in model.named_children() if child is not backbone and _has_state(child)}
        inside = {id(parameter) for parameter in backbone.parameters()}
        parameters = [p for child in others.values() for p in child.parameters() if id(p) not in inside]
        if parameters:
            return Block(", ".join(others), [m for child in others.values() for m in child.modules()], parameters)
    layers = [(name, m) for name, m in model.named_modules() if any(True for _ in m.parameters(recurse=False))]
    if not layers:
        return Block("head", [], [])
    name, last = layers[-1]
    return Block(name or type(model).__name__, [last], list(last.parameters(recurse=False)))


def _walk(module: nn.Module, name: str, apart: set[int]) -> Iterator[tuple[str, nn.Module, bool]]:
    """Blocks, and containers for the parameters of their own, with their names; True: with all modules in it."""
    if id(module) in apart:
        return
    if name and name != "backbone" and not _is_container(module):
        if _has_state(module):
            yield name, module, True
        return
    yield name, module, False
    for child, part in module.named_children():
        yield from _walk(part, f"{name}.{child}" if name else child, apart)


def _is_container(module: nn.Module) -> bool:
    return type(module) in CONTAINERS or any(_is_row(part) for part in module.modules())


def _is_row(module: nn.Module) -> bool:
    """Whether a module holds several modules of one kind, each with separate layers."""
    if not isinstance(module, CONTAINERS):
        return False
    children = [child for child in module.children() if next(child.parameters(), None) is not None]
    first = children[0] if children else None
    alike = len(children) > 1 and len({type(child) for child in children}) == 1
    return alike and not isinstance(first, nn.Sequential) and any(True for _ in first.children())  # type: ignore[union-attr]


def _is_norm(module: nn.Module) -> bool:
    return "Norm" in type(module).__name__ and not any(True for _ in module.children())


def _has_state(module: nn.Module) -> bool:
    return next(module.parameters(), None) is not None or next(module.buffers(), None) is not None
