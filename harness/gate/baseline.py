"""A baseline: what a suite's numbers were, where, made of what, and why they were accepted. A small file in git."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from harness.errors import UsageError, nearest, shown
from harness.gate.sealed import read_sealed, write_sealed
from harness.settings import Settings

KIND = "gate baseline"
FOLDER = Path("results/baselines")
ACCEPT = 'harness gate SUITE --accept --reason "..."'

Environment = dict[str, str]
"""What bit-equality depends on: torch, processor, instruction set, threads; or torch, CUDA and the GPU's name."""


class SeedRun(Settings):
    """One seed of an arm. A run that failed has no loss."""

    loss: float | None
    bits_per_byte: float | None = None
    failure: str | None = None
    """Class and message."""
    spikes: float | None = None
    """Larger share of spikes, of those of the loss and of the gradient norm."""
    batches: str | None = None
    """Digest of all batches."""
    start: str | None = None
    """Digest of the shared weights at initialisation."""

    def paired_with(self, other: SeedRun) -> bool:
        """Whether both saw the same batches and started from the same shared weights."""
        return (self.batches, self.start) == (other.batches, other.start) and self.batches is not None


class Golden(Settings):
    """A short run of the first seed, step by step."""

    losses: tuple[float, ...]
    validation: float | None
    """Held-out loss at its end; None where it failed."""
    failure: str | None = None
    batches: str | None = None
    start: str | None = None
    held_out: str | None = None
    """Digest of what it was judged on."""


class Cost(Settings):
    """Of one arm. Ratios are to the suite's baseline arm, measured interleaved."""

    parameters: int
    training_flops: int
    saved_bytes: int
    peak_bytes: int | None
    """Of a step, on a GPU."""
    throughput: float | None
    """Ratio; None where it could not be measured."""
    interval: tuple[float, float] | None


class ArmBaseline(Settings):
    settings: dict[str, dict[str, Any]]
    """connection, model and train as they were resolved, defaults included."""
    golden: Golden
    cost: Cost
    seeds: dict[str, SeedRun]

    def run(self, seed: int) -> SeedRun | None:
        return self.seeds.get(str(seed))


class Baseline(Settings):
    suite: str
    suite_digest: str
    """Of the suite file's content, comments aside."""
    reason: str = Field(min_length=1)
    created: str
    """UTC, ISO 8601."""
    commit: str | None
    """Of the harness's checkout."""
    dirty: bool | None
    """Whether the checkout was changed since that commit."""
    metric: str
    unit: str
    environment: Environment
    digests: dict[str, str]
    """Of the data, the held-out side and the tokenizer."""
    versions: dict[str, str | None]
    arms: dict[str, ArmBaseline] = Field(min_length=1)

    def write(self, path: Path) -> None:
        write_sealed(path, KIND, self)

    @classmethod
    def read(cls, path: Path, suite: str) -> Baseline:
        """Raises UsageError for what is no baseline of this suite."""
        found = read_sealed(path, KIND, cls, ACCEPT)
        if found.suite != suite:
            raise UsageError(
                f"{shown(path)}: is the baseline of the suite '{found.suite}', and '{suite}' is to be gated"
                f"{nearest(suite, [found.suite])}"
            )
        return found


def baseline_path(suite_folder: str) -> Path:
    """Where the baseline of a suite lies unless another file is named."""
    return FOLDER / f"{suite_folder}.json"


def anchor_path(baseline: Path) -> Path:
    return baseline.with_suffix(".anchor.json")


def noise_path(baseline: Path) -> Path:
    return baseline.with_suffix(".noise.json")


def differences(ours: Mapping[str, str], theirs: Mapping[str, str]) -> list[str]:
    """Where two environments, or the digests of two sets of data, differ."""
    return [
        f"{key} {theirs.get(key, 'none')} -> {ours.get(key, 'none')}"
        for key in sorted(ours.keys() | theirs.keys())
        if ours.get(key) != theirs.get(key)
    ]


def changed_settings(ours: Mapping[str, Any], theirs: Mapping[str, Any], at: str = "") -> Iterator[str]:
    """`train.lr 0.001 -> 0.0007`, one line for every setting that is another now."""
    for key in sorted(ours.keys() | theirs.keys()):
        mine, other, place = ours.get(key), theirs.get(key), f"{at}{key}"
        if isinstance(mine, Mapping) and isinstance(other, Mapping):
            yield from changed_settings(mine, other, f"{place}.")
        elif mine != other:
            yield f"{place} {other} -> {mine}"
