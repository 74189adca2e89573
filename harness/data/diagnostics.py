"""The generators of the synthetic diagnostics: settings, sizes and a random generator in, sequences out.

Every one is a definition that a short solver answers perfectly (docs/diagnostics.md; tests/data/test_synthetic.py), and
takes a context that holds what is asked for (`problem_in`). Axes: B sequences, T tokens of context, L of a whole word,
N to choose from, H open brackets, R tokens to come.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.data.settings.synthetic import (
    BracketsSettings,
    CopySettings,
    InductionSettings,
    MQARSettings,
    SymbolsSettings,
)

IGNORED = -100
"""The target where nothing is asked: what cross-entropy in torch leaves out unless it is told another."""

Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Sequences:
    """`inputs` and `targets`, (B, T) each: a target is the token to be put out at its own position, having read the
    inputs up to there. `slices` has (B, T) by name: what accuracy may be sliced by; it says nothing where no answer
    is asked."""

    inputs: Ints
    targets: Ints
    slices: Mapping[str, Ints]

    def __len__(self) -> int:
        return len(self.inputs)

    @property
    def answers(self) -> int:
        """Positions that are asked, of all sequences together."""
        return int((self.targets != IGNORED).sum())

    def __getitem__(self, part: slice) -> Sequences:
        slices = {name: values[part] for name, values in self.slices.items()}
        return Sequences(self.inputs[part], self.targets[part], slices)


def joined(parts: list[Sequences]) -> Sequences:
    """One after another."""
    slices = {name: np.concatenate([part.slices[name] for part in parts]) for name in parts[0].slices}
    inputs, targets = (np.concatenate([getattr(part, side) for part in parts]) for side in ("inputs", "targets"))
    return Sequences(inputs, targets, slices)


def mqar(settings: MQARSettings, count: int, context: int, draw: np.random.Generator) -> Sequences:
    """Pairs of key and value, then queries at even places, each key once; the answer stands at its query."""
    numbers_B = draw.choice(settings.pairs, size=count)
    inputs_BT = np.zeros((count, context), np.int64)
    targets_BT = np.full_like(inputs_BT, IGNORED)
    distance_BT = np.zeros_like(inputs_BT)
    for pairs in settings.pairs:
        rows = np.flatnonzero(numbers_B == pairs)[:, None]
        keys = 1 + _different(draw, len(rows), settings.keys, pairs)
        values = settings.vocabulary // 2 + _different(draw, len(rows), settings.choices, pairs)
        first = np.arange(0, 2 * pairs, 2)
        inputs_BT[rows, first], inputs_BT[rows, first + 1] = keys, values
        places = _power_law(draw, len(rows), (context - 2 * pairs) // 2, pairs, settings.power)
        queries = 2 * pairs + 2 * places
        if settings.random_fill:
            others = 1 + _others(draw, keys - 1, settings.vocabulary - 1, context - 2 * pairs)
            inputs_BT[rows, np.arange(2 * pairs, context)] = others
        inputs_BT[rows, queries] = keys
        targets_BT[rows, queries] = values
        distance_BT[rows, queries] = queries - first
    pairs_BT = np.broadcast_to(numbers_B[:, None], inputs_BT.shape).astype(np.int64)
    return Sequences(inputs_BT, targets_BT, {"pairs": pairs_BT, "distance": distance_BT})


def induction(settings: InductionSettings, count: int, context: int, draw: np.random.Generator) -> Sequences:
    """A stretch that comes again after a distance drawn evenly; asked is all of it but its first token."""
    size = settings.repeated
    stretch = _different(draw, count, settings.vocabulary, size)
    inputs_BT = _others(draw, stretch, settings.vocabulary, context)
    targets_BT = np.full_like(inputs_BT, IGNORED)
    distance_B1 = draw.integers(size, context - size + 1, size=(count, 1))
    first_B1 = draw.integers(context - size - distance_B1 + 1)
    rows, offsets = np.arange(count)[:, None], np.arange(size)
    again = first_B1 + distance_B1 + offsets
    inputs_BT[rows, first_B1 + offsets] = stretch
    inputs_BT[rows, again] = stretch
    targets_BT[rows, again[:, :-1]] = stretch[:, 1:]
    return Sequences(inputs_BT, targets_BT, {"distance": np.broadcast_to(distance_B1, inputs_BT.shape)})


def copy(settings: CopySettings, count: int, context: int, draw: np.random.Generator) -> Sequences:
    """Symbols among blanks, a token that asks, and so many blanks at which they are put out."""
    size = settings.symbols
    before = context - size - 1  # tokens before the one that asks
    symbols = draw.integers(2, settings.vocabulary, size=(count, size))
    if settings.place == "scattered":
        places = np.sort(_different(draw, count, before, size))
    else:
        latest = before - size if settings.place == "anywhere" else 0
        places = draw.integers(latest + 1, size=(count, 1)) + np.arange(size)
    rows, answers = np.arange(count)[:, None], np.arange(before + 1, context)
    inputs_BT = np.zeros((count, context), np.int64)
    targets_BT, distance_BT = np.full_like(inputs_BT, IGNORED), np.zeros_like(inputs_BT)
    inputs_BT[rows, places] = symbols
    inputs_BT[:, before] = 1
    targets_BT[:, answers] = symbols
    distance_BT[:, answers] = answers - places
    return Sequences(inputs_BT, targets_BT, {"distance": distance_BT})


def brackets(settings: BracketsSettings, count: int, context: int, draw: np.random.Generator) -> Sequences:
    """A balanced word as long as the context (one longer where that is odd), evenly drawn from all of that length and
    depth; asked is every token that closes a bracket, at the position before it."""
    length = context + context % 2
    share_RH = _opening_shares(length, settings.depth)
    chances = draw.random((count, length))
    level_BL = np.empty((count, length), np.int64)  # 1 is the outermost, of the token that opens or closes
    opens_BL = np.empty((count, length), bool)
    height_B = np.zeros(count, np.int64)
    for place in range(length):
        opens_BL[:, place] = chances[:, place] < share_RH[length - place, height_B]
        after_B = height_B + np.where(opens_BL[:, place], 1, -1)
        level_BL[:, place] = np.maximum(height_B, after_B)
        height_B = after_B
    # Tokens of one level open and close in turn: in the order of levels a token that closes follows its partner.
    order_BL = np.argsort(level_BL, axis=1, kind="stable")
    opening, closing, rows = order_BL[:, 0::2], order_BL[:, 1::2], np.arange(count)[:, None]
    kinds = draw.integers(settings.kinds, size=opening.shape)
    words_BL = np.empty_like(level_BL)
    words_BL[rows, opening], words_BL[rows, closing] = kinds, settings.kinds + kinds
    distance_BL = np.zeros_like(words_BL)
    distance_BL[rows, closing] = closing - opening
    asked_BL = np.where(opens_BL, IGNORED, words_BL)
    asked, levels, distances = (_shifted(array, context) for array in (asked_BL, level_BL, distance_BL))
    return Sequences(words_BL[:, :context], asked, {"depth": levels, "distance": distances})


def _shifted(next_BL: Ints, context: int) -> Ints:
    """(B, T): at every position what belongs to the next token; nothing is asked after the last."""
    after = np.full((len(next_BL), 1), IGNORED)
    return np.concatenate([next_BL[:, 1:], after], axis=1)[:, :context]


@functools.lru_cache
def _opening_shares(length: int, depth: int) -> NDArray[np.float64]:
    """(length + 1, depth + 1): with so many tokens to come and so many brackets open, the share of the balanced words
    that go on with an opening one. Drawing by it draws evenly from all words."""
    words_H = np.eye(1, depth + 1)[0]  # how many words end from each height, but for a common factor
    shares = np.zeros((length + 1, depth + 1))
    for left in range(1, length + 1):
        up, down = np.append(words_H[1:], 0.0), np.append(0.0, words_H[:-1])
        np.divide(up, up + down, out=shares[left], where=up + down > 0)
        words_H = (up + down) / (up + down).sum()
    return shares


def _different(draw: np.random.Generator, count: int, below: int, size: int) -> Ints:
    """(count, size) numbers below `below`, different from each other within a row, in random order."""
    return _lowest(draw.random((count, below)), size)


def _others(draw: np.random.Generator, taken: Ints, below: int, size: int) -> Ints:
    """(B, size) numbers below `below` that are none of the row's `taken`, which are different from each other."""
    drawn = draw.integers(below - taken.shape[1], size=(len(taken), size))
    gaps = np.sort(taken) - np.arange(taken.shape[1])  # a number is moved past every taken one that it reaches
    return drawn + (drawn[:, :, None] >= gaps[:, None, :]).sum(axis=2)


def _power_law(draw: np.random.Generator, count: int, places: int, size: int, power: float) -> Ints:
    """(count, size) of the places 0, 1, ..., drawn one after another without putting back, the chance of place g - 1
    in proportion to g^(power - 1)."""
    logs = (power - 1) * np.log(np.arange(1, places + 1))
    # The order of logarithms with Gumbel noise is that of such draws.
    return _lowest(-logs - draw.gumbel(size=(count, places)), size)


def _lowest(noise_BN: NDArray[np.float64], size: int) -> Ints:
    """(B, size): where the lowest numbers of every row are, in ascending order."""
    found = np.argpartition(noise_BN, size - 1, axis=1)[:, :size]
    order = np.argsort(np.take_along_axis(noise_BN, found, axis=1), axis=1)
    return np.take_along_axis(found, order, axis=1).astype(np.int64)


GENERATORS: dict[type[SymbolsSettings], Callable[[Any, int, int, np.random.Generator], Sequences]] = {
    MQARSettings: mqar,
    InductionSettings: induction,
    CopySettings: copy,
    BracketsSettings: brackets,
}
