"""Print the functions of this project on the stack from the command to the loss: how many are there?

python lab/call_depth.py [overrides of train]
"""

import runpy
import sys
import tempfile
from pathlib import Path
from types import FrameType
from typing import Any

SOURCE = Path(__file__).resolve().parents[1] / "src"


def own_functions(frame: FrameType | None, source: Path) -> list[str]:
    """The functions in `source` that a frame was called through, the outermost first."""
    found: list[str] = []
    while frame is not None:
        code, file = frame.f_code, Path(frame.f_code.co_filename)
        if file.is_relative_to(source) and code.co_name != "<module>":
            found.insert(0, f"{file.relative_to(source)}:{code.co_firstlineno} {code.co_qualname}")
        frame = frame.f_back
    return found


class LossReachedError(BaseException):
    """Ends the run at the first call of a task's loss; not an Exception, which the engine might handle."""


def stop_at_loss(frame: FrameType, event: str, _: Any) -> None:
    if event != "call" or frame.f_code.co_name != "loss":
        return
    stack = own_functions(frame, SOURCE)
    if any("training_step" in name for name in stack):  # not the loss of the diagnosis' probes
        sys.setprofile(None)
        raise LossReachedError("\n".join(stack))


def main() -> None:
    with tempfile.TemporaryDirectory() as logs:
        sys.argv[1:] = ["trainer=cpu", "report=false", "callbacks.progress=null", *sys.argv[1:], f"paths.logs={logs}"]
        sys.setprofile(stop_at_loss)
        try:
            runpy.run_module("train_smarter.commands.train", run_name="__main__")
        except LossReachedError as stack:
            names = str(stack).splitlines()
            print(*names, f"{len(names)} functions", sep="\n")


if __name__ == "__main__":
    main()
