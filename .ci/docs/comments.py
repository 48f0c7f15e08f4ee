"""Comments next to the fields of settings classes, read from their source."""

from __future__ import annotations

import ast
import inspect
import io
import textwrap
import tokenize
from typing import NamedTuple


class Comment(NamedTuple):
    """Comment of a field, and the field whose comment covers it too."""

    text: str
    see: str | None = None


def field_comments(settings_class: type) -> dict[str, Comment]:
    """Return the comments of the fields of a class, in their order.

    A comment above a field may cover the fields directly below: these refer to the first of them.
    """
    source = textwrap.dedent(inspect.getsource(settings_class))
    by_line = _comments_by_line(source)
    comments: dict[str, Comment] = {}
    last_line, covering = 0, None
    for node in ast.parse(source).body[0].body:  # type: ignore[attr-defined]
        if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name):
            continue
        above = _lines_above(by_line, node.lineno)
        trailing = by_line.get(node.end_lineno, (False, ""))[1]
        name, text = node.target.id, " ".join([*above, *([trailing] if trailing else [])])
        if above:
            covering = name
        elif text or node.lineno != last_line + 1:
            covering = None
        comments[name] = Comment(text, None if text else covering)
        last_line = node.end_lineno
    return comments


def _comments_by_line(source: str) -> dict[int, tuple[bool, str]]:
    """Return line -> (whether the line has nothing else, text of the comment)."""
    return {
        token.start[0]: (token.line.strip().startswith("#"), token.string.lstrip("#: ").strip())
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT and not token.string.startswith("# type:")
    }


def _lines_above(by_line: dict[int, tuple[bool, str]], line: int) -> list[str]:
    lines: list[str] = []
    while (before := by_line.get(line - 1 - len(lines))) and before[0]:
        lines.insert(0, before[1])
    return lines
