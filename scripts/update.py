"""Merge a newer version of the template into this project.

    python scripts/update.py                    the newest version, from where the project was forked
    python scripts/update.py URL_OR_FOLDER      ... from elsewhere
    python scripts/update.py --version NAME     a tag or a branch of it

Runs the newer template's fork.py with the arguments that .template.toml records, commits the result on the branch
`template`, and merges that branch. Your edits stay, and so do your deletions; where both sides changed the same lines,
git reports a conflict. Every message names the command that undoes the update. Needs Python 3.11 and git.
"""

import argparse
import contextlib
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))  # not there under python -P or -I

from _git import AS_COMMITTED, Parser, UserError, git, identity, remove_folder, succeeds

ROOT = Path(__file__).resolve().parents[1]
RECORD = ".template.toml"
BRANCH = "template"
ENGINE = "src/train_smarter"


@dataclass(frozen=True)
class Record:
    origin: str
    commit: str
    arguments: list[str]


def main(argv: Sequence[str] | None = None, *, root: Path = ROOT) -> int:
    """Run the command; return its exit code."""
    args = _arguments(argv)
    try:
        check_ready(root)
        record = read_record(root, "HEAD")
        with temporary_folder() as folder:
            source = absolute(record.origin if args.source is None else args.source)
            clone = clone_template(source, folder / "new", root=root, version=args.version)
            if git(clone, "rev-parse", "HEAD") == record.commit:
                print(f"Already at the template's version {record.commit[:10]}: nothing to do.")
                return 0
            base = find_base(root) or make_base(root, record, clone, folder)
            arguments = [*record.arguments, "--for-update", source]
            new = make_version(root, clone, arguments, parent=base, folder=folder / "fork")
        return merge(root, base, new, record)
    except UserError as error:
        print(f"update.py: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("update.py: interrupted; git status shows whether a merge has begun", file=sys.stderr)
        return 130


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    head, _, usage = (__doc__ or "").partition("\n\n")
    form = argparse.RawDescriptionHelpFormatter
    parser = Parser(prog="update.py", description=head, epilog=usage, formatter_class=form, allow_abbrev=False)
    parser.add_argument("source", nargs="?", help="the template's address or folder (default: the recorded origin)")
    parser.add_argument("--version", metavar="NAME", help="a tag or a branch (default: the template's current branch)")
    return parser.parse_args(argv)


# ---- the project


def check_ready(root: Path) -> None:
    """Raise UserError unless everything is committed on a branch of yours."""
    if not succeeds(root, "rev-parse", "--verify", "HEAD"):
        git(root, "--version")  # reports a missing git first
        raise UserError(f"{root} is not a git repository with a commit: git init, git add --all, git commit")
    if Path(git(root, "rev-parse", "--show-toplevel")).resolve() != root.resolve():
        raise UserError(f"{root} is a folder inside another git repository: give the project a repository")
    if succeeds(root, "rev-parse", "--verify", "--quiet", "MERGE_HEAD"):
        raise UserError("a merge is not finished: git commit finishes it, git merge --abort undoes it")
    if changed := git(root, "status", "--porcelain", "--untracked-files=no").splitlines():
        names = ", ".join(line[3:] for line in changed[:3])
        raise UserError(f"uncommitted changes ({names}): git commit --all, or git stash, then type the command again")
    branch = git(root, "branch", "--show-current")
    if branch in ("", BRANCH):
        raise UserError(
            f"{branch or 'no branch'} is checked out: git switch to the branch that you work on, such as main"
        )


def read_record(root: Path, revision: str) -> Record:
    """Return what a revision records about its template."""
    try:
        content = tomllib.loads(git(root, "show", f"{revision}:{RECORD}"))
        return Record(str(content["origin"]), str(content["commit"]), [str(word) for word in content["arguments"]])
    except UserError:
        raise UserError(
            f"{RECORD} is not in this project: fork.py writes it. Fork the template, and copy your files into the fork"
        ) from None
    except (tomllib.TOMLDecodeError, KeyError, TypeError) as error:
        raise UserError(f"{RECORD} cannot be read ({error}): git log -- {RECORD} shows its versions") from error


# ---- the template


@contextlib.contextmanager
def temporary_folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="template-"))
    try:
        yield folder
    finally:
        remove_folder(folder)


