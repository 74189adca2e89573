"""What a search has found: of every arm its trials, its best looked at again on fresh seeds, and how it compares with
the others at equal tuning budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from harness.compare.front import front
from harness.compare.match import LOSS
from harness.compare.statistics import Estimate, Pairs, mean_interval, pairs
from harness.compare.verdicts import Judgement, verdicts
from harness.search.facts import TrialFacts
from harness.search.objectives import OBJECTIVES
from harness.search.settings import Params

Losses = Mapping[int, float]
"""By seed."""
Measured = Mapping[str, Losses]
"""By objective."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One of an arm's best trials, trained again."""

    trial: TrialFacts
    objective: str
    """The first one."""
    again: Losses = field(default_factory=dict)
    """The first objective on the seeds that choose."""
    report: Measured = field(default_factory=dict)
    """On the seeds that are quoted; of the chosen one, or of all on a front."""

    @property
    def fresh(self) -> Estimate | None:
        """On the seeds that choose."""
        return mean_of(self.again)

    @property
    def rise(self) -> float | None:
        """How much worse the trial is on fresh seeds than the search saw it: on those that are quoted where it was
        quoted, else on those that chose. Seeds differ by themselves, too."""
        seen = mean_of(self.quoted or self.again)
        return seen.mean - self.trial.value if seen else None

    @property
    def quoted(self) -> Losses:
        """The first objective on the seeds that are quoted."""
        return self.report.get(self.objective, {})


@dataclass(frozen=True, kw_only=True)
class ArmFound:
    """What was found of one arm."""

    arm: str
    trials: Sequence[TrialFacts]
    budget: int
    """Trials that it was given."""
    full_steps: int
    """Of all its trials, had none been pruned."""
    own: Params | None
    """The arm's own setting as a trial; None where the space does not hold it."""
    own_report: Measured = field(default_factory=dict)
    candidates: Sequence[Candidate] = ()
    """The best trials, by what the search saw, the best first; of several objectives some of the front."""
    chosen: Candidate | None = None
    """Of one objective: the best of them on the seeds that choose."""
    ranges: Mapping[str, tuple[float, float, bool]] = field(default_factory=dict)
    """Of its numbers: low, high, whether logarithmic."""
    importances: Mapping[str, float] = field(default_factory=dict)
    """Share of every parameter in what the trials differ by."""

    @property
    def steps(self) -> int:
        return sum(trial.steps for trial in self.trials)

    def ended(self, how: str) -> int:
        return sum(trial.ended == how for trial in self.trials)

    @property
    def own_rise(self) -> float | None:
        """What the quoted seeds are worse by than the trials' own, by the arm's own setting, which nothing picked; None
        where that is no trial."""
        own = next((trial for trial in self.trials if trial.own and trial.values), None)
        seen = mean_of(self.own_report.get(self.chosen.objective, {})) if self.chosen else None
        return seen.mean - own.value if own and seen else None

    @property
    def curse(self) -> float | None:
        """The winner's: by how much more the chosen trial rises than what nothing picked."""
        rise = self.chosen.rise if self.chosen else None
        return None if rise is None or self.own_rise is None else rise - self.own_rise

    def front(self) -> list[TrialFacts]:
        """Of several objectives: the trials that no other one beats, by the first."""
        complete = [trial for trial in self.trials if trial.values]
        return [complete[place] for place in front([trial.values or () for trial in complete])]


@dataclass(frozen=True, kw_only=True)
class Compared:
    """An arm on the seeds that are quoted."""

    found: ArmFound
    baseline: str | None
    """The arm that it is compared with; None for a baseline, and where that is not searched."""
    own: Estimate | None
    best: Estimate | None
    gained: Pairs | None
    """The best found less the arm's own setting, paired by seed."""
    delta_own: Pairs | None
    """To the baseline, both as their file has them."""
    delta: Pairs | None
    """To the baseline at equal tuning budget: both at the best that was found for them."""
    judgement: Judgement | None


@dataclass(frozen=True, kw_only=True)
class SearchResult:
    """Of the whole study."""

    name: str
    description: str
    objectives: Sequence[str]
    unit: str
    """Of the loss."""
    baselines: Mapping[str, str]
    """By arm, the arm that it is compared with: itself where that is so in the suite."""
    margin: float
    """Losses closer than this count as equivalent; 0 for other objectives, of which nothing is."""
    seeds: Sequence[int]
    choose: Sequence[int]
    report: Sequence[int]
    sampler: str
    pruner: str
    arms: Sequence[ArmFound]
    smoke: bool = False

    @property
    def several(self) -> bool:
        return len(self.objectives) > 1

    def unit_of(self, place: int = 0) -> str:
        """Of an objective; empty for a count."""
        objective = OBJECTIVES[self.objectives[place]]
        return self.unit if objective.metric == LOSS else objective.unit

    def compared(self) -> list[Compared]:
        """Every arm, judged by the rules of `compare.verdicts` over all that have the same baseline. An arm that lost a
        seed on the way, or whose baseline did, is not judged: it might have lost the worst."""
        heads = {one.arm: self._head(one) for one in self.arms}
        deltas = {
            one.arm: pairs(_quoted(one), _quoted(head)) for one in self.arms if (head := heads[one.arm]) is not None
        }
        judged: dict[str, Judgement] = {}
        for head in {id(head): head for head in heads.values() if head is not None}.values():
            family = [
                one.arm for one in self.arms
                if heads[one.arm] is head and not self.lost(_quoted(one)) and not self.lost(_quoted(head))
            ]  # fmt: skip
            judged |= dict(zip(family, verdicts([deltas[arm] for arm in family], self.margin), strict=True))
        return [self._compared(one, heads[one.arm], deltas.get(one.arm), judged.get(one.arm)) for one in self.arms]

    def lost(self, losses: Losses) -> list[int]:
        """The quoted seeds that have no value."""
        return [seed for seed in self.report if seed not in losses]

    def _head(self, one: ArmFound) -> ArmFound | None:
        name = self.baselines.get(one.arm)
        return next((other for other in self.arms if other.arm == name and other is not one), None)

    def _compared(
        self, one: ArmFound, head: ArmFound | None, delta: Pairs | None, judgement: Judgement | None
    ) -> Compared:
        own, best = one.own_report.get(self.objectives[0], {}), _quoted(one)
        return Compared(
            found=one,
            baseline=head.arm if head else None,
            own=mean_of(own),
            best=mean_of(best),
            gained=pairs(best, own),
            delta_own=pairs(own, head.own_report.get(self.objectives[0], {})) if head else None,
            delta=delta,
            judgement=judgement,
        )


def _quoted(one: ArmFound) -> Losses:
    return one.chosen.quoted if one.chosen else {}


def mean_of(losses: Losses) -> Estimate | None:
    return mean_interval(list(losses.values())) if losses else None


def best_trials(trials: Sequence[TrialFacts], top: int, several: bool) -> list[TrialFacts]:
    """The trials to look at again: of one objective the best, each setting once; of several at most so many of the
    front, spread evenly along it with its ends among them."""
    complete = sorted((one for one in trials if one.values), key=lambda one: (one.values or (), one.slot))
    distinct = [one for place, one in enumerate(complete) if one.params not in [o.params for o in complete[:place]]]
    if not several:
        return distinct[:top]
    best = [distinct[place] for place in front([one.values or () for one in distinct])]
    if len(best) <= top:
        return best
    places = [round(place * (len(best) - 1) / max(top - 1, 1)) for place in range(top)]
    return [best[place] for place in dict.fromkeys(places)]
