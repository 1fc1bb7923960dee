"""Start a project from this template: the engine, the configs, and the examples that you keep.

    python scripts/fork.py ../flowers --name flowers                    keeps the examples digits, cnn and mlp
    python scripts/fork.py ../flowers --name flowers --keep cifar10,cnn  keeps these, and what they need
    python scripts/fork.py ../flowers --name flowers --keep all
    python scripts/fork.py ../flowers --name flowers --bare             keeps none

The project's package gets the name; the engine, train_smarter, keeps its own. The new folder is a git repository with
one commit. Its branch `template` stays at that commit, and scripts/update.py merges newer versions through it.
Needs Python 3.11 and git, and nothing else.
"""

import argparse
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))  # not there under python -P or -I

from _git import Parser, UserError, git, identity, remove_folder
from forking import pages
from forking.checks import check_name, check_target
from forking.content import Content
from forking.examples import DEFAULT, MISSING, Choice, Examples
from forking.template import File, Files, Template, read, uncommitted, without_credentials

ROOT = Path(__file__).resolve().parents[1]
BRANCH = "template"  # the template's versions, one commit each


def main(argv: Sequence[str] | None = None, *, root: Path = ROOT) -> int:
    """Run the command; return its exit code."""
    args = _arguments(argv)
    target = Path(args.target).expanduser().resolve()
    name = target.name if args.name is None else args.name
    try:
        template = read(root)
        if not args.for_update:  # the name of a fork that exists already is right
            check_name(name, template)
        check_target(target, root=root)
        examples = Examples(template)
        keep = _names(args, examples)
        kept = examples.select(keep, skip_unknown=args.for_update is not None)
        content = Content(template, name, examples, kept)
        defaults = examples.default_pair(kept, keep)
        files = content.make(defaults, engine_tests=args.engine_tests)
        files[pages.RECORD] = File(_record(template, name, args, keep).encode())
        write(files, target, message=f"Start {pages.title(name)} from the template at {template.commit[:10]}")
    except UserError as error:
        print(f"fork.py: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("fork.py: interrupted: nothing is left of the fork", file=sys.stderr)
        return 130
    _report(content, files, target, args, uncommitted(root), defaults)
    return 0


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    head, _, usage = (__doc__ or "").partition("\n\n")
    form = argparse.RawDescriptionHelpFormatter
    parser = Parser(prog="fork.py", description=head, epilog=usage, formatter_class=form, allow_abbrev=False)
    parser.add_argument("target", help="the new project's folder: empty, or not there yet")
    parser.add_argument("--name", help="the new package, e.g. flowers (default: the folder's name)")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--keep", metavar="NAMES", help="examples to keep: data sets, models, experiments; or all")
    which.add_argument("--bare", action="store_true", help="keep no example: an empty project package")
    parser.add_argument("--engine-tests", action="store_true", help="copy the engine's tests, too")
    # From update.py: records this origin, and skips examples that a newer template no longer has.
    parser.add_argument("--for-update", metavar="ORIGIN", help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def _names(args: argparse.Namespace, examples: Examples) -> list[str]:
    """Return the names of --keep, --bare or the default."""
    if args.bare:
        return []
    if args.keep is None:
        return [name for name in DEFAULT if name in examples.names()]
    names = [name for name in args.keep.replace(",", " ").split() if name]
    if not names:
        raise UserError(
            f"--keep names no example: use --bare to keep none, or name some of {', '.join(examples.names())}"
        )
    return examples.names() if names == ["all"] else names


def _record(template: Template, name: str, args: argparse.Namespace, keep: Sequence[str]) -> str:
    kept = "all" if args.keep == "all" else ",".join(keep)
    arguments = ["--name", name, *(["--keep", kept] if kept else ["--bare"])]
    arguments += ["--engine-tests"] if args.engine_tests else []
    origin = without_credentials(args.for_update or template.origin)
    return pages.record(origin, template.commit, arguments)


def write(files: Files, target: Path, *, message: str) -> None:
    """Write the files into `target` and commit them; leave nothing behind if that fails or is interrupted."""
    made = [folder for folder in (target, *target.parents) if not folder.exists()]
    try:
        for path, file in files.items():
            (target / path).parent.mkdir(parents=True, exist_ok=True)
            (target / path).write_bytes(file.content)
            if file.executable:
                (target / path).chmod(0o755)
        _commit(target, [path for path, file in files.items() if file.executable], message)
    except BaseException as error:
        _undo(target, made)
        if isinstance(error, OSError):
            raise UserError(f"cannot write to {target}: {error.strerror or error}") from error
        raise


def _commit(target: Path, executable: Sequence[str], message: str) -> None:
    git(target, "init", "--quiet", "--initial-branch=main")
    git(target, "add", "--all", "--force")  # --force: conf/local/.gitkeep and the like, whatever the user ignores
    if executable:
        git(target, "update-index", "--chmod=+x", *executable)  # Windows has no such bit on disk
    git(target, *identity(target), "commit", "--quiet", f"--message={message}")
    git(target, "branch", BRANCH)


def _undo(target: Path, made: Sequence[Path]) -> None:
    """Remove the folders that were made, or empty the one that was there."""
    if made:
        remove_folder(target)
        for folder in made[1:]:
            shutil.rmtree(folder, ignore_errors=True)
    else:
        for path in target.iterdir():
            if path.is_dir():
                remove_folder(path)
            else:
                path.unlink()


def _report(
    content: Content,
    files: Files,
    target: Path,
    args: argparse.Namespace,
    changed: Sequence[str],
    defaults: dict[str, str],
) -> None:
    if changed:
        more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
        print(f"Not in the fork, as it is not committed: {', '.join(changed[:3])}{more}")
    for test, name in sorted(content.left_out.items()):
        print(f"Left out {test}: it needs {name}")
    print(f"{pages.title(content.name)}: {len(files)} files in {target}, committed.")
    print(f"Examples: {_listing(content.kept) or 'none'}")
    print(f"Next:\n  cd {shlex.quote(args.target)}")
    if MISSING in defaults.values():
        print("  python scripts/scaffold.py add data NAME     # a data set of yours, ready to edit")
        print("  python scripts/scaffold.py add model NAME    # a model of yours")
        print("  then name both under `defaults:` in conf/train.yaml")
    print("  make test   # builds its environment first\n  make train")


def _listing(kept: set[Choice]) -> str:
    return ", ".join(f"{choice.group}={choice.name}" for choice in sorted(kept))


if __name__ == "__main__":
    sys.exit(main())
