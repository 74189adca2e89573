"""Batches: the batch of step s is a function of (data seed, s), and its digest proves what was seen."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.data.tokenizers import Tokens
from harness.errors import UsageError

Batch = tuple[NDArray[Any], ...]
"""Arrays with the examples along their first axis. Of text: token ids (B, T+1), inputs [:, :-1], targets [:, 1:]."""

Windows = NDArray[np.int64]

FIRST_DIGEST = hashlib.sha256(b"").hexdigest()


class BatchSource:
    """Training windows of T+1 tokens, each seen once per epoch, in an order of its own for every epoch.

    In epoch e the stream is cut into windows of stride T at a random shift, and the windows are permuted; both come
    from a generator seeded with (seed, e). Nothing depends on what was drawn before, so resuming is exact.
    """

    def __init__(self, tokens: Tokens, *, batch_size: int, context: int, seed: int):
        if len(tokens) < 2 * context + 1:
            raise _too_few("training", len(tokens), 2 * context + 1, context)
        self.tokens, self.batch_size, self.context, self.seed = tokens, batch_size, context, seed
        # A whole shift is kept free, so that every epoch has the same number of windows.
        self.windows = (len(tokens) - context) // context
        self._epoch: tuple[int, int, NDArray[np.int64]] | None = None

    def batch(self, step: int) -> Windows:
        """(B, T+1) token ids for `step` = 0, 1, ..."""
        first = step * self.batch_size
        starts = [self._start(*divmod(first + row, self.windows)) for row in range(self.batch_size)]
        return np.stack([self.tokens[start : start + self.context + 1] for start in starts]).astype(np.int64)

    def _start(self, epoch: int, position: int) -> int:
        if self._epoch is None or self._epoch[0] != epoch:
            generator = np.random.default_rng([self.seed, epoch])
            shift = int(generator.integers(self.context))
            self._epoch = (epoch, shift, generator.permutation(self.windows))
        return self._epoch[1] + int(self._epoch[2][position]) * self.context


def chain_digest(previous: str, batch: Batch) -> str:
    """Digest of all batches up to this one; a chain, because a checkpoint has to carry it."""
    return hashlib.sha256(previous.encode() + b"".join(array.tobytes() for array in batch)).hexdigest()


def validation_windows(tokens: Tokens, *, count: int, context: int) -> Windows:
    """(count or fewer, T+1): windows spread evenly over the held-out stream; always the same ones."""
    available = (len(tokens) - 1) // context
    if not available:
        raise _too_few("held-out", len(tokens), context + 1, context)
    count = min(count, available)
    starts = (np.arange(count) * available // count) * context
    return np.stack([tokens[start : start + context + 1] for start in starts]).astype(np.int64)


def _too_few(side: str, tokens: int, least: int, context: int) -> UsageError:
    return UsageError(f"data: the {side} text has {tokens:,} tokens, and model.context {context:,} needs {least:,}")
