"""Names of weights in files of other programs."""

import torch
from torch import Tensor

from train_smarter.fit.weight_names import match_names, report


def weights(**sizes: tuple[int, ...]) -> dict[str, Tensor]:
    return {name.replace("__", "."): torch.zeros(size) for name, size in sizes.items()}


OWN = weights(
    backbone__conv__weight=(4, 3), backbone__conv__bias=(4,), backbone__fc__weight=(5, 4), head__weight=(2, 4)
)


def test_what_wrappers_put_in_front_of_names_does_not_count() -> None:
    for prefix in ("", "module.", "_orig_mod.", "module._orig_mod.", "model.backbone.", "net."):
        given = {f"{prefix}{name}": torch.zeros(size) for name, size in (("conv.weight", (4, 3)), ("conv.bias", (4,)))}
        assert match_names(given, OWN) == {
            "backbone.conv.weight": f"{prefix}conv.weight",
            "backbone.conv.bias": f"{prefix}conv.bias",
        }


def test_a_compiled_part_of_a_network_has_its_own_name() -> None:
    given = {"conv._orig_mod.weight": torch.zeros(4, 3)}
    assert match_names(given, OWN) == {"backbone.conv.weight": "conv._orig_mod.weight"}


def test_the_same_names_are_matched_as_they_are() -> None:
    assert match_names(OWN, OWN) == {name: name for name in OWN}


def test_a_name_that_agrees_where_the_shape_does_not_is_a_pair_too() -> None:
    given = weights(conv__weight=(4, 3), fc__weight=(9, 9))
    assert match_names(given, OWN)["backbone.fc.weight"] == "fc.weight"


def test_the_report_names_what_was_not_loaded_and_why() -> None:
    given = weights(conv__weight=(4, 3), fc__weight=(9, 9), other__weight=(1,))
    own = {**OWN, "backbone.bn.num_batches_tracked": torch.zeros(()), "task.mean": torch.zeros(1)}
    lines = report(["backbone.conv.weight"], own, given, match_names(given, own))
    assert lines == [
        "  of another shape: backbone.fc.weight 5x4, in the file 9x9",
        "  not in the file, so at random: backbone.conv.bias, head.weight",
        "  in the file alone: other.weight",
    ]
