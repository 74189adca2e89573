"""Reading a study file, with the suite that it names. Errors name file, line, key and the nearest valid choice."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.data.inputs import Inputs
from harness.data.load import Data
from harness.errors import UsageError, close, nearest
from harness.search.samplers import problems_of, pruner_of
from harness.search.settings import Params, Problem, StudySettings, Value
from harness.search.space import Space
from harness.suite.cells import Cell, cells
from harness.suite.file import SuiteFile
from harness.suite.find import find_suite
from harness.suite.schema import Suite
from harness.suite.smoke import smoke
from harness.suite.yaml_file import YamlFile, wrong

KEYS = tuple(StudySettings.model_fields)
PARAMETER_KEYS = ("type", "low", "high", "log", "step", "choices", "arms", "when")
UNION = ("bool", "int", "float", "str", "none", "list[nullable[union[bool,int,float,str]]]")
"""What pydantic puts behind the key of a value that may be several things."""
SMOKE_TRIALS = 3
SHRUNK = ("train.steps", "train.warmup_steps", "train.batch_size", "train.micro_batch_size", "model.")
"""How parameters begin whose settings `--smoke` makes smaller: they are not searched then."""


@dataclass(frozen=True)
class Study:
    """What is searched, read and checked."""

    settings: StudySettings
    suite: Suite
    """The arms as they are without any search."""
    suite_path: Path
    data: Data
    inputs: Inputs
    space: Space
    smoke: bool = False

    @property
    def relative_to(self) -> Path:
        """From where the data's paths are looked for."""
        return self.suite_path.parent.resolve()

    def cells_of(self, arm: str, number: int, params: Params) -> list[Cell]:
        """Those of a trial, one a seed."""
        suite = self.space.trial_suite({f"{arm}-t{number}": self.space.arm(arm, params)}, self.settings.seeds)
        return cells(suite, self.data, self.relative_to)

    def pruner(self, arm: str) -> dict[str, Value]:
        """The arm's, by Optuna's name, with its settings."""
        train, parameter = self.suite.arms[arm].train, self.space.parameters(arm).get("train.warmup_steps")
        ends = [end for end in parameter.ends() if isinstance(end, int)] if parameter else []
        return pruner_of(self.settings, train.steps, max([train.warmup_steps, *ends]))