def absolute(source: str) -> str:
    """Return a folder's absolute path; an address as it is."""
    local = Path(source).expanduser()
    return str(local.resolve()) if local.exists() else source


def clone_template(source: str, folder: Path, *, root: Path, version: str | None = None) -> Path:
    """Clone the template, and return the clone."""
    which = [f"--branch={version}"] if version else []
    try:
        git(root, *AS_COMMITTED, "clone", "--quiet", *which, "--", source, str(folder))
    except UserError as error:
        raise UserError(f"cannot clone the template: {error}. Type its address: update.py URL_OR_FOLDER") from None
    if not (folder / "scripts" / "fork.py").is_file():
        raise UserError(f"{source} has no scripts/fork.py: it is not the template. Type: update.py URL_OR_FOLDER")
    return folder


def make_version(root: Path, template: Path, arguments: Sequence[str], *, parent: str | None, folder: Path) -> str:
    """Fork the template's checkout into `folder`, and return a commit of this repository with these files."""
    command = [sys.executable, str(template / "scripts" / "fork.py"), str(folder), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf8", errors="replace")
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it failed"])[-1]
        raise UserError(f"the template's fork.py refuses: {last.removeprefix('fork.py: ')}")
    git(root, "fetch", "--quiet", "--no-tags", str(folder), "main")
    return commit_tree(root, git(root, "rev-parse", "FETCH_HEAD^{tree}"), parent, version_of(template))


def version_of(template: Path) -> str:
    return f"Template at {git(template, 'rev-parse', '--short=10', 'HEAD')}"


def commit_tree(root: Path, tree: str, parent: str | None, message: str) -> str:
    """Commit a tree without touching the checkout; return the commit."""
    parents = ["-p", parent] if parent else []
    return git(root, *identity(root), "commit-tree", tree, *parents, "-m", message)


# ---- the base: the version of the template that the project has now


def find_base(root: Path) -> str | None:
    """Return the template's commit in the project's history, or None if that is squashed or stale."""
    refs = git(root, "for-each-ref", "--format=%(refname)", f"refs/heads/{BRANCH}", f"refs/remotes/*/{BRANCH}")
    for ref in refs.splitlines():
        base = git(root, "merge-base", "HEAD", ref) if succeeds(root, "merge-base", "HEAD", ref) else ""
        if base and same_record(root, base):
            return base
    return None


def same_record(root: Path, commit: str) -> bool:
    """Return whether a commit is of the version that HEAD records."""
    there = succeeds(root, "rev-parse", "--verify", "--quiet", f"{commit}:{RECORD}")
    return there and git(root, "rev-parse", f"{commit}:{RECORD}") == git(root, "rev-parse", f"HEAD:{RECORD}")


def make_base(root: Path, record: Record, clone: Path, folder: Path) -> str:
    """Make the recorded version again, and return its commit."""
    print(f"The history has no commit of the template at {record.commit[:10]}: it is made again from {record.origin}")
    old = folder / "old"
    if succeeds(clone, "cat-file", "-e", f"{record.commit}^{{commit}}"):
        git(root, *AS_COMMITTED, "clone", "--quiet", "--", str(clone), str(old))
    else:
        clone_template(record.origin, old, root=root)
    if not succeeds(old, *AS_COMMITTED, "checkout", "--quiet", "--detach", record.commit):
        raise UserError(f"commit {record.commit} is not in {record.origin}: type the address of a template that has it")
    arguments = [*record.arguments, "--for-update", record.origin]
    return make_version(root, old, arguments, parent=None, folder=folder / "base")


# ---- the merge


def merge(root: Path, base: str, new: str, record: Record) -> int:
    """Merge the commit `new`, move the branch `template` to it, and report."""
    before = git(root, "rev-parse", "HEAD")
    undo = f"git reset --hard {before[:10]}"
    if not succeeds(root, "merge-base", "--is-ancestor", base, "HEAD"):
        join(root, base)
    git(root, "update-ref", f"refs/heads/{BRANCH}", new)
    message = f"Update the template from {record.commit[:10]} to {read_record(root, new).commit[:10]}"
    try:
        git(root, *identity(root), "merge", "--quiet", "--no-ff", "-m", message, new)
    except UserError as error:
        if not succeeds(root, "rev-parse", "--verify", "--quiet", "MERGE_HEAD"):
            git(root, "reset", "--quiet", "--keep", before)  # an untracked file in the way, a hook that refuses
            raise UserError(f"nothing was merged: {error}") from None
        if conflicts := keep_deletions(root):
            return report_conflicts(root, conflicts, undo)
        finish(root, undo)
    report(root, before, undo)
    return 0


def finish(root: Path, undo: str) -> None:
    """Commit the merge, whose conflicts are resolved."""
    try:
        git(root, *identity(root), "commit", "--quiet", "--no-edit")
    except UserError as error:
        raise UserError(
            f"merged, but not committed ({error}): git commit finishes the update, {undo} undoes it"
        ) from None


def join(root: Path, base: str) -> None:
    """Make `base` a parent of the current commit, without a change of any file: git then merges from there on."""
    tree = git(root, "rev-parse", "HEAD^{tree}")
    message = "Join the history of the template (no file changes)"
    commit = git(root, *identity(root), "commit-tree", tree, "-p", "HEAD", "-p", base, "-m", message)
    git(root, "reset", "--quiet", "--soft", commit)


def keep_deletions(root: Path) -> list[str]:
    """Resolve the conflicts over files that the project has deleted; return the files of the others."""
    stages: dict[str, set[str]] = {}
    for line in git(root, "ls-files", "--unmerged", "-z").split("\0"):
        if line:
            info, _, path = line.partition("\t")
            stages.setdefault(path, set()).add(info.split()[2])
    deleted = [path for path, found in stages.items() if found == {"1", "3"}]
    if deleted:
        git(root, "rm", "--quiet", "--force", "--", *deleted)
        print(f"Still deleted here, although the template changed it: {', '.join(sorted(deleted))}")
    return sorted(stages.keys() - set(deleted))


def report_conflicts(root: Path, conflicts: Sequence[str], undo: str) -> int:
    print("Both you and the template changed these files. Everything else is merged.", file=sys.stderr)
    for path in conflicts:
        gone = "" if (root / path).exists() else "  (deleted)"
        print(f"  {path}{gone}", file=sys.stderr)
    names = " ".join(f'"{path}"' if " " in path else path for path in conflicts)
    print(
        f"""In each, edit the lines between <<<<<<< and >>>>>>>. Then:
  git add {names}
  git commit --no-edit
Or use the template's version of a file:  git checkout --theirs -- FILE
Undo the update:  {undo}""",
        file=sys.stderr,
    )
    return 1


def report(root: Path, before: str, undo: str) -> None:
    print(f"Updated: {git(root, 'diff', '--shortstat', before, 'HEAD').strip() or 'no file changes'}")
    if git(root, "diff", "--name-only", BRANCH, "HEAD", "--", ENGINE):
        print(f"You have edited the engine. Your edits: git diff {BRANCH} -- {ENGINE}")
    if git(root, "diff", "--name-only", before, "HEAD", "--", "requirements.lock"):
        print("requirements.lock changed: make setup (or uv pip sync requirements.lock) updates the environment")
    print(f"Next: make test\nUndo the update:  {undo}")


if __name__ == "__main__":
    sys.exit(main())
