"""The synthetic diagnostics once more, as solvers in plain Python that read one sequence from the left, and models made
of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from harness.data.settings import data_settings
from harness.data.synthetic import Symbols, load_symbols
from harness.models.settings import DecoderSettings

CASES: dict[str, tuple[dict[str, Any], int]] = {
    "mqar": ({"corpus": "mqar", "vocabulary": 40, "pairs": (1, 3, 8)}, 48),
    "mqar-blank-even": ({"corpus": "mqar", "vocabulary": 33, "pairs": (5,), "power": 1.0, "random_fill": False}, 21),
    "mqar-full": ({"corpus": "mqar", "vocabulary": 18, "pairs": (8,)}, 32),
    "mqar-least": ({"corpus": "mqar", "vocabulary": 4, "pairs": (1,)}, 4),
    "induction": ({"corpus": "induction", "vocabulary": 20, "repeated": 6}, 40),
    "induction-full": ({"corpus": "induction", "vocabulary": 9, "repeated": 8}, 16),
    "induction-least": ({"corpus": "induction", "vocabulary": 3, "repeated": 2}, 7),
    "copy": ({"corpus": "copy", "symbols": 6, "place": "start"}, 20),
    "copy-anywhere": ({"corpus": "copy", "symbols": 5, "place": "anywhere"}, 33),
    "copy-scattered": ({"corpus": "copy", "vocabulary": 5, "symbols": 7, "place": "scattered"}, 30),
    "copy-full": ({"corpus": "copy", "symbols": 4, "place": "scattered"}, 9),
    "brackets": ({"corpus": "brackets", "kinds": 5, "depth": 4}, 40),
    "brackets-odd": ({"corpus": "brackets", "kinds": 3, "depth": 2}, 17),
    "brackets-flat": ({"corpus": "brackets", "kinds": 2, "depth": 1}, 12),
}
"""Settings and a context, by name: usual ones, and the edges of what is allowed."""


def symbols(case: str) -> tuple[Symbols, int]:
    settings, context = CASES[case]
    return load_symbols(data_settings(**settings)), context


def _mqar(tokens: Sequence[int], settings: Any) -> int:
    """What stood after the present token where it was first seen: pairs come before everything else."""
    return tokens[tokens.index(tokens[-1]) + 1] if tokens[-1] in tokens[:-1] else 0


def _induction(tokens: Sequence[int], settings: Any) -> int:
    """What stood after the present token where it was last seen."""
    for place in range(len(tokens) - 2, -1, -1):
        if tokens[place] == tokens[-1]:
            return tokens[place + 1]
    return 0


def _copy(tokens: Sequence[int], settings: Any) -> int:
    """Since the token 1 one symbol for every blank."""
    if 1 not in tokens:
        return 0
    asked = tokens.index(1)
    seen, given = [token for token in tokens[:asked] if token > 1], len(tokens) - asked - 1
    return seen[given - 1] if 0 < given <= len(seen) else 0


def _brackets(tokens: Sequence[int], settings: Any) -> int:
    """What closes the last bracket that is open."""
    stack: list[int] = []
    for token in tokens:
        if token < settings.kinds:
            stack.append(token)
        else:
            assert stack.pop() == token - settings.kinds, "a bracket is closed by its own kind"
    assert len(stack) <= settings.depth
    return settings.kinds + stack[-1] if stack else 0


SOLVERS: dict[str, Callable[[Sequence[int], Any], int]] = {
    "mqar": _mqar,
    "induction": _induction,
    "copy": _copy,
    "brackets": _brackets,
}


def solved(data: Symbols, tokens: Sequence[int]) -> list[int]:
    """The solver's token after every prefix of the sequence."""
    return [SOLVERS[data.name](tokens[: end + 1], data.settings) for end in range(len(tokens))]


class Solver(nn.Module):
    """The solver as a model, all but certain of its token; for tokens that are `wrong` it says 0."""

    def __init__(self, data: Symbols, context: int, wrong: Callable[[int], bool] = lambda token: False):
        super().__init__()
        self.settings = DecoderSettings(layers=1, width=2, heads=1, context=context)
        self.data, self.wrong, self.scale = data, wrong, nn.Parameter(torch.tensor(50.0))

    def forward(self, tokens_BT: Tensor) -> Tensor:
        found = [[0 if self.wrong(token) else token for token in solved(self.data, row)] for row in tokens_BT.tolist()]
        return nn.functional.one_hot(torch.tensor(found), self.data.inputs.vocabulary) * self.scale

    def reset_readings(self) -> None: ...
    def readings(self) -> dict[str, float]:
        return {}
