"""Records as MLflow would give them, written in a line."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any

import pytest
from compare_support import arm_results

from harness.compare.match import LOSS
from harness.compare.results import ArmResult, Wanted
from harness.tracking import TAG_STATE, Record

ARMS = ("residual", "dhc", "dfc")
LOSSES = {"residual": (3.0, 3.1, 2.9, 3.05), "dhc": (2.94, 3.03, 2.85, 2.98), "dfc": (3.02, 3.06, 2.93, 3.04)}
METRICS = {
    "validation/bits_per_byte": 4.0, "validation/perplexity": 20.0, "cost/parameters": 1000.0,
    "cost/tokens_per_second": 500.0, "cost/saved_activation_bytes": 1e6, "eval/cloze/acc": 0.5,
    "eval/cloze/acc_stderr": 0.05, "eval/corpus_perplexity/byte_perplexity": 9.0,
}  # fmt: skip


@pytest.fixture
def record() -> Callable[..., Record]:
    """The record of one arm and seed; keyword arguments replace metrics, None removes one."""
    numbers = count()

    def make(
        arm: str,
        seed: int,
        state: str = "done",
        digest: str | None = None,
        evaluation: str = "e",
        held_out: str = "v",
        **changes: Any,
    ) -> Record:
        metrics = {
            LOSS: LOSSES[arm][seed - 1],
            **METRICS,
            **{name.replace("__", "/"): v for name, v in changes.items()},
        }
        return Record(
            run_id=f"run{next(numbers)}",
            cell=f"{arm}{seed}",
            evaluations=(evaluation,),
            tags={
                TAG_STATE: state,
                "harness.digest.batches": digest or f"batches{seed}",
                "harness.digest.validation": held_out,
                "harness.digest.shared_weights": f"weights{seed}",
            },
            metrics={name: value for name, value in metrics.items() if value is not None},
        )

    return make


@pytest.fixture
def wanted() -> list[Wanted]:
    """Three arms by four seeds, seed by seed."""
    return [Wanted(arm, seed, f"{arm}{seed}", "e") for seed in (1, 2, 3, 4) for arm in ARMS]


@pytest.fixture
def rows(record: Callable[..., Record], wanted: list[Wanted]) -> list[ArmResult]:
    """A finished study, in which DHC is better, twice as slow and three times as large."""
    costs = {"cost__tokens_per_second": 250.0, "cost__saved_activation_bytes": 3e6}
    records = [record(arm, seed, **(costs if arm == "dhc" else {})) for seed in (1, 2, 3, 4) for arm in ARMS]
    return arm_results(wanted, records, "residual")
