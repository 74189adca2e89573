"""Which cells of two arms are pairs: the same seed, batches, held-out data and shared weights, on like ground."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from harness.compare.likeness import unlike
from harness.tracking import Record

BATCHES, VALIDATION = "harness.digest.batches", "harness.digest.validation"
SHARED_WEIGHTS = "harness.digest.shared_weights"


@dataclass(frozen=True, kw_only=True)
class Pairing:
    """Seeds that both arms have finished, and what became of each."""

    seeds: tuple[int, ...] = ()
    """Those that are compared."""
    left_out: dict[int, str] = field(default_factory=dict)
    """Those that are not, with the reason."""
    forced: dict[int, str] = field(default_factory=dict)
    """Those that are compared because it was insisted on, with what is unlike."""
    by_data: bool = False
    """The arms draw their shared weights differently by their own settings (another width, scaled outputs): their
    pairs have the data in common alone."""


def pair(
    arm: Mapping[int, Record], baseline: Mapping[int, Record], *, same_start: bool = True, forced: bool = False
) -> Pairing:
    """`same_start`: the settings of both arms draw the same shared weights, so the digests of these must be equal.

    What makes seeds no pair at all (batches, held-out data, initial weights) cannot be forced; what makes their numbers
    doubtful (hardware, torch, code, data, tokenizer) can.
    """
    seeds: list[int] = []
    left_out: dict[int, str] = {}
    marked: dict[int, str] = {}
    for seed in sorted(arm.keys() & baseline.keys()):
        one, other = arm[seed], baseline[seed]
        if reason := _no_pair(one, other, same_start):
            left_out[seed] = reason
        elif differing := unlike(one, other):
            (marked if forced else left_out)[seed] = f"other {', '.join(differing)}"
        if seed not in left_out:
            seeds.append(seed)
    return Pairing(seeds=tuple(seeds), left_out=left_out, forced=marked, by_data=not same_start)


def on_one_curve(one: Record, other: Record, forced: bool = False) -> bool:
    """Whether losses of different budgets may be read off one curve: batches may differ, for budgets do, and nothing
    else that makes a pair."""
    return _equal(one, other, VALIDATION) and (forced or not unlike(one, other))


def _no_pair(one: Record, other: Record, same_start: bool) -> str:
    if not _equal(one, other, BATCHES) or not _equal(one, other, VALIDATION):
        return "other batches or held-out data"
    if same_start and not _equal(one, other, SHARED_WEIGHTS):
        return "other initial shared weights"
    return ""


def _equal(one: Record, other: Record, tag: str) -> bool:
    """Whether both have the digest, and the same: what was not recorded proves nothing."""
    return one.tags.get(tag) is not None and one.tags.get(tag) == other.tags.get(tag)
