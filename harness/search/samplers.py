"""Optuna's samplers and pruners by their names, and a sampler whose trials do not depend on who asks for them."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from harness.errors import nearest
from harness.search.objectives import OBJECTIVES
from harness.search.settings import Params, Problem, StudySettings, Value

if TYPE_CHECKING:
    from optuna import Study
    from optuna.distributions import BaseDistribution
    from optuna.pruners import BasePruner
    from optuna.samplers import BaseSampler
    from optuna.trial import FrozenTrial, TrialState

SAMPLERS = (
    "TPESampler", "RandomSampler", "GPSampler", "CmaEsSampler", "NSGAIISampler", "NSGAIIISampler", "QMCSampler",
    "BruteForceSampler",
)  # fmt: skip
PRUNERS = (
    "MedianPruner", "PercentilePruner", "SuccessiveHalvingPruner", "HyperbandPruner", "ThresholdPruner",
    "WilcoxonPruner", "NopPruner",
)  # fmt: skip
SINGLE = ("CmaEsSampler",)
"""Samplers for one objective."""
NEEDS = {"CmaEsSampler": "cmaes", "GPSampler": "torch"}
"""Packages that Optuna does not bring along."""
SEQUENCES = ("QMCSampler",)
"""Samplers that take the next point of one sequence, whose seed must stay the same."""
MANY_SEEDS = 6
"""From so many seeds a trial, Wilcoxon's test over seeds can tell one from the best."""
START = {"TPESampler": {"n_startup_trials": 5}}
"""What we set otherwise than Optuna, whose ten random trials would be most of a small budget."""


def problems_of(settings: StudySettings) -> Iterator[Problem]:
    """What is wrong with the names and settings of sampler and pruner. Imports Optuna."""
    for place, given, known in (("sampler", settings.sampler, SAMPLERS), ("pruner", settings.pruner, PRUNERS)):
        if given is None:
            continue
        name = given.get("type")
        if name is None:
            yield (place, "type"), f"missing; known: {', '.join(known)}"
            return
        if name not in known:
            yield (place, "type"), f"Optuna has no {place} '{name}'{nearest(name, known)}"
            return
        kind = _class(place, str(name))
        keys = [key for key in inspect.signature(kind).parameters if key != "seed"]
        for key in given.keys() - {"type"}:
            of_study = "; 'seed' of the study is the sampler's" if key == "seed" else nearest(key, keys)
            if key not in keys:
                yield (place, key), f"{name} has no setting '{key}'{of_study}"
        if (package := NEEDS.get(str(name))) and importlib.util.find_spec(package) is None:
            yield (place, "type"), f"{name} needs a package that is not installed: pip install {package}"
        try:
            _made(place, given, 0)
        except (TypeError, ValueError) as error:
            yield (place,), f"{name}: {str(error).splitlines()[0]}"
    idle = settings.pruner is None or settings.pruner["type"] == "NopPruner"
    if not settings.several:
        if not idle and not OBJECTIVES[settings.objective[0]].curve:
            yield ("pruner",), f"nothing can be pruned by '{settings.objective[0]}': it is known at the end alone"
        return
    if settings.sampler["type"] in SINGLE:
        yield ("sampler", "type"), f"{settings.sampler['type']} is for one objective"
    if not idle:
        yield ("pruner",), "with several objectives nothing can be pruned: no trial is behind in all of them"


def pruner_of(settings: StudySettings, steps: int, warmup: int) -> dict[str, Value]:
    """The study's own, or what is sensible for trials of so many steps, of which up to `warmup` are warm-up."""
    if settings.pruner is not None:
        return settings.pruner
    # Curves of different lengths do not compare: the longer one is behind until its learning rate has come down.
    if settings.several or not OBJECTIVES[settings.objective[0]].curve or "train.steps" in settings.space:
        return {"type": "NopPruner"}
    if len(settings.seeds) >= MANY_SEEDS:
        return {"type": "WilcoxonPruner"}
    # Who still warms up is behind those who do not, whatever comes of it; and a quarter of a run is luck.
    return {"type": "MedianPruner", "n_startup_trials": 4, "n_warmup_steps": max(steps // 4, 3 * warmup // 2)}


def over_seeds(pruner: Mapping[str, Value]) -> bool:
    """Whether the pruner compares trials seed by seed, instead of along the first seed's curve."""
    return pruner["type"] == "WilcoxonPruner"


def make_pruner(given: Mapping[str, Value]) -> BasePruner:
    made: BasePruner = _made("pruner", given, 0)
    return made


def _class(place: str, name: str) -> Any:
    import optuna

    return getattr(optuna.samplers if place == "sampler" else optuna.pruners, name)


def _made(place: str, given: Mapping[str, Value], seed: int) -> Any:
    import warnings

    import optuna

    name = str(given["type"])
    keys = {**START.get(name, {}), **{key: value for key, value in given.items() if key != "type"}}
    kind = _class(place, name)
    if "seed" in inspect.signature(kind).parameters:
        keys["seed"] = seed
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        warnings.simplefilter("ignore", FutureWarning)
        return kind(**keys)


def seed_of(*parts: object) -> int:
    """32 bits that are a function of the parts alone."""
    return int.from_bytes(hashlib.sha256("/".join(map(str, parts)).encode()).digest()[:4])


def make_sampler(
    settings: StudySettings, slot_of: Callable[[FrozenTrial], tuple[int, int]], own: Params | None
) -> BaseSampler:
    """The study's sampler for one arm. Every trial is drawn by a sampler of its own, seeded by the study's seed and the
    trial's slot: a parent that goes on where another was killed would otherwise begin its random numbers anew, and draw
    the first trials again. No arm has luck of its own: what is drawn at random is the same for all.

    slot_of: the trial's place among those that count, from 0, and how often trials were drawn again before it, because
    the arm had their setting already: then it is drawn at random. own: parameters of the first slot; None draws it too.
    """
    from optuna.samplers import BaseSampler

    class Reseeded(BaseSampler):
        def __init__(self) -> None:
            self.inner: BaseSampler = _made("sampler", settings.sampler, settings.seed)
            self.fixed: Params = {}

        def before_trial(self, study: Study, trial: FrozenTrial) -> None:
            slot, again = slot_of(trial)
            same = settings.sampler["type"] in SEQUENCES and not again
            seed = settings.seed if same else seed_of(settings.seed, slot, again)
            self.inner = _made("sampler", {"type": "RandomSampler"} if again else settings.sampler, seed)
            self.fixed = own if own is not None and slot == 0 else {}
            self.inner.before_trial(study, trial)

        def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
            return {} if self.fixed else self.inner.infer_relative_search_space(study, trial)

        def sample_relative(
            self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
        ) -> dict[str, Any]:
            return self.inner.sample_relative(study, trial, search_space) if search_space else {}

        def sample_independent(
            self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
        ) -> Any:
            if param_name in self.fixed:
                return self.fixed[param_name]
            return self.inner.sample_independent(study, trial, param_name, param_distribution)

        def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Any) -> None:
            with contextlib.suppress(RuntimeError):  # brute force has tried all, and stops a loop that is not Optuna's
                self.inner.after_trial(study, trial, state, values)

    return Reseeded()


def quiet() -> None:
    """Optuna's lines about every trial are not for the reader of a search's progress."""
    import warnings

    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    warnings.filterwarnings("ignore", message="The distribution is specified by")  # a range that its steps do not end
