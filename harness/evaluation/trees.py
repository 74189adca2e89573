"""Requests that begin alike, packed into one row: what they share is computed once.

A row is a tree of tokens, root first. A question with its choices is a trunk with a branch for every choice; a single
request is a tree without branches. A token stands at its depth and sees the tokens on its way to the root, so its
logits are those of the request alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]

SHARED_AT_LEAST = 0.25
"""Share of a request's tokens that it must have in common with a tree to become a branch of it."""


class Window(NamedTuple):
    """What follows the last `len(targets)` of the `inputs` is to be scored, for request `request`."""

    request: int
    inputs: Ids
    targets: Ids


class Segment(NamedTuple):
    """Tokens `start` to `end` of a row, one after another, the first of them behind token `parent` (-1: the root)."""

    start: int
    end: int
    parent: int


class Answer(NamedTuple):
    """`targets` are what is asked for behind `nodes` of a row."""

    request: int
    nodes: Ids
    targets: Ids


@dataclass
class Row:
    """A tree of tokens."""

    tokens: list[Ids] = field(default_factory=list)
    """Of every segment."""
    segments: list[Segment] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    length: int = 0
    paths: list[tuple[Ids, Ids]] = field(default_factory=list)
    """(inputs, nodes) of every window with a branch of its own."""

    @property
    def branched(self) -> bool:
        return len(self.segments) > 1

    @property
    def wanted(self) -> int:
        """Tokens whose logits are asked for, at most."""
        return sum(len(answer.nodes) for answer in self.answers)

    def shared(self, window: Window) -> tuple[int, int]:
        """(tokens that the window has in common with a path of the tree, which path)."""
        return max((_common(inputs, window.inputs), -i) for i, (inputs, _) in enumerate(self.paths))

    def add(self, window: Window, common: int = 0, path: int = 0) -> None:
        """The window as a branch that leaves `path` after `common` tokens."""
        inputs, shared = window.inputs, self.paths[path][1][:common] if common else np.zeros(0, dtype=np.int64)
        nodes = shared
        if common < len(inputs):
            end = self.length + len(inputs) - common
            nodes = np.concatenate([shared, np.arange(self.length, end)])
            self.tokens.append(inputs[common:])
            self.segments.append(Segment(self.length, end, int(shared[-1]) if common else -1))
            self.paths.append((inputs, nodes))
            self.length = end
        self.answers.append(Answer(window.request, nodes[len(nodes) - len(window.targets) :], window.targets))


def grow(windows: Iterable[Window], longest: int) -> Iterator[Row]:
    """Neighbouring windows that begin alike become one row of at most `longest` tokens, or of one window."""
    row: Row | None = None
    for window in windows:
        if row is not None:
            common, path = row.shared(window)
            worth = common >= max(2, SHARED_AT_LEAST * len(window.inputs))
            if worth and row.length + len(window.inputs) - common <= longest:
                row.add(window, common, -path)
                continue
            yield row
        row = Row()
        row.add(window)
    if row is not None:
        yield row


def _common(one: Ids, other: Ids) -> int:
    size = min(len(one), len(other))
    apart = np.flatnonzero(one[:size] != other[:size])
    return int(apart[0]) if len(apart) else size


@dataclass(frozen=True, eq=False)
class Batch:
    """Rows side by side, padded on the right."""

    tokens_BT: Ids
    wanted_BT: NDArray[np.bool_]
    places: Ids
    """Of every target, its place among the wanted tokens, row by row."""
    targets: Ids
    requests: Ids
    """Of every target, the request that it is of."""
    positions_BT: Ids | None
    mask_BTT: NDArray[np.bool_] | None
    """Where a row has branches, what each token sees; without any, tokens stand and see as usual."""


def collate(rows: Sequence[Row]) -> Batch:
    B, T = len(rows), max(row.length for row in rows)
    tokens, wanted = np.zeros((B, T), dtype=np.int64), np.zeros((B, T), dtype=bool)
    branched = any(row.branched for row in rows)
    positions = np.zeros((B, T), dtype=np.int64) if branched else None
    mask = np.zeros((B, T, T), dtype=bool) if branched else None
    nodes, targets, requests = [], [], []
    for i, row in enumerate(rows):
        tokens[i, : row.length] = np.concatenate(row.tokens)
        for answer in row.answers:
            wanted[i, answer.nodes] = True
            nodes.append(answer.nodes + i * T)
            targets.append(answer.targets)
            requests.append(np.full(len(answer.nodes), answer.request))
        if positions is not None and mask is not None:
            _stand(row, positions[i], mask[i])
    order = wanted.ravel().cumsum() - 1
    return Batch(
        tokens, wanted, order[np.concatenate(nodes)], np.concatenate(targets), np.concatenate(requests), positions, mask
    )


def _stand(row: Row, positions_T: Ids, mask_TT: NDArray[np.bool_]) -> None:
    """Where the tokens of a row stand, and which others each sees. Padding sees itself, or its attention would be of
    nothing."""
    for start, end, parent in row.segments:
        if parent >= 0:
            mask_TT[start:end] = mask_TT[parent]
            positions_T[start:end] = positions_T[parent] + 1
        mask_TT[start:end, start:end] = np.tri(end - start, dtype=bool)
        positions_T[start:end] += np.arange(end - start)
    padding = np.arange(row.length, len(mask_TT))
    mask_TT[padding, padding] = True


def in_batches(rows: Iterable[Row], most_tokens: int, most_wanted: int) -> Iterator[list[Row]]:
    """Rows of like length side by side, the longest first: what does not fit the memory fails at once. A batch has at
    most `most_tokens`, padding among them, and `most_wanted` logits to compute, or one row. Rows with and without
    branches stay apart, for these need no mask."""
    for branched in (True, False):
        batch: list[Row] = []
        wanted = 0
        for row in sorted((row for row in rows if row.branched == branched), key=lambda row: -row.length):
            if batch and ((len(batch) + 1) * batch[0].length > most_tokens or wanted + row.wanted > most_wanted):
                yield batch
                batch, wanted = [], 0
            batch.append(row)
            wanted += row.wanted
        if batch:
            yield batch
