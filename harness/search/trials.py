"""The trials of one arm in Optuna's storage: exactly so many count, whoever asks, and whoever is killed on the way."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from harness.errors import UsageError
from harness.search.file import Study
from harness.search.parents import BEAT, PARENT, Parents
from harness.search.rules import KEYS, difference, rules_of
from harness.search.samplers import make_pruner, make_sampler
from harness.search.settings import AnyParameter, FloatParameter, IntParameter, Params, Value

if TYPE_CHECKING:
    import optuna
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial

RULES = "harness.rules"
"""Attribute of an Optuna study: what all its trials have in common."""
VOID, DRAWN, ENDED, STEPS = "harness.void", "harness.drawn", "harness.ended", "harness.steps"
"""Attributes of a trial: why it does not count; that it has all its parameters; how it ended; how many steps its cells
have been trained."""
TRIES, AGAIN_OF, CELLS, SETTINGS = "harness.tries", "harness.again_of", "harness.cells", "harness.settings"
"""How often its cells have failed; of a trial that is tried again, the number of that one; its cells' folders; and all
that distinguishes it from the arm, for a reader."""


REPEAT, REDRAWS = "the arm had this setting", 10
"""Why a trial does not count that is drawn again; and how often that is, before the setting is taken a second time."""


class ForeignError(UsageError):
    """The storage holds something else under the study's name; `rule` is what differs, None where it is not ours."""

    def __init__(self, message: str, rule: str | None):
        super().__init__(message)
        self.rule = rule


