"""The trials of one arm in Optuna's storage: exactly so many count, whoever asks, and whoever is killed on the way."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from harness.search.file import Study
from harness.search.parents import BEAT, PARENT, Parents
from harness.search.settings import AnyParameter, FloatParameter, IntParameter, Params, Value

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial

VOID, DRAWN, ENDED, STEPS = "harness.void", "harness.drawn", "harness.ended", "harness.steps"
"""Attributes of a trial: why it does not count; that it has all its parameters; how it ended; how many steps its cells
have been trained."""
TRIES, AGAIN_OF, CELLS, SETTINGS = "harness.tries", "harness.again_of", "harness.cells", "harness.settings"
"""How often its cells have failed; of a trial that is tried again, the number of that one; its cells' folders; and all
that distinguishes it from the arm, for a reader."""
FORGIVEN = "harness.forgiven"
"""Attribute of the arm's study: numbers of failed trials that do not count."""
FAILURE = "harness.failure"
"""What went wrong in its cells, where something did."""
DIED, SURPLUS, REPEAT = "its parent died", "the arm had all of its trials", "the arm had this setting"
"""Why trials do not count."""
REDRAWS = 10
"""How often a setting that the arm had is drawn again, before it is taken a second time."""


class ArmTrials:
    """One arm's trials. A trial counts unless it was given up (`harness.void`), and of those that count the first
    `total` by number are the arm's: numbers are given out one by one by any storage, so parents need no lock."""

    def __init__(self, study: optuna.Study, arm: str, of: Study, parents: Parents | None):
        """`study` is the arm's in the storage, `of` the whole; without parents its trials are only looked at."""
        self.study, self.arm, self.total = study, arm, of.settings.trials
        self.steps = of.suite.arms[arm].train.steps
        self.own, self.pruner = of.space.own(arm), of.pruner(arm)
        self._space, self._parents, self._storage = of.space, parents, study._storage

    def all(self) -> list[FrozenTrial]:
        return self.study.get_trials(deepcopy=False)

    def standing(self) -> list[FrozenTrial]:
        """Those that were not given up, in order."""
        from optuna.trial import TrialState

        forgiven = self.study.user_attrs.get(FORGIVEN, ())
        return [
            trial for trial in self.all()
            if not (trial.state == TrialState.FAIL and (VOID in trial.user_attrs or trial.number in forgiven))
        ]  # fmt: skip

    def counting(self) -> list[FrozenTrial]:
        """The arm's: the first of these, as many as it is to have."""
        return self.standing()[: self.total]

    def ended(self) -> list[FrozenTrial]:
        """Those that count and are over."""
        return [trial for trial in self.counting() if trial.state.is_finished()]

    def slot(self, trial: FrozenTrial) -> int:
        """Its place among those that were not given up."""
        return sum(other.number < trial.number for other in self.standing())

    def drawing(self, trial: FrozenTrial) -> tuple[int, int]:
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

        taken = self.standing()
        waiting = any(trial.state == TrialState.WAITING for trial in taken)
        if len(taken) >= self.total and not waiting:
            return None
        trial = self.study.ask()
        assert self._parents is not None
        trial.set_user_attr(PARENT, self._parents.id)
        frozen = self.all()[trial.number]
        if self.slot(frozen) >= self.total:  # another parent was faster
            self.give_up(frozen, SURPLUS)
            return None
        params = self._space.draw(self.arm, lambda name, parameter: _suggested(trial, name, parameter))
        known = AGAIN_OF not in frozen.user_attrs and any(params == other.params for other in taken)
        # To train the same once more would say nothing; but where the space has no more, it must end.
        if known and self.drawing(frozen)[1] < REDRAWS:
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

    def forgive(self) -> None:
        """Failed trials count no more, and are tried again."""
        known = self.study.user_attrs.get(FORGIVEN, ())
        failed = [trial for trial in self.ended() if trial.user_attrs.get(ENDED) == "failed"]
        if not failed:
            return
        self.study.set_user_attr(FORGIVEN, [*known, *(trial.number for trial in failed)])
        for trial in failed:
            self.study.enqueue_trial(trial.params, user_attrs={AGAIN_OF: trial.number})

    def reap(self) -> None:
        """Give up the running trials whose parents are dead, to be tried again where the arm still needs them; and what
        is still to be begun when it has all."""
        from optuna.trial import TrialState

        assert self._parents is not None
        for trial in self.all():
            if trial.state == TrialState.RUNNING and self._parents.dead(trial):
                self.give_up(trial, DIED, again=not self.done)
            elif trial.state == TrialState.WAITING and self.done:
                self.give_up(trial, SURPLUS)

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


def _suggested(trial: optuna.Trial, name: str, parameter: AnyParameter) -> Value:
    if isinstance(parameter, IntParameter):
        return trial.suggest_int(name, parameter.low, parameter.high, step=parameter.step, log=parameter.log)
    if isinstance(parameter, FloatParameter):
        return trial.suggest_float(name, parameter.low, parameter.high, step=parameter.step, log=parameter.log)
    return trial.suggest_categorical(name, parameter.choices)
