"""The pages that a fork gets instead of the template's. They depend on the name alone: the same today and next year."""

import re

RECORD = ".template.toml"


def title(name: str) -> str:
    """Return a name as a heading: my_flowers -> My Flowers."""
    return " ".join(word.capitalize() for word in name.split("_"))


def licence(text: str, name: str) -> str:
    """Add the new authors below those whose notice the licence requires to be kept."""
    notice = f"Copyright (c) The {title(name)} authors\n"
    return re.sub(r"^(Copyright .*\n)(?!Copyright)", rf"\1{notice}", text, count=1, flags=re.M)


def record(origin: str, commit: str, arguments: list[str]) -> str:
    """Return the file from which update.py knows where the fork comes from."""
    quoted = ", ".join(_quote(word) for word in arguments)
    return f"""# The version of the template in this project. scripts/update.py reads and writes it: do not edit it.
origin = {_quote(origin)}
commit = "{commit}"
arguments = [{quoted}]
"""


def _quote(text: str) -> str:
    """Return a TOML string."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def readme(name: str) -> str:
    return README.format(title=title(name), name=name)


README = """# {title}

A deep learning project: PyTorch Lightning trains, Hydra composes every run from `conf/`, Optuna searches
hyperparameters, TensorBoard shows the curves.

## Start

With Python 3.11 to 3.13 and `make`:

```bash
make train  # builds .venv from requirements.lock, then trains the default of conf/train.yaml
make test   # the tests
make help   # the other commands
```

Without make: `uv venv && uv pip sync requirements.lock && uv pip install --no-deps -e .`
Then `source .venv/bin/activate` (on Windows `.venv\\Scripts\\activate`) gives the commands below, from any folder.

## Train

```bash
train optimizer.lr=0.01 trainer.max_epochs=20    # override any value of conf/
train --help                                     # the choices of each group: data, model, optimizer, ...
train data=images data.dir=path/to/folder model=NAME  # a folder of images for each class
train -m seed=1,2,3                              # several runs; search=NAME searches
report                                           # past runs; report run=last for one of them
evaluate run=last                                # also predict, export-model
train resume=last                                # continue an interrupted run
tensorboard --logdir logs
```

## Add a data set or a model

```bash
python scripts/scaffold.py add data NAME         # also model, callback, experiment, search, ...
python scripts/scaffold.py remove NAME
```

| where | what |
|---|---|
| `src/{name}/` | yours: a file for each data set, model, task and callback |
| `conf/` | yours: `conf/<group>/<choice>.yaml`; `conf/train.yaml` names the defaults |
| `tests/{name}/` | yours; the tests above it check every data set and model that they find |
| `src/train_smarter/` | the engine: used, not edited, so that an update can replace it |
| `docs/` | the engine: [guide](docs/guide.md), [own data](docs/own_data.md), [large data](docs/large_data.md), \
[Hugging Face](docs/huggingface.md), [diagnosis](docs/diagnosis.md), [security](docs/security.md) |
| `data/`, `logs/` | data sets and runs, not tracked by git |

## Update the engine

```bash
python scripts/update.py                         # merges a newer version of the template; or: update.py URL
git diff template -- src/train_smarter           # your edits of the engine
```
"""

# A fork without a default data set and model: tests that compose the default run have nothing to compose.
CONFTEST = '''"""The contract tests run as soon as conf/train.yaml names a default data set and a default model."""

from pathlib import Path

ROOT = Path(__file__).parent
NO_DEFAULT = ": ???" in (ROOT / "conf" / "train.yaml").read_text(encoding="utf8").partition("\\n\\n")[0]

collect_ignore = ["tests/test_contract.py", "tests/test_runs.py"] if NO_DEFAULT else []


def pytest_report_header() -> list[str]:
    return ["no contract tests: set data and model in the defaults of conf/train.yaml"] if NO_DEFAULT else []
'''
