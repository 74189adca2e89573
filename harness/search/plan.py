"""What a search would train, before any of it is."""

from __future__ import annotations

from typing import Any

from harness.compare.markdown import grid
from harness.search.facts import settings_text
from harness.search.file import Study


def plan(study: Study) -> dict[str, Any]:
    """Cells and steps of every arm, at most: pruned trials and finished cells take fewer."""
    settings, fresh = study.settings, study.settings.fresh
    again = 0 if settings.several or fresh.top == 1 else fresh.top * len(fresh.choose)
    quoted = len(fresh.report) * (1 + (fresh.top if settings.several else 1))
    arms: list[dict[str, Any]] = []
    for arm in study.space.arms:
        searched_steps = study.space.parameters(arm).get("train.steps")
        ends = [end for end in searched_steps.ends() if isinstance(end, int)] if searched_steps else []
        steps = max([study.suite.arms[arm].train.steps, *ends])
        searched = settings.trials * len(settings.seeds)
        own = study.space.own(arm)
        arms.append(
            {
                "arm": arm,
                "parameters": list(study.space.parameters(arm)),
                "trials": settings.trials,
                "seeds": len(settings.seeds),
                "cells": searched,
                "fresh_cells": again + quoted,
                "steps": steps * (searched + again + quoted),
                "first_trial": own,
                "pruner": study.pruner(arm),
            }
        )
    return {
        "study": settings.name,
        "objective": list(settings.objective),
        "sampler": settings.sampler,
        "arms": arms,
        "cells": sum(arm["cells"] + arm["fresh_cells"] for arm in arms),
        "steps": sum(arm["steps"] for arm in arms),
    }


def plan_text(planned: dict[str, Any]) -> str:
    rows = [["arm", "trials", "seeds", "cells", "on fresh seeds", "steps", "parameters", "first trial"]]
    rows += [
        [
            arm["arm"],
            str(arm["trials"]),
            str(arm["seeds"]),
            str(arm["cells"]),
            str(arm["fresh_cells"]),
            f"{arm['steps']:,}",
            ", ".join(arm["parameters"]),
            settings_text(arm["first_trial"])
            if arm["first_trial"] is not None
            else "drawn: its own is not in the space",
        ]
        for arm in planned["arms"]
    ]
    first = planned["arms"][0]
    total = f"{planned['cells']} cells, {planned['steps']:,} steps at most: pruned trials and finished cells take fewer"
    what = f"{planned['study']}: {' × '.join(planned['objective'])}, {first['trials']} trials for every arm"
    return "\n".join(
        [f"{what}; {planned['sampler']['type']}, {first['pruner']['type']}", *grid(rows, {1, 2, 3, 4, 5}), total]
    )
