"""Adds a choice to this project, as a small example that works, or removes one with all that belongs to it.

    python scripts/scaffold.py add data flowers          # train data=flowers
    python scripts/scaffold.py add model tiny            # train model=tiny
    python scripts/scaffold.py add task focal            # train task=focal
    python scripts/scaffold.py remove digits

Needs Python alone. Edits nothing but conf/train.yaml: when its default is removed, or missing (`???`).
"""

import argparse
import builtins
import contextlib
import importlib.util
import keyword
import re
import sys
import tomllib
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

import scaffold_config as config
from scaffold_config import Project, ScaffoldError
from scaffold_files import Plan, apply, equals, is_committed

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = Path(__file__).resolve().parent / "examples"
ENTRY_POINTS = "train_smarter.project"  # the group in which pyproject.toml names the package
CODE = ("data", "model", "task", "callbacks")  # groups whose choice has a module in src/<package>/
KINDS = ("image", "text")
CHOICES = ("optimizer", "scheduler", "trainer", "experiment", "search", "logger", "debug")  # a YAML file each
RESERVED = {"none", "default", "true", "false", "null", "yes", "no", "on", "off"}  # words of Hydra, YAML and the tests
DEVICES = {"con", "prn", "aux", "nul", *(f"{port}{number}" for port in ("com", "lpt") for number in range(1, 10))}


def main(argv: Sequence[str] | None = None, *, root: Path = ROOT) -> int:
    """Run the command; return its exit code."""
    args = parser().parse_args(argv)
    try:
        project = find_project(root)
        if args.command == "add":
            group = group_of(args.group)
            plan = plan_addition(project, group, args.name, kind=args.kind)
        else:
            group, name = find_choice(project, args.words)
            plan = plan_removal(project, group, name, force=args.force)
            report = describe_removal(project, plan)
        if not args.dry_run:
            apply(plan, root=project.root)
        if args.command == "add":
            report = describe_addition(project, group, args.name, plan)
    except ScaffoldError as error:
        print(f"scaffold.py: {error}", file=sys.stderr)
        return 2
    print(("Nothing was changed; without --dry-run:\n" if args.dry_run else "") + report)
    return 0


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        description=(__doc__ or "").split("\n\n")[0],
        epilog="Examples:\n" + (__doc__ or "").split("\n\n")[1],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = top.add_subparsers(dest="command", required=True)
    groups = f"{', '.join(name.removesuffix('s') for name in CODE)}; or a config alone: {', '.join(CHOICES)}"
    add = commands.add_parser("add", help="write a small example that works: a .py and a .yaml, or a .yaml alone")
    add.add_argument("group", help=groups)
    add.add_argument("name", help="what you will type: `flowers` for data=flowers")
    add.add_argument("--kind", choices=KINDS, help="of a data set or a model; image if not given")
    remove = commands.add_parser(
        "remove", help="delete a choice with its code, its tests, and the experiments and searches that name it"
    )
    remove.add_argument("words", nargs="+", metavar="[group] name", help="the group may be left out if it is clear")
    remove.add_argument("--force", action="store_true", help="delete work that git has not committed, too")
    for each in (add, remove):
        each.add_argument("--dry-run", action="store_true", help="print what would change, and change nothing")
    return top


def find_project(root: Path) -> Project:
    """Read the package's name from pyproject.toml."""
    file = root / "pyproject.toml"
    try:
        content = tomllib.loads(file.read_text(encoding="utf8"))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise ScaffoldError(f"{file} cannot be read ({error}): the package's name is in it") from None
    named = content.get("project", {}).get("entry-points", {}).get(ENTRY_POINTS, {})
    if len(named) != 1:
        raise ScaffoldError(
            f'{file} names {len(named)} packages under [project.entry-points."{ENTRY_POINTS}"]: give one line, '
            'for example project = "my_project"'
        )
    project = Project(root, str(next(iter(named.values()))))
    for folder in (project.source, project.conf):
        if not folder.is_dir():
            raise ScaffoldError(f"{folder} is missing: {file} names the package {project.package}")
    return project


def group_of(given: str) -> str:
    """Return the folder in conf/ for what was typed."""
    known = (*CODE, *CHOICES)
    names = {name.removesuffix("s"): name for name in known} | {name: name for name in known}
    if given not in names:
        raise ScaffoldError(f"{given!r} is not a group: give one of {', '.join(known)}{nearest(given, [*names])}")
    return names[given]


