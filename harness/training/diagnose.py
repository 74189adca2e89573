"""The connections' diagnostics of a model in training: a pass over a few held-out examples, what is kept of it, and
what the curve shows (docs/connection-diagnostics.md)."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harness.connections.diagnosis.measure import Measured, measure
from harness.connections.diagnosis.patterns import patterns
from harness.connections.diagnosis.tape import record
from harness.models.network import Network

DIAGNOSTICS = "diagnostics"
"""Kind of the journal's lines: `values` for the curve, and under `depth` what is by depth."""

DIGITS = 6

Values = dict[str, float]
Depth = dict[str, Any]


def diagnose(model: Network, run: Callable[[], object]) -> Measured:
    """Diagnostics of the model's connections in one pass, `run()`, in evaluation mode.

    The mode, the random state and all gradients are left as found; a mixture of experts tallies the pass. Raises
    whatever a connection raises that cannot be replayed."""
    training, device = model.training, next(model.parameters()).device
    model.eval()
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            return measure(model.connections, record(model.connections, run))
    finally:
        model.train(training)


class Diagnosis:
    """What is diagnosed at every validation. A type that breaks it is named once in the log and has null everywhere."""

    def __init__(self, connection: str):
        self.connection = connection
        self.failed = False

    def __call__(
        self, model: Network, run: Callable[[], object], gradients: Tensor | None, *, tokens: int, whole: bool
    ) -> tuple[Values, Depth, dict[str, Any] | None]:
        """`values` and `depth` of the journal's line, and where `whole` is asked for what the end keeps besides, of
        `tokens` tokens. `gradients` (K,) are norms of the step before, by branch."""
        found = self._measured(model, run)
        norms = None if gradients is None else gradients.tolist()
        depth = {
            "cosine": found and found.cosine,
            "gradient_norm": norms,
            "row_rms": found and found.row_rms,
            "dispersion": found and found.dispersion,
            "dynamic_share": found and found.dynamic_share,
            "gain": found and found.gain,
        }
        end = _end(found, tokens) if found is not None and whole else None
        return values(found, norms), rounded(depth), rounded(end)

    def _measured(self, model: Network, run: Callable[[], object]) -> Measured | None:
        if self.failed:
            return None
        try:
            return diagnose(model, run)
        except Exception as error:  # of a type from anywhere; its training goes on
            self.failed = True
            why = f"{type(error).__name__}: {error}".split("\n")[0]
            warnings.warn(f"the connection '{self.connection}' cannot be diagnosed ({why})", stacklevel=2)
            return None


def values(found: Measured | None, norms: list[float] | None) -> Values:
    """`connection/...` of one validation: those that the type has, and that are finite."""
    named: dict[str, float | None] = {}
    if norms is not None and len(norms) >= 4:
        first, last = math.hypot(*norms[:2]), math.hypot(*norms[-2:])
        named["gradient_ratio"] = first / last if last else None
    if found is not None:
        named["cosine_median"] = float(np.mean(found.cosine["median"])) if found.cosine["median"] else None
        named["embedding_weight"] = patterns(found.matrix.numpy())["embedding_output"]
        named["dispersion"] = found.dispersion[-1] if found.dispersion else None
        named["dynamic_share"] = float(np.mean(found.dynamic_share)) if found.dynamic_share else None
        for name, by_depth in (found.gain or {}).items():
            named[f"gain_{name}"] = max(by_depth) if name.endswith("max") else min(by_depth)
    return {f"connection/{name}": v for name, v in named.items() if v is not None and math.isfinite(v)}


def _end(found: Measured, tokens: int) -> dict[str, Any]:
    return {
        "tokens": tokens,
        "matrix": found.matrix.tolist(),
        "hidden_matrices": None if found.hidden is None else found.hidden.tolist(),
        "patterns": patterns(found.matrix.numpy()),
    }


def rounded(value: Any) -> Any:
    """The same with `DIGITS` significant digits, and None for what is not finite, which JSON has no word for."""
    if isinstance(value, dict):
        return {key: rounded(one) for key, one in value.items()}
    if isinstance(value, list):
        return [rounded(one) for one in value]
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None
    return value