class StudyFile(YamlFile):
    """A study file on its way to a `Study`."""

    def __init__(self, path: Path, overrides: Iterable[str]):
        super().__init__(path)
        self._expand_shorthand()
        for override in overrides:
            name, text = self.split(override)
            self.put(name, self._key(name), text)
            self._expand_shorthand()

    def _key(self, name: str) -> tuple[str, ...]:
        """`set.train.steps` is a key of `set`, and `space.train.lr.low` one of the parameter `train.lr`."""
        first, *rest = name.split(".")
        if first not in KEYS:
            raise UsageError(f"{self.origin}: {name}: unknown key{nearest(first, KEYS)}")
        if first == "set" and rest:
            return first, ".".join(rest)
        if first == "space" and len(rest) > 1 and rest[-1] in PARAMETER_KEYS:
            parameter, known = ".".join(rest[:-1]), self.raw.get("space")
            if isinstance(known, dict) and parameter not in known:
                raise UsageError(f"{self.origin}: {name}: no such parameter{nearest(parameter, known)}")
            return first, parameter, rest[-1]
        if first == "space" and rest:
            return first, ".".join(rest)
        return first, *rest

    def _expand_shorthand(self) -> None:
        """`objective: loss` is short for `[loss]`, `sampler: TPESampler` for `{type: TPESampler}`, the default."""
        if isinstance(self.raw.get("objective"), str):
            self.raw["objective"] = [self.raw["objective"]]
        for key in ("sampler", "pruner"):
            if isinstance(self.raw.get(key), str):
                self.raw[key] = {"type": self.raw[key]}
        if isinstance(self.raw.get("sampler"), dict):
            self.raw["sampler"].setdefault("type", "TPESampler")

    def explain(self, kind: Any, raw: Any, detail: Any, place: tuple[str | int, ...]) -> UsageError:
        key = list(detail["loc"])
        keys: Any = KEYS
        if key[0] == "space" and len(key) > 2:  # pydantic has the parameter's type in the place of a key
            key.pop(2)
            keys = PARAMETER_KEYS
        if key[0] == "fresh":
            keys = ("top", "choose", "report")
        if key[-1] in UNION:  # one problem for every kind of value that it is not
            while key[-1] in UNION or isinstance(key[-1], int):
                key.pop()
            return self.error((*place, *key), f"is no value of a setting, got {detail['input']!r}")
        if detail["type"] in ("union_tag_not_found", "union_tag_invalid"):
            return self.error((*key, "type"), "a parameter is a float, an int or categorical: type: float")
        return self.error((*place, *key), wrong(detail, keys))

    def refuse(self, found: Iterable[Problem]) -> None:
        """Raises UsageError for the first problem, where it was written."""
        for key, message in found:
            raise self.error(key, message)

    def resolve(self, shrunk: bool = False) -> Study:
        """The study with its suite, checked as a whole. Raises UsageError."""
        for key in self.raw:
            if key not in KEYS:
                hint = "; this is a suite: harness run" if key in ("baseline", "scale", "grid") else nearest(key, KEYS)
                raise self.error((key,), f"unknown key{hint}")
        settings: StudySettings = self.validate(StudySettings, self.raw)
        self.refuse(settings.problems())
        self.refuse(problems_of(settings))
        path = self._suite_path(settings.suite)
        file = SuiteFile(path, self._overrides(settings), origin=self._origin(settings))
        suite = file.resolve()
        if shrunk:
            suite, settings = smoke(suite), _shrunk(settings)
            if not settings.space:
                raise self.error(("space",), "--smoke leaves nothing of it: it makes all of these settings smaller")
        suite, data, inputs = file.fitted(suite)
        space = Space(settings, suite, inputs)
        self.refuse(space.problems())
        self.refuse(self._of_suite(settings, suite, space))
        self.refuse(space.impossible())
        return Study(settings, suite, path, data, inputs, space, shrunk)

    def _overrides(self, settings: StudySettings) -> list[str]:
        """What `set` says, as a suite takes it."""
        found = []
        for key, value in settings.set.items():
            try:
                found.append(f"{key}={json.dumps(value)}")
            except TypeError:
                raise self.error(("set", key), f"is no value of a suite: {value!r}") from None
        return found

    def _origin(self, settings: StudySettings) -> str:
        """What these are called in an error."""
        typed = any(key[:1] == ("set",) for key in self.overridden)
        return f"{self.origin}: set" if typed else self.where(("set",))

    def _suite_path(self, name: str) -> Path:
        beside = self.path.parent / name
        try:
            return beside if beside.is_file() else find_suite(name)
        except UsageError as error:
            near = close(beside.name, [path.name for path in beside.parent.glob("*.yaml")])
            raise self.error(("suite",), f"{name}: no such suite file{near}" if near else str(error)) from None

    def _of_suite(self, settings: StudySettings, suite: Suite, space: Space) -> Iterable[Problem]:
        """What does not fit between the study and the suite."""
        for place, name in enumerate(settings.objective):
            if name == "bits_per_byte" and suite.data.KIND != "text":
                yield ("objective", place), f"is of text, and the corpus '{suite.data.corpus}' is none"
            if name == "peak_memory" and any(suite.arms[arm].train.device == "cpu" for arm in space.arms):
                yield ("objective", place), "is measured on GPUs; saved_bytes is counted everywhere"
        units = {suite.arms[arm].model.unit(suite.data.KIND): arm for arm in space.arms}
        if len(units) > 1:
            several = " and ".join(f"'{arm}' has {unit}" for unit, arm in units.items())
            yield ("arms",), f"losses do not compare: {several}"


def _shrunk(settings: StudySettings) -> StudySettings:
    """Of `--smoke`: at most three trials of an arm, one seed, and two fresh ones for the best; settings that it shrinks
    are not searched."""
    fresh = settings.fresh.model_copy(update={"top": 1, "choose": (), "report": settings.fresh.report[:2]})
    few = {"trials": min(settings.trials, SMOKE_TRIALS), "seeds": settings.seeds[:1], "fresh": fresh, "pruner": None}
    few["space"] = {name: one for name, one in settings.space.items() if not name.startswith(SHRUNK)}
    return settings.model_copy(update=few)
