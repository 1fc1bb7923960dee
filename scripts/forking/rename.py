"""Give the project's package its new name: in imports, dotted names and paths, and nowhere else.

Not in other text, where the name may be a common word.
"""

import ast
import re
from collections.abc import Callable

from forking.checks import imported_by
from forking.template import ENGINE


def rename_path(path: str, old: str, new: str) -> str:
    """Rename src/<old>/... and tests/<old>/..."""
    return re.sub(rf"^(src|tests)/{old}/", rf"\1/{new}/", path)


def rename_text(text: str, old: str, new: str) -> str:
    """Rename `old.module.name`, `src/old` and `tests/old`."""
    text = re.sub(rf"(?<![\w.]){old}(?=\.[A-Za-z_])", new, text)
    return re.sub(rf"(?<![\w/])((?:src|tests)/){old}(?![\w-])", rf"\g<1>{new}", text)


def rename_python(source: str, old: str, new: str) -> str:
    """Rename the package where the code imports it, uses it, or names it in a string."""
    lines, tree = source.splitlines(keepends=True), ast.parse(source)
    word = re.compile(rf"(?<![\w.]){old}(?!\w)")
    imported = any(old in imported_by(node) for node in ast.walk(tree))
    for node in ast.walk(tree):
        if old in {module.partition(".")[0] for module in imported_by(node)} or (imported and _uses(node, old)):
            _replace(lines, node, lambda line: word.sub(new, line))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            _replace(lines, node, lambda line: rename_text(line, old, new))
    return _sort_imports("".join(lines), new)


def _uses(node: ast.AST, name: str) -> bool:
    return isinstance(node, ast.Name) and node.id == name


def _replace(lines: list[str], node: ast.AST, change: Callable[[str], str]) -> None:
    first, last = getattr(node, "lineno", 1), getattr(node, "end_lineno", 0)
    for number in range(first - 1, last):
        lines[number] = change(lines[number])


def _sort_imports(source: str, project: str) -> str:
    """Sort the imports of the project and of the engine among each other, as ruff does."""
    lines = source.splitlines(keepends=True)
    for block in _blocks(source, project):
        texts = ["".join(lines[node.lineno - 1 : node.end_lineno]) for node in block]
        ordered = [text for _, text in sorted(zip(map(_order, block), texts, strict=True))]
        lines[block[0].lineno - 1 : block[-1].end_lineno] = "".join(ordered).splitlines(keepends=True)
    return "".join(lines)


Import = ast.Import | ast.ImportFrom


def _blocks(source: str, project: str) -> list[list[Import]]:
    """Return the imports of both packages, those on neighbouring lines together."""
    imports = [node for node in ast.walk(ast.parse(source)) if isinstance(node, Import)]
    own = [node for node in imports if (imported_by(node) or [""])[0].partition(".")[0] in (project, ENGINE)]
    blocks: list[list[Import]] = []
    for node in sorted(own, key=lambda node: node.lineno):
        if blocks and node.lineno == (blocks[-1][-1].end_lineno or 0) + 1:
            blocks[-1].append(node)
        else:
            blocks.append([node])
    return blocks


def _order(node: Import) -> tuple[bool, str]:
    return isinstance(node, ast.ImportFrom), imported_by(node)[0]