def nearest(given: str, known: Sequence[str]) -> str:
    close = get_close_matches(given, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


# ---- add


def plan_addition(project: Project, group: str, name: str, *, kind: str | None) -> Plan:
    """Return the files of a new choice."""
    if kind and group not in ("data", "model"):
        raise ScaffoldError(f"--kind={kind} is for data and model: leave it out for {group}")
    check_name(project, group, name)
    files = render(project, group, name, kind=kind or KINDS[0])
    return Plan(write=files, edit=config.filled_default(project.conf, group, name))


def check_name(project: Project, group: str, name: str) -> None:
    """Raise ScaffoldError unless `name` can be a new choice of `group`."""
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,39}", name):
        usable = re.sub(r"[^a-z0-9]+", "_", name.removesuffix(".py").removesuffix(".yaml").lower()).strip("_")[:40]
        hint = f"; for example {usable}" if re.match("[a-z]", usable) else ""
        raise ScaffoldError(f"{name!r} is not a name: give up to 40 small letters, digits and _, a letter first{hint}")
    if keyword.iskeyword(name) or name in RESERVED | DEVICES:
        raise ScaffoldError(f"{name} is a reserved word: choose another name, for example my_{name}")
    for path in (project.config(group, name), project.module(group, name), project.source / group / name):
        if path.exists():
            raise ScaffoldError(
                f"{name} is in use: {project.short(path)} exists. Choose another name, or edit that file"
            )
    if group in CODE and hides_module(project, name):
        raise ScaffoldError(f"{name} would hide the module {name}: choose another name, for example my_{name}")


def hides_module(project: Project, name: str) -> bool:
    """Whether `import <name>` finds something, here or in an environment with this project's dependencies."""
    if name in {
        project.package,
        ENTRY_POINTS.partition(".")[0],
        *sys.stdlib_module_names,
        *config.imported(project.root),
    }:
        return True
    scripts = str(Path(__file__).resolve().parent)
    found = importlib.util.find_spec(name)
    return found is not None and not str(found.origin).startswith(scripts)


def render(project: Project, group: str, name: str, *, kind: str) -> dict[Path, str]:
    """Return the text of each file of a new choice."""
    stem = f"{group}_{kind}" if group in ("data", "model") else group
    data, model = (config.default(project.conf, each) for each in ("data", "model"))
    code = read_example(f"{stem}.py") if group in CODE else ""
    words = {"placeholder": name, "Placeholder": class_name(name, group, code)}
    words |= {"your_package": project.package, "your_data": data, "your_model": model}
    files = {project.module(group, name): code} if code else {}
    files[project.config(group, name)] = read_example(f"{stem}.yaml")
    found = re.compile(rf"\b({'|'.join(words)})\b")
    return {file: found.sub(lambda match: words[match[0]], text) for file, text in files.items()}


def read_example(name: str) -> str:
    try:
        return (EXAMPLES / name).read_text(encoding="utf8")
    except OSError as error:
        raise ScaffoldError(f"{EXAMPLES / name} cannot be read ({error}): restore it with git") from None


def class_name(name: str, group: str, code: str) -> str:
    """my_flowers -> MyFlowers; MyFlowersData where the example uses that word otherwise."""
    title = "".join(part.capitalize() for part in name.split("_"))
    if re.search(rf"\b{title}\b", code) or hasattr(builtins, title):
        return title + group.removesuffix("s").capitalize()
    return title


def describe_addition(project: Project, group: str, name: str, plan: Plan) -> str:
    """Return the report of an addition: the files, and what to type."""
    files = [f"  {project.short(file)}" for file in plan.write]
    files += [f"  {project.short(file)}: the default is now {group}: {name}" for file in plan.edit]
    typed = {
        "callbacks": f'train "callbacks=[default,{name}]"',
        "search": f"train -m search={name}",
        "logger": f'train "logger=[tensorboard,{name}]"',
    }.get(group, f"train {group}={name}")
    if group in ("data", "model"):
        typed += config.partner(project.conf, group, name)
    first = [f"{typed} debug=fdr   # one batch through everything"] if group in CODE else [f"{typed} --cfg job"]
    steps = [
        *first,
        typed,
        "make test ARGS=tests/test_contract.py   # what every choice has to meet",
    ]
    return "\n".join(["Written:", *files, "Next, edit them and type:", *(f"  {step}" for step in steps)])


# ---- remove


