"""Synthetic diagnostics as data: the sequences of step s, and held-out ones that never change. Nothing is kept."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.data.diagnostics import GENERATORS, IGNORED, Sequences, joined
from harness.data.inputs import TextInputs
from harness.data.settings.synthetic import SymbolsSettings
from harness.errors import UsageError

GENERATOR_VERSION = 1
"""Part of the digest; raised when a generator makes other sequences than before."""

HELD_OUT_SEED = 23_112
BLOCK = 64
"""Held-out sequences are made so many at a time, so that fewer of them are the first ones of more."""

TRAINING, HELD_OUT = 0, 1


@dataclass(frozen=True)
class Symbols:
    """Sequences made from settings and a seed. Streams of training and of held-out sequences have nothing in common
    whatever the seed, though in a small language two of them may make the same sequence."""

    settings: SymbolsSettings

    @property
    def name(self) -> str:
        return self.settings.corpus

    @property
    def inputs(self) -> TextInputs:
        return TextInputs(self.settings.tokens)

    @property
    def digest(self) -> str:
        """SHA-256 of what decides the sequences besides seed and length."""
        made_by = {"version": GENERATOR_VERSION, "settings": self.settings.model_dump(mode="json")}
        return hashlib.sha256(json.dumps(made_by, sort_keys=True).encode()).hexdigest()

    def batch(self, step: int, *, seed: int, batch_size: int, context: int) -> Sequences:
        """The training sequences of `step` = 0, 1, ...; nothing depends on what was made before. Raises UsageError
        where the context does not hold what is asked for."""
        return self._make(batch_size, context, np.random.SeedSequence(seed, spawn_key=(TRAINING, step)))

    def held_out(self, count: int, context: int) -> Sequences:
        """The first `count` of the held-out sequences, the same for all seeds. Raises UsageError as `batch` does."""
        blocks = [
            self._make(BLOCK, context, np.random.SeedSequence(HELD_OUT_SEED, spawn_key=(HELD_OUT, block)))
            for block in range(-(-count // BLOCK))
        ]
        return joined(blocks)[:count]

    def _make(self, count: int, context: int, seed: np.random.SeedSequence) -> Sequences:
        if problem := self.settings.problem_in(context):
            raise UsageError(f"data.{problem[0]}: {problem[1]}")
        return GENERATORS[type(self.settings)](self.settings, count, context, np.random.default_rng(seed))


def load_symbols(settings: SymbolsSettings) -> Symbols:
    """The data that `settings` name. Raises UsageError for keys that do not fit together."""
    if problem := settings.problem():
        raise UsageError(f"data.{problem[0]}: {problem[1]}")
    return Symbols(settings)


def slice_masks(sequences: Sequences) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """(name, (B, T) of the answers in it) of every slice that has any: `pairs_8`, `depth_3`; of distances those up to
    each power of two, `distance_9_16`."""
    asked = sequences.targets != IGNORED
    for name, values in sequences.slices.items():
        if name == "distance":
            powers = np.ceil(np.log2(np.maximum(values, 1))).astype(np.int64)
            for power in np.unique(powers[asked]).tolist():
                low, high = 2**power // 2 + 1, 2**power
                yield f"distance_{high}" if low >= high else f"distance_{low}_{high}", asked & (powers == power)
        else:
            for value in np.unique(values[asked]).tolist():
                yield f"{name}_{value}", asked & (values == value)
