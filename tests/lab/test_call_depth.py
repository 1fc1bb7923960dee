"""The count of functions on the stack knows this project's from a library's."""

import re
import sys
from pathlib import Path

import call_depth


def test_only_functions_of_the_folder_count_in_the_order_of_the_calls() -> None:
    here = Path(__file__).resolve().parent

    def inner() -> list[str]:
        return call_depth.own_functions(sys._getframe(), here)

    def outer() -> list[str]:
        return re.sub("x", lambda _: "\n".join(inner()), "x").splitlines()  # through another module's frame

    names = [name.split(".")[-1].split()[-1] for name in outer()]
    assert names == ["test_only_functions_of_the_folder_count_in_the_order_of_the_calls", "outer", "<lambda>", "inner"]
