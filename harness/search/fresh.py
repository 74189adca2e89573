"""The best trials again, on seeds that no trial has had: some choose among them, others are quoted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from harness.errors import FAILED, INTERRUPTED, OK
from harness.run.layout import Layout
from harness.run.runner import RunOptions, run_suite
from harness.search.facts import TrialFacts
from harness.search.file import Study
from harness.search.objectives import OBJECTIVES
from harness.search.result import Candidate, Losses, best_trials
from harness.suite.cells import Cell, cells
from harness.suite.schema import Arm, Suite

OWN = ".own"
"""Behind an arm's name: the arm as its file has it. No arm's name has a point in it."""


class Fresh:
    """Trains what is looked at again. `experiment` is where the record keeps it."""

    def __init__(self, study: Study, layout: Layout, options: RunOptions, experiment: str):
        self.study, self.layout, self.options, self.experiment = study, layout, options, experiment
        self.code = OK
        """FAILED where a cell failed."""

    def candidates(self, trials: Mapping[str, Sequence[TrialFacts]]) -> dict[str, list[Candidate]]:
        """By arm, with what the seeds that choose say. Raises KeyboardInterrupt when asked to end."""
        fresh, first = self.study.settings.fresh, self.study.settings.objective[0]
        several = self.study.settings.several
        best = {arm: best_trials(found, fresh.top, several) for arm, found in trials.items()}
        again: dict[str, dict[str, Losses]] = {}
        if not several and fresh.top > 1:
            arms = {name_of(one): self.arm(one) for found in best.values() for one in found}
            # One that diverges there is not chosen, which is all that there is to say.
            again = self._train(self.study.space.trial_suite(arms, fresh.choose), ("diverged",)) if arms else {}
        return {
            arm: [
                Candidate(trial=one, objective=first, again=again.get(name_of(one), {}).get(first, {})) for one in found
            ]
            for arm, found in best.items()
        }

    def arm(self, trial: TrialFacts) -> Arm:
        """The arm that the trial was."""
        return self.study.space.arm(trial.arm, trial.params)

    def quote(self, suite: Suite) -> dict[str, dict[str, Losses]]:
        """Name -> objective -> seed -> value of the suite's arms, and of every searched arm as its file has it under
        `<arm>.own`. Raises KeyboardInterrupt when asked to end."""
        own = {f"{arm}{OWN}": self.study.suite.arms[arm] for arm in self.study.space.arms}
        plain = self.study.space.trial_suite({**own, **suite.arms}, suite.seeds)
        return self._train(plain)

    def _train(self, suite: Suite, let_pass: Sequence[str] = ()) -> dict[str, dict[str, Losses]]:
        """Failures of the classes `let_pass` are no failure of the search."""
        made = cells(suite, self.study.data, self.study.relative_to)
        outcome = run_suite(self.experiment, made, self.layout, self.options, str(self.study.relative_to))
        if outcome.code == INTERRUPTED:
            raise KeyboardInterrupt
        classes = [(self.layout.cell(cell).status().get("failure") or {}).get("class") for cell in made]
        if any(found is not None and found not in let_pass for found in classes):
            self.code = FAILED
        return self._read(made)

    def _read(self, made: Iterable[Cell]) -> dict[str, dict[str, Losses]]:
        found: dict[str, dict[str, dict[int, float]]] = {}
        for cell in made:
            result = self.layout.cell(cell).result()
            metrics = result["metrics"] if result else {}
            for name in self.study.settings.objective:
                if (value := metrics.get(OBJECTIVES[name].metric)) is not None:
                    found.setdefault(cell.arm, {}).setdefault(name, {})[cell.seed] = value
        return {arm: dict(measured) for arm, measured in found.items()}


def chosen(candidates: Sequence[Candidate]) -> Candidate | None:
    """The best on the seeds that choose; without these the best of the search."""
    known = [one for one in candidates if one.fresh is not None]
    if not known:
        return candidates[0] if candidates else None
    # One that lost a seed (it diverged there) is no choice where another lost none.
    most = max(len(one.again) for one in known)
    return min((one for one in known if len(one.again) == most), key=lambda one: one.fresh.mean if one.fresh else 0.0)


def name_of(trial: TrialFacts) -> str:
    return f"{trial.arm}-t{trial.number}"
