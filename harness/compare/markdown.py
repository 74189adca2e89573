"""The one way to set a table in Markdown, padded so that it also reads as plain text."""

from __future__ import annotations

from collections.abc import Collection, Sequence


def grid(lines: Sequence[Sequence[str]], right: Collection[int] = ()) -> list[str]:
    """Text of the table whose first line is the head, line by line. The columns `right` are set to the right."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    rules = ["-" * (width + 1) + ":" if i in right else "-" * (width + 2) for i, width in enumerate(widths)]
    set_out = [
        [cell.rjust(widths[i]) if i in right else cell.ljust(widths[i]) for i, cell in enumerate(line)]
        for line in lines
    ]
    head, *body = [f"| {' | '.join(line)} |" for line in set_out]
    return [head, f"|{'|'.join(rules)}|", *body]