def find_choice(project: Project, words: Sequence[str]) -> tuple[str, str]:
    """Return the group and the name of the choice to remove."""
    if len(words) > 2:
        raise ScaffoldError(f"{' '.join(words)}: give one name, and its group if need be: remove data digits")
    name = words[-1]
    groups = [group_of(words[0])] if len(words) == 2 else [*CODE, *CHOICES]
    choices = {group: config.choices(project.conf, group) for group in groups}
    found = [group for group in groups if name in choices[group] and name not in RESERVED]
    if not found:
        known = sorted({each for names in choices.values() for each in names} - RESERVED)
        where = f" in conf/{groups[0]}" if len(groups) == 1 else ""
        raise ScaffoldError(f"there is no choice {name!r}{where}: give one of {', '.join(known)}{nearest(name, known)}")
    if len(found) > 1:
        typed = " or ".join(f"remove {group} {name}" for group in found)
        raise ScaffoldError(f"{name} is a choice of {' and of '.join(found)}: type {typed}")
    return found[0], name


def plan_removal(project: Project, group: str, name: str, *, force: bool) -> Plan:
    """Return the files to delete, and the defaults to change."""
    module = project.module(group, name)
    if group in ("data", "model") and not module.is_file():
        raise ScaffoldError(
            f"{group}={name} is the engine's, which an update restores: only what has code in "
            f"{project.short(project.source)} can be removed"
        )
    named = config.names(project.conf, group, name)
    check_unused(project, group, name, named)
    gone = {group: {name}}
    delete = [module, project.config(group, name), project.test(group, name)]
    for kind in ("experiment", "search"):
        gone[kind] = gone.get(kind, set()) | config.dependents(project.conf, kind, gone)
        delete += [make(kind, each) for each in sorted(gone[kind]) for make in (project.config, project.test)]
    delete = [path for path in dict.fromkeys(delete) if path.is_file()]
    if not force:
        check_committed(project, group, name, delete)
    try:
        return Plan(edit=config.edited_defaults(project.conf, gone), delete=delete)
    except config.NoDefaultError as error:
        raise ScaffoldError(f"{group}={name} cannot be removed: {error}") from None


def check_unused(project: Project, group: str, name: str, named: Sequence[Path]) -> None:
    """Raise ScaffoldError if code or a config that is not removed along needs the choice."""
    if group in (*CODE, "experiment", "search"):
        along = [project.conf / kind for kind in ("experiment", "search")]
        needing = [path for path in named if path.parent not in along and path.name != "train.yaml"]
        own = (project.module(group, name), project.test(group, name))
        needing += [path for path in config.importers(project, group, name) if path not in own]
    else:
        needing = [*named, *config.mentions(project, [(group, name)])]
    if needing:
        files = ", ".join(project.short(path) for path in needing)
        raise ScaffoldError(f"{group}={name} is in use: change or remove {files} first")


def check_committed(project: Project, group: str, name: str, files: Sequence[Path]) -> None:
    """Raise ScaffoldError if a file would be lost: git has no copy of it, and `add` would not write the same one."""
    kinds = KINDS if group in ("data", "model") else KINDS[:1]
    with contextlib.suppress(ScaffoldError):
        examples = [render(project, group, name, kind=kind) for kind in kinds]
        files = [file for file in files if not any(equals(file, each.get(file)) for each in examples)]
    changed = [file for file in files if not is_committed(project.root, file)]
    if changed:
        raise ScaffoldError(
            f"git has no copy of {', '.join(project.short(file) for file in changed)} as on disk: commit first, or "
            "add --force to delete this work for good"
        )


def describe_removal(project: Project, plan: Plan) -> str:
    """Return the report of a removal: the files, the new defaults, and commands that no longer work."""
    lines = ["Removed:", *(f"  {project.short(file)}" for file in plan.delete)]
    for file, text in plan.edit.items():
        old, new = file.read_bytes().decode("utf8").splitlines(), text.splitlines()
        changed = [line.strip() for line, before in zip(new, old, strict=True) if line != before]
        lines += [f"New defaults in {project.short(file)}:", *(f"  {line}" for line in changed)]
    gone = [(path.parent.name, path.stem) for path in plan.delete if path.suffix == ".yaml"]
    typed = [path for path in config.mentions(project, gone) if path not in plan.delete]
    if typed:
        lines += [
            "Commands in these files still name what is removed:",
            *(f"  {project.short(path)}" for path in typed),
        ]
    return "\n".join([*lines, "Next, type:", "  make test", "  git add -A && git commit"])


if __name__ == "__main__":
    sys.exit(main())
