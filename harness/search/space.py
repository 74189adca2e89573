"""The space of a study over the arms of its suite: which parameters an arm has, and which arm a trial's are."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from pydantic import TypeAdapter, ValidationError

from harness.connections.settings import AnyConnection, connection_type, connection_types
from harness.data.inputs import Inputs
from harness.errors import close, nearest
from harness.models.settings import AnyModel
from harness.search.settings import AnyParameter, Outside, Params, Problem, StudySettings, Value, same
from harness.suite.schema import Arm, Suite
from harness.suite.sense import problems, problems_with
from harness.suite.yaml_file import wrong
from harness.suite.yaml_lines import dotted
from harness.training.settings import TrainSettings

KINDS: Mapping[str, Any] = {"connection": AnyConnection, "model": AnyModel, "train": TrainSettings}
JUDGING = {"validation_tokens", "validation_images", "validate_every"}
MOST = 2_000
"""So many combinations of ends and choices are looked at before anything is trained."""

Suggest = Callable[[str, AnyParameter], Value]


class ImpossibleError(Exception):
    """A trial that is no arm: `key` is the parameter, or the setting, that does not fit."""

    def __init__(self, key: str, message: str):
        super().__init__(message)
        self.key = key


class Space:
    """The parameters of every arm, and the arms that they make."""

    def __init__(self, study: StudySettings, suite: Suite, inputs: Inputs):
        self.study, self.suite, self.inputs = study, suite, inputs
        self.arms = tuple(study.arms or suite.arms)

    def parameters(self, arm: str) -> dict[str, AnyParameter]:
        """Those that the arm can have, in the file's order."""
        return {name: one for name, one in self.study.space.items() if one.arms is None or arm in one.arms}

    def draw(self, arm: str, suggest: Suggest) -> Params:
        """A trial's parameters: of those whose conditions hold, what `suggest` says."""
        params: Params = {}
        for name, parameter in self.parameters(arm).items():
            if self._holds(arm, parameter, params):
                params[name] = suggest(name, parameter)
        return params

    def own(self, arm: str) -> Params | None:
        """The arm's own settings as a trial; None where they are not in the space."""
        outside = False

        def suggest(name: str, parameter: AnyParameter) -> Value:
            nonlocal outside
            value = parameter.match(_look(self._settings(arm, {}), name))
            outside = outside or value is Outside
            return None if isinstance(value, type) else value

        params = self.draw(arm, suggest)
        return None if outside else params

    def arm(self, name: str, params: Params) -> Arm:
        """The arm with a trial's settings. Raises ImpossibleError."""
        settings, found = self._settings(name, params), {}
        for section, kind in KINDS.items():
            try:
                found[section] = TypeAdapter(kind).validate_python(settings[section])
            except ValidationError as error:
                detail = error.errors()[0]
                loc = [part for part in detail["loc"] if part not in (settings[section].get("type"), section)]
                key = f"{section}.{dotted(tuple(loc))}" if loc else f"{section}.type"
                raise ImpossibleError(key, _said(detail, section, settings[section])) from None
        return self.suite.arms[name].model_copy(update=found)

    def trial_suite(self, arms: Mapping[str, Arm], seeds: tuple[int, ...]) -> Suite:
        """A suite of these arms alone, which nothing is asked but its loss."""
        alone = {name: arm.model_copy(update={"baseline": None, "resize": None}) for name, arm in arms.items()}
        plain = self.suite.evaluation.model_copy(update={"tasks": ()})
        return self.suite.model_copy(
            update={
                "arms": alone, "baseline": next(iter(alone)), "seeds": seeds, "evaluation": plain, "ladder": (),
                "reported": (),
            }
        )  # fmt: skip

    def problems(self) -> Iterator[Problem]:
        """What does not fit between the space and the arms."""
        for place, name in enumerate(self.arms):
            if name not in self.suite.arms:
                yield ("arms", place), f"no arm is called '{name}'{nearest(name, self.suite.arms)}"
            if name in self.arms[:place]:
                yield ("arms", place), f"'{name}' stands there twice"
        seen: list[str] = []
        for name, parameter in self.study.space.items():
            yield from self._parameter(name, parameter, seen)
            seen.append(name)

    def impossible(self) -> Iterator[Problem]:
        """Combinations that are no arm, and conditions that never hold; after `problems` found none."""
        met: set[str] = set()
        for arm in self.arms:
            for params in self._some_combinations(arm):
                met |= params.keys()
                if found := self._misfit(arm, params):
                    yield found
                    return
        for name in self.study.space:
            if name not in met:
                yield ("space", name, "when"), "the condition holds for no trial of any arm"

    def _parameter(self, name: str, parameter: AnyParameter, above: list[str]) -> Iterator[Problem]:
        section, dot, key = name.partition(".")
        if section not in KINDS or not dot:
            own = self._settings(self.arms[0], {})
            meant = [f"{one}.{key or name}" for one in KINDS if (key or name) in own[one]]
            hint = f"; did you mean '{meant[0]}'?" if meant else ""
            yield ("space", name), f"a parameter is a setting below connection, model or train{hint}"
            return
        if name == "model.type":
            yield ("space", name), "losses of another kind of model do not compare"
        if section == "train" and key in TrainSettings.NOT_IDENTITY:
            yield ("space", name), "does not change what is learnt, so there is nothing to search"
        if (section == "train" and key in JUDGING) or name in ("model.context", "model.vocabulary"):
            yield ("space", name), "is how trials are judged, which must be the same for all"
        for place, arm in enumerate(parameter.arms or ()):
            if arm not in self.arms:
                yield (
                    ("space", name, "arms", place),
                    f"no arm of this search is called '{arm}'{nearest(arm, self.arms)}",
                )
        for arm in self.arms:
            resized = [other for other, one in self.suite.arms.items() if one.resize and arm in (other, one.resize.arm)]
            if section != "train" and resized and name in self.parameters(arm):
                yield ("space", name), f"'{resized[0]}' is resized to what another arm costs; arms: leaves '{arm}' out"
        for other in parameter.when:
            if other in above:
                continue
            if other in self.study.space:
                yield ("space", name, "when", other), "stands below; a condition is on what stands above"
            elif not any(_look(self._settings(arm, {}), other, MISSING) is not MISSING for arm in self.arms):
                settings = self._settings(self.arms[0], {})
                known = [*above, *(f"{section}.{key}" for section in KINDS for key in settings[section])]
                yield ("space", name, "when", other), f"no parameter and no setting{nearest(other, known)}"

    def _some_combinations(self, arm: str) -> list[Params]:
        """All, or where they are too many, some drawn at random, so that every value of every parameter is among them
        with many of the others'."""
        found = list(itertools.islice(self._combinations(arm), MOST + 1))
        if len(found) <= MOST:
            return found
        chance = random.Random(0)  # noqa: S311  the same for all
        return [self.draw(arm, lambda _, parameter: chance.choice(parameter.ends())) for _ in range(MOST)]

    def _combinations(self, arm: str) -> Iterator[Params]:
        """Of the ends and choices of all parameters that a trial can have together."""

        def more(left: list[tuple[str, AnyParameter]], params: Params) -> Iterator[Params]:
            if not left:
                yield params
                return
            (name, parameter), *rest = left
            if not self._holds(arm, parameter, params):
                yield from more(rest, params)
                return
            for value in parameter.ends():
                yield from more(rest, {**params, name: value})

        return more(list(self.parameters(arm).items()), {})

    def _misfit(self, arm: str, params: Params) -> Problem | None:
        shown = ", ".join(f"{name}={value}" for name, value in params.items())
        try:
            made = self.arm(arm, params)
        except ImpossibleError as error:
            message = (
                f"{error} (arm '{arm}')" if error.key in params else f"{error.key}: {error} (arm '{arm}'; {shown})"
            )
            return ("space", *([error.key] if error.key in params else [])), message
        suite = self.trial_suite({arm: made}, self.study.seeds)
        for key, message in itertools.chain(problems(suite), problems_with(suite, self.inputs)):
            name = dotted(key[2:]) if key[0] == "arms" else dotted(key)
            place = ("space", name) if name in params else ("space",)
            return place, f"{message} (arm '{arm}'; {shown})"
        return None

    def _settings(self, arm: str, params: Params) -> dict[str, dict[str, Any]]:
        """The arm's sections with these parameters in them, not checked. Another type of connection brings its own
        defaults; what the file says of the arm's is not its."""
        own = self.suite.arms[arm]
        settings = {section: getattr(own, section).model_dump() for section in KINDS}
        kind = params.get("connection.type", own.connection.type)
        if kind != own.connection.type:
            settings["connection"] = {"type": kind}
        for name, value in params.items():
            section, _, key = name.partition(".")
            settings[section][key] = value
        return settings

    def _holds(self, arm: str, parameter: AnyParameter, params: Params) -> bool:
        settings = self._settings(arm, params) if parameter.when else {}
        for name, wanted in parameter.when.items():
            value = _look(settings, name, MISSING)
            if not any(same(value, one) for one in (wanted if isinstance(wanted, list) else [wanted])):
                return False
        return True


MISSING = object()


def _look(settings: Mapping[str, Mapping[str, Any]], name: str, default: Any = None) -> Any:
    section, _, key = name.partition(".")
    return settings.get(section, {}).get(key, default)


def _said(detail: Any, section: str, settings: Mapping[str, Any]) -> str:
    if detail["type"] == "unknown_connection":
        return f"unknown connection '{detail['ctx']['tag']}'{nearest(detail['ctx']['tag'], connection_types())}"
    if detail["type"] == "extra_forbidden":
        kind = connection_type(settings.get("type")) if section == "connection" else None
        fields = (
            kind.model_fields if kind is not None else TrainSettings.model_fields if section == "train" else settings
        )
        of = f"{section} '{settings['type']}'" if "type" in settings else section
        hint = (
            close(detail["loc"][-1], fields.keys() - {"type"})
            or "; 'arms' or 'when' limits a parameter to those that have it"
        )
        return f"{of} has no setting '{detail['loc'][-1]}'{hint}"
    return wrong(detail)
