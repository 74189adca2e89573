"""`-k EXPR`: choose cells by name and settings, with `and`, `or`, `not` and parentheses."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from harness.errors import UsageError
from harness.suite.cells import Cell
from harness.suite.yaml_lines import parse_value

_TOKEN = re.compile(r"\s*(\(|\)|[^\s()]+)")


def select(cells: Iterable[Cell], expression: str | None) -> list[Cell]:
    """The cells for which the expression holds. A word matches as a part of the cell's name (`dhc`, `n4-s1`), a
    `key=value` a setting (`seed=1`, `rate=4`, `type=hyper`). Raises UsageError for what does not parse."""
    chosen = list(cells)
    if not expression:
        return chosen
    # Parsed for every cell: expressions are short, and the parser stays three functions.
    return [cell for cell in chosen if _Parser(expression, _words(cell)).value()]


def _words(cell: Cell) -> tuple[str, dict[str, Any]]:
    sections = {**cell.config["train"], **cell.config["model"], **cell.config["connection"]}
    return cell.name.lower(), {**sections, "model": cell.config["model"]["type"], "seed": cell.seed, "arm": cell.arm}


class _Parser:
    def __init__(self, expression: str, words: tuple[str, dict[str, Any]]):
        self.expression = expression
        self.tokens = _TOKEN.findall(expression)
        self.name, self.settings = words

    def value(self) -> bool:
        result = self._either()
        if self.tokens:
            raise self._error(self.tokens[0])
        return result

    def _either(self) -> bool:
        result = self._both()
        while self.tokens[:1] == ["or"]:
            self.tokens.pop(0)
            result = self._both() or result
        return result

    def _both(self) -> bool:
        result = self._one()
        while self.tokens[:1] == ["and"]:
            self.tokens.pop(0)
            result = self._one() and result
        return result

    def _one(self) -> bool:
        word = self.tokens.pop(0) if self.tokens else ""
        if word == "not":
            return not self._one()
        if word == "(":
            result = self._either()
            if self.tokens[:1] != [")"]:
                raise self._error(")")
            self.tokens.pop(0)
            return result
        if word in ("", ")", "and", "or"):
            raise self._error(word or "a word at the end")
        key, equals, value = word.partition("=")
        if not equals:
            return word.lower() in self.name
        if key not in self.settings:
            return False
        try:
            wanted = parse_value(value)
        except UsageError as error:
            raise UsageError(f"-k '{self.expression}': {error}") from None
        setting = self.settings[key]
        return setting == value or (setting == wanted and isinstance(setting, bool) == isinstance(wanted, bool))

    def _error(self, word: str) -> UsageError:
        return UsageError(f"-k '{self.expression}': unexpected or missing: {word}")
