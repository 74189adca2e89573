"""How much of what an arm's trials differ by each parameter accounts for, as Optuna's fANOVA sees it."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.search.trials import ArmTrials

FEWEST = 4
"""Completed trials below which shares would be noise, whatever the forest says."""
SEED = 0


def importances(arm: ArmTrials) -> dict[str, float]:
    """Shares of the parameters that all completed trials have, the largest first, of the first objective; none where
    there are too few trials, or where they do not differ."""
    import optuna
    from optuna.trial import TrialState

    complete = [trial for trial in arm.ended() if trial.state == TrialState.COMPLETE]
    if len(complete) < FEWEST or len({trial.values[0] for trial in complete}) < 2:
        return {}
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=SEED)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            found = optuna.importance.get_param_importances(
                arm.study, evaluator=evaluator, target=lambda trial: trial.values[0]
            )
        except (ValueError, RuntimeError):  # no parameter that all have, or nothing to learn from
            return {}
    return {name: float(share) for name, share in found.items()}
