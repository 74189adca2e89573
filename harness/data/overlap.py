"""How much of the held-out text is in the training text too, by n-grams of words."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.data.documents import Document, size_of
from harness.progress import Meter

WORDS = 13
"""Words of an n-gram, as in the contamination study of GPT-3 (arXiv 2005.14165, appendix C)."""
MOST_GRAMS = 4_000_000
"""Held-out n-grams that are looked for, about; of more, those of documents spread evenly over the side."""
PIECE_BYTES = 4 * 2**20
"""Text that is looked at in one go, about; arrays take 50 times as much."""

Hashes = NDArray[np.uint64]

_LETTERS = np.zeros(256, dtype=bool)
_LETTERS[[*b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_"]] = True
_LETTERS[128:] = True
_GAP = re.compile(rb"[^0-9A-Za-z_\x80-\xff]")
_SEAM = re.compile(rb"(?:[^0-9A-Za-z_\x80-\xff]*[0-9A-Za-z_\x80-\xff]+){0,%d}" % (WORDS - 1))
_LOWER = np.arange(256, dtype=np.uint64)
_LOWER[ord("A") : ord("Z") + 1] += 32
_BYTE, _WORD = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xC2B2AE3D27D4EB4F)


def overlap(side: Sequence[Document], train: Sequence[Document]) -> dict[str, Any]:
    """Share of the n-grams of `side` that occur in `train`, and how many documents of `side` have more than half of
    theirs there. Words are runs of ASCII letters (in lower case), digits, underscores and non-ASCII characters: in a
    script without spaces, what stands between two ASCII signs is one word."""
    grams = [_different(document.data) for document in side]
    step = max(1, -(-sum(len(one) for one in grams) // MOST_GRAMS))
    grams = grams[::step]
    wanted = np.unique(np.concatenate(grams)) if grams else np.zeros(0, dtype=np.uint64)
    found = np.zeros(len(wanted), dtype=bool)
    # Most n-grams of the training text are nowhere else: their last bits say so at a fraction of a search's price.
    likely = np.zeros(2**24, dtype=bool)
    likely[wanted % likely.size] = True
    if len(wanted):
        with Meter("overlap of training and held-out text", size_of(train), "B") as meter:
            for piece in _pieces(train):
                present = grams_of(piece)
                present = present[likely[present % likely.size]]
                places = np.searchsorted(wanted, present)
                places[places == len(wanted)] = 0
                found[places[wanted[places] == present]] = True
                meter.add(len(piece))
    shares = [float(found[np.searchsorted(wanted, one)].mean()) for one in grams if len(one)]
    total = sum(len(one) for one in grams)
    seen = sum(int(found[np.searchsorted(wanted, one)].sum()) for one in grams)
    return {
        "words": WORDS,
        "share": seen / total if total else 0.0,
        "documents_over_half": sum(share > 0.5 for share in shares),
        "documents": len(grams),
    }


def _different(data: bytes) -> Hashes:
    return np.unique(np.concatenate([np.zeros(0, dtype=np.uint64), *map(grams_of, pieces(data))]))


def grams_of(data: bytes) -> Hashes:
    """Hashes of all n-grams of words, in order; none for a text of fewer words.

    A word's hash is the sum of its bytes times powers of an odd number, an n-gram's the same of its words: all of it
    modulo 2^64, so that everything is a handful of array operations.
    """
    codes = np.frombuffer(data, dtype=np.uint8)
    inside = np.concatenate([[False], _LETTERS[codes], [False]])
    edges = np.flatnonzero(inside[1:] != inside[:-1])
    starts, ends = edges[::2], edges[1::2]
    if len(starts) < WORDS:
        return np.zeros(0, dtype=np.uint64)
    # Of every byte inside a word, its place in it; the words lie one after another in `letters`.
    lengths = ends - starts
    letters = _LOWER[codes[inside[1:-1]]] + np.uint64(1)
    begins = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    places = np.arange(len(letters)) - np.repeat(begins, lengths)
    words = np.add.reduceat(letters * _powers(_BYTE, int(lengths.max()))[places], begins)
    words = _mixed(words)
    weights = _powers(_WORD, WORDS)
    grams = np.zeros(len(words) - WORDS + 1, dtype=np.uint64)
    for i in range(WORDS):
        grams += words[i : i + len(grams)] * weights[i]
    return _mixed(grams)


def _powers(base: np.uint64, count: int) -> Hashes:
    return np.multiply.accumulate(np.concatenate([np.ones(1, dtype=np.uint64), np.full(count, base)]))


def _mixed(values: Hashes) -> Hashes:
    """Neighbouring sums far apart (the last steps of SplitMix64)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def pieces(data: bytes) -> Iterator[bytes]:
    """A text in pieces, cut between words; each has the words after it that complete its n-grams. Words longer than
    PIECE_BYTES may be cut."""
    start = 0
    while start < len(data):
        least, most = start + PIECE_BYTES, start + 2 * PIECE_BYTES
        gap = _GAP.search(data, least, most)
        end = len(data) if least >= len(data) else gap.start() if gap else min(most, len(data))
        seam = _SEAM.match(data, end, end + WORDS * PIECE_BYTES)
        yield data[start : seam.end() if seam else end]
        start = end


def _pieces(documents: Sequence[Document]) -> Iterator[bytes]:
    """Documents in pieces that are long enough for arrays and short enough for memory. Between two documents stand
    words that nobody writes, so that no n-gram reaches over."""
    wall = b" " + b" ".join(b"\xff%d" % i for i in range(WORDS - 1)) + b" "
    waiting: list[bytes] = []
    size = 0
    for document in documents:
        for piece in pieces(document.data):
            waiting.append(piece)
            size += len(piece)
            if size >= PIECE_BYTES:
                yield wall.join(waiting)
                waiting, size = [], 0
    if waiting:
        yield wall.join(waiting)
