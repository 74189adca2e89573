"""All that a search has found, for machines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.compare.statistics import Estimate
from harness.search.facts import TrialFacts
from harness.search.result import Compared, SearchResult


def document(result: SearchResult, files: Sequence[str] = ()) -> dict[str, Any]:
    """For machines."""
    return {
        "format": 1,
        "study": result.name,
        "objectives": list(result.objectives),
        "unit": result.unit,
        "baselines": dict(result.baselines),
        "seeds": {"trials": list(result.seeds), "choose": list(result.choose), "report": list(result.report)},
        "sampler": result.sampler,
        "pruner": result.pruner,
        "arms": [_arm(result, one) for one in result.compared()],
        "files": list(files),
    }


def _arm(result: SearchResult, one: Compared) -> dict[str, Any]:
    found = one.found
    return {
        "arm": found.arm,
        "budget": found.budget,
        "steps": found.steps,
        "full_steps": found.full_steps,
        "own": {"params": found.own, "report": _plain(found.own_report), "estimate": _estimate(one.own)},
        "best": {
            "trial": found.chosen.trial.number if found.chosen else None,
            "params": found.chosen.trial.params if found.chosen else None,
            "search_value": found.chosen.trial.value if found.chosen else None,
            "report": _plain(found.chosen.report) if found.chosen else {},
            "lost": result.lost(found.chosen.quoted) if found.chosen else [],
            "estimate": _estimate(one.best),
            "rise": found.chosen.rise if found.chosen else None,
            "curse": found.curse,
        },
        "gained": _estimate(one.gained),
        "delta_untuned": _estimate(one.delta_own),
        "delta": _estimate(one.delta),
        "verdict": one.judgement.verdict if one.judgement else None,
        "p_holm": one.judgement.p if one.judgement else None,
        "again": [
            {
                "trial": candidate.trial.number,
                "search_value": candidate.trial.value,
                "choose": {str(seed): value for seed, value in candidate.again.items()},
                "report": _plain(candidate.report),
                "rise": candidate.rise,
            }
            for candidate in found.candidates
        ],
        "front": [trial.number for trial in found.front()] if result.several else None,
        "importances": dict(found.importances),
        "trials": [_trial(trial) for trial in found.trials],
    }


def _trial(trial: TrialFacts) -> dict[str, Any]:
    return {
        "number": trial.number,
        "ended": trial.ended,
        "params": trial.params,
        "values": list(trial.values) if trial.values else None,
        "curve": {str(step): value for step, value in trial.curve.items()},
        "steps": trial.steps,
        "cells": list(trial.cells),
        "failure": trial.failure or None,
    }


def _plain(measured: Mapping[str, Mapping[int, float]]) -> dict[str, dict[str, float]]:
    return {name: {str(seed): value for seed, value in losses.items()} for name, losses in measured.items()}


def _estimate(one: Estimate | None) -> dict[str, Any] | None:
    if one is None:
        return None
    return {"n": one.n, "mean": one.mean, "interval": list(one.interval) if one.interval else None}