class ArmTrials:
    """One arm's trials. A trial counts unless it was given up (`harness.void`), and of those that count the first
    `total` by number are the arm's: numbers are given out one by one by any storage, so parents need no lock."""

    def __init__(self, storage: BaseStorage, where: str, study: Study, arm: str, parents: Parents):
        """Raises ForeignError where the storage holds another study under this name. `where` names the storage."""
        import optuna

        self.arm, self.total = arm, study.settings.trials
        self._storage, self._space, self._parents = storage, study.space, parents
        self.steps = study.suite.arms[arm].train.steps
        settings = study.settings
        name = f"{settings.name}/{arm}"
        rules = rules_of(study, arm)
        self.pruner = study.pruner(arm)
        self.own = study.space.own(arm)
        self.study = optuna.create_study(
            storage=storage,
            study_name=name,
            directions=[optuna.study.StudyDirection.MINIMIZE] * len(settings.objective),
            load_if_exists=True,
            sampler=make_sampler(settings, self._drawing, self.own),
            pruner=make_pruner(self.pruner),
        )
        kept = self.study.user_attrs.get(RULES)
        if kept is None and not self.study.get_trials(deepcopy=False):
            self.study.set_user_attr(RULES, rules)
            with contextlib.suppress(AttributeError, NotImplementedError):
                self.study.set_metric_names(list(settings.objective))
            kept = rules
        if not isinstance(kept, dict):
            raise ForeignError(
                f"{where} holds a study '{name}' that another program made; give this one another name", None
            )
        if (found := difference(kept, rules)) is not None:
            rule, text = found
            raise ForeignError(
                f"'{name}' was begun otherwise in {where}: {text}; give this study another name, or another --results",
                KEYS.get(rule, rule),
            )
        if len(self.counting()) > self.total:
            raise ForeignError(
                f"'{name}' has {len(self.counting())} trials already in {where}, and an arm is to have {self.total}",
                "trials",
            )

    def all(self) -> list[FrozenTrial]:
        return self.study.get_trials(deepcopy=False)

    def counting(self) -> list[FrozenTrial]:
        """Those that count, in order."""
        return [trial for trial in self.all() if counts(trial)]

    def ended(self) -> list[FrozenTrial]:
        """Those that count and are over."""
        return [trial for trial in self.counting() if trial.state.is_finished()]

    def slot(self, trial: FrozenTrial) -> int:
        """Its place among those that count."""
        return sum(other.number < trial.number for other in self.counting())

    def _drawing(self, trial: FrozenTrial) -> tuple[int, int]:
        """Its slot, and how often a trial for that slot has been drawn already that was no other than one before."""
        slot = self.slot(trial)
        repeats = [
            other for other in self.all() if other.user_attrs.get(VOID) == REPEAT and other.number < trial.number
        ]
        return slot, sum(self.slot(other) == slot for other in repeats)

    @property
    def done(self) -> bool:
        return len(self.ended()) >= self.total

    def steps_of(self, params: Params) -> int:
        """Of a trial's cells."""
        return int(params.get("train.steps") or self.steps)

    def claim(self) -> tuple[optuna.Trial, Params] | None:
        """A trial of ours with its parameters; None where all are taken."""
        from optuna.trial import TrialState

        taken = self.counting()
        waiting = any(trial.state == TrialState.WAITING for trial in taken)
        if len(taken) >= self.total and not waiting:
            return None
        trial = self.study.ask()
        trial.set_user_attr(PARENT, self._parents.id)
        frozen = self.all()[trial.number]
        if self.slot(frozen) >= self.total:  # another parent was faster
            self.give_up(frozen, "surplus")
            return None
        params = self._space.draw(self.arm, lambda name, parameter: _suggested(trial, name, parameter))
        known = AGAIN_OF not in frozen.user_attrs and any(params == other.params for other in taken)
        # To train the same once more would say nothing; but where the space has no more, it must end.
        if known and self._drawing(frozen)[1] < REDRAWS:
            self.give_up(frozen, REPEAT)
            return self.claim()
        trial.set_user_attr(DRAWN, True)
        return trial, params

    def give_up(self, trial: FrozenTrial, why: str, again: bool = False) -> None:
        """End a running trial so that it does not count. With `again`, and unless another parent has done so, its
        parameters are tried again by whoever asks next."""
        from optuna.exceptions import UpdateFinishedTrialError
        from optuna.trial import TrialState

        try:
            self._storage.set_trial_user_attr(trial._trial_id, VOID, why)
            self._storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)
        except UpdateFinishedTrialError:
            return
        if again and trial.user_attrs.get(DRAWN):
            kept = {AGAIN_OF: trial.number, TRIES: trial.user_attrs.get(TRIES, 0)}
            self.study.enqueue_trial(trial.params, user_attrs=kept)

    def reap(self) -> int:
        """Give up the running trials whose parents are dead, to be tried again; returns how many."""
        from optuna.trial import TrialState

        dead = [trial for trial in self.all() if trial.state == TrialState.RUNNING and self._parents.dead(trial)]
        for trial in dead:
            self.give_up(trial, "its parent died", again=True)
        return len(dead)

    def tell(self, trial: optuna.Trial, values: Sequence[float] | None, state: str, attributes: dict[str, Any]) -> None:
        """End a trial of ours: `complete` with its values, `pruned`, or `failed`. Nothing where another parent took
        this one for dead: its result is in the cells."""
        from optuna.exceptions import UpdateFinishedTrialError
        from optuna.trial import TrialState

        states = {"complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "failed": TrialState.FAIL}
        try:
            for key, value in attributes.items():
                trial.set_user_attr(key, value)
            self.study.tell(trial, list(values) if values is not None else None, states[state], skip_if_finished=True)
        except UpdateFinishedTrialError:
            return

    def beat(self, trial: optuna.Trial, number: int) -> None:
        """Show that the trial is worked on."""
        from optuna.exceptions import UpdateFinishedTrialError

        with contextlib.suppress(UpdateFinishedTrialError):
            trial.set_user_attr(BEAT, number)


def counts(trial: FrozenTrial) -> bool:
    """Whether the trial is one of the arm's."""
    from optuna.trial import TrialState

    return not (trial.state == TrialState.FAIL and VOID in trial.user_attrs)


def _suggested(trial: optuna.Trial, name: str, parameter: AnyParameter) -> Value:
    if isinstance(parameter, FloatParameter):
        return trial.suggest_float(name, parameter.low, parameter.high, step=parameter.step, log=parameter.log)
    if isinstance(parameter, IntParameter):
        return trial.suggest_int(name, parameter.low, parameter.high, step=parameter.step, log=parameter.log)
    return trial.suggest_categorical(name, parameter.choices)
