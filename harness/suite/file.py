"""Reading a suite file: strict, with overrides, presets and grid applied. Errors name file, line, key and the nearest
valid choice."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import BaseModel

from harness.connections.settings import AnyConnection, ConnectionSettings, connection_type, connection_types
from harness.data.inputs import Inputs
from harness.data.load import Data, inputs_of, load_data
from harness.data.settings import (
    CORPORA,
    TOKENIZERS,
    AnyData,
    AnyTokenizer,
    DataSettings,
    TokenizerSettings,
    corpus_type,
)
from harness.errors import UsageError, nearest
from harness.models.presets import SCALES
from harness.models.settings import MODELS, AnyModel, ModelSettings
from harness.suite.resize import resized
from harness.suite.schema import Suite
from harness.suite.sense import Problem, problems, problems_with
from harness.suite.yaml_file import COMMAND_LINE, YamlFile, wrong
from harness.suite.yaml_lines import KeyPath, dotted

ARM_NAME = r"^[A-Za-z0-9][A-Za-z0-9_+-]*$"
GRID = "(grid)"  # stands for the name of an arm that has none yet
SECTIONS = ("model", "train")
STUDY = {"suite", "space"}
"""Keys that tell a study file (docs/search.md) from a suite file."""
FILE_KEYS = (*Suite.model_fields, *SECTIONS, "grid")


class SuiteFile(YamlFile):
    """A suite file on its way to a `Suite`: the raw mapping, and where each key was written."""

    def __init__(self, path: Path, overrides: list[str], origin: str = COMMAND_LINE):
        super().__init__(path, origin)
        self._expand_shorthand()
        for override in overrides:
            self._override(override)
            self._expand_shorthand()

    def _expand_shorthand(self) -> None:
        """`connection: residual` is short for `connection: {type: residual}`, `tokenizer: bytes` likewise; `seeds: 4`
        for `[1, 2, 3, 4]`."""
        data = self.raw.get("data")
        if isinstance(data, dict) and isinstance(data.get("tokenizer"), str):
            data["tokenizer"] = {"type": data["tokenizer"]}
        arms = self.raw.get("arms")
        for arm in arms.values() if isinstance(arms, dict) else ():
            if isinstance(arm, dict) and isinstance(arm.get("connection"), str):
                arm["connection"] = {"type": arm["connection"]}
        seeds = self.raw.get("seeds")
        if isinstance(seeds, int) and not isinstance(seeds, bool):
            if not 0 < seeds <= 10_000:
                raise self.error(("seeds",), f"must be a list, or a number from 1 to 10,000, got {seeds}")
            self.raw["seeds"] = list(range(1, seeds + 1))

    def _override(self, override: str) -> None:
        name, text = self.split(override)
        key = tuple(name.split("."))
        if key[0] not in FILE_KEYS:
            raise UsageError(f"{self.origin}: {name}: unknown key{nearest(key[0], FILE_KEYS)}")
        if key[0] == "arms" and key[1:2] and key[1] not in (self.raw.get("arms") or {}):
            raise UsageError(f"{self.origin}: {name}: no such arm{nearest(key[1], self.raw.get('arms') or {})}")
        if key[0] == "grid" and len(key) > 2:
            key = ("grid", ".".join(key[1:]))
        self.put(name, key, text)

    def resolve(self) -> Suite:
        """The typed suite. Raises UsageError, one line for every problem found."""
        raw = self.raw
        for key in raw:
            if key not in FILE_KEYS:
                study = "; this is a study: harness search" if raw.keys() >= STUDY else nearest(key, FILE_KEYS)
                raise self.error((key,), f"unknown key{study}")
        for section in (*SECTIONS, "arms", "grid"):
            if raw.get(section) is not None and not isinstance(raw[section], dict):
                raise self.error((section,), "must be a mapping of keys")
        arms: dict[str, Any] = {}
        places: dict[str, KeyPath] = {}
        for name, arm in (raw.get("arms") or {}).items():
            arms[str(name)] = self._complete(arm, ("arms", name))
            places[str(name)] = ("arms", name)
        for name, arm in self._grid_arms():
            if name in arms:
                raise self.error(("grid",), f"two arms are called '{name}'; exclude one of them")
            arms[name] = arm
            places[name] = ("grid",)
        if not arms:
            raise self.error(("arms",), "a suite needs at least one arm, under 'arms' or 'grid'")
        self._check_names(arms, places)
        top = {key: value for key, value in raw.items() if key not in (*SECTIONS, "grid", "arms")}
        data, evaluation = top.get("data"), top.get("evaluation")
        kind = corpus_type(data)
        if kind is not None and kind.KIND != "text" and (evaluation is None or isinstance(evaluation, dict)):
            top["evaluation"] = {"tasks": [], **(evaluation or {})}  # the default tasks are for text
        suite: Suite = self.validate(Suite, {**top, "arms": arms})
        self._refuse(problems(suite))
        return suite

    def _complete(self, arm: Any, place: KeyPath) -> Any:
        """The arm with all that it does not say itself: from its scale or the suite's, then the suite's sections."""
        if not isinstance(arm, dict):
            raise self.error(place, "an arm is a mapping with a connection")
        for section in SECTIONS:
            if arm.get(section) is not None and not isinstance(arm[section], dict):
                raise self.error((*place, section), "must be a mapping of keys")
        preset = self._preset((*place, "scale") if arm.get("scale") is not None else ("scale",), arm)
        complete = {key: value for key, value in arm.items() if key != "scale"}
        for section in SECTIONS:
            written = {**(self.raw.get(section) or {}), **(arm.get(section) or {})}
            given, asked = preset.get(section, {}), written.get("type")
            kind = given.get("type", "decoder")
            if section == "model" and given and isinstance(asked, str) and asked in MODELS and asked != kind:
                raise self.error(
                    self._written((*place, section, "type")),
                    f"a scale for the model '{kind}' does not shape a '{asked}'",
                )
            complete[section] = {**given, **written}
        return complete

    def _preset(self, key: KeyPath, arm: dict[str, Any]) -> dict[str, dict[str, Any]]:
        scale = arm.get("scale", self.raw.get("scale"))
        if scale is None:
            return {}
        if not isinstance(scale, str) or scale not in SCALES:
            raise self.error(key, f"unknown scale '{scale}'{nearest(scale, SCALES)}")
        return SCALES[scale]

    def _grid_arms(self) -> list[tuple[str, Any]]:
        """All combinations of the axes but the excluded ones, each named by its connection's tag and, for other axes,
        by key and value."""
        grid = dict(self.raw.get("grid") or {})
        excluded = grid.pop("exclude", None) or []
        for axis, values in grid.items():
            if str(axis).split(".")[0] not in ("connection", *SECTIONS) or "." not in str(axis):
                raise self.error(
                    ("grid", axis), "an axis is a dotted key below connection, model or train, such as connection.rate"
                )
            if not isinstance(values, list) or not values:
                raise self.error(("grid", axis), "an axis needs a list of values")
        if not isinstance(excluded, list) or not all(isinstance(rule, dict) for rule in excluded):
            raise self.error(("grid", "exclude"), "must be a list of mappings of axes to values")
        for index, rule in enumerate(excluded):
            for axis in rule:
                if axis not in grid:
                    raise self.error(("grid", "exclude", index, axis), f"not an axis of the grid{nearest(axis, grid)}")
        arms = []
        for values in itertools.product(*grid.values()) if grid else ():
            point = dict(zip(grid, values, strict=True))
            if any(all(point[axis] == value for axis, value in rule.items()) for rule in excluded):
                continue
            arm: dict[str, Any] = {"connection": {}}
            for axis, value in point.items():
                section, key = axis.split(".", 1)
                arm.setdefault(section, {})[key] = value
            connection = self.validate(AnyConnection, arm["connection"], ("arms", GRID, "connection"))
            suffix = [
                f"-{axis.split('.', 1)[1].replace('_', '')}{value}".replace(".", "p").replace(" ", "")
                for axis, value in point.items()
                if not axis.startswith("connection.")
            ]
            arms.append((connection.tag() + "".join(suffix), self._complete(arm, ("grid",))))
        return arms

    def _check_names(self, arms: dict[str, Any], places: dict[str, KeyPath]) -> None:
        for name in arms:
            if not re.match(ARM_NAME, name):
                raise self.error(places[name], f"'{name}' is no arm name: letters, digits, '-', '_' and '+' only")
        baseline = self.raw.get("baseline")
        if baseline is not None and str(baseline) not in arms:
            raise self.error(("baseline",), f"no arm is called '{baseline}'{nearest(baseline, arms)}")

    def explain(self, kind: Any, raw: Any, detail: Any, place: KeyPath) -> UsageError:
        key: list[str | int] = list(detail["loc"])
        kind_of_error = detail["type"]
        owner = _owner(kind, raw, tuple(detail["loc"]))
        message = wrong(detail, getattr(owner, "model_fields", {}))
        if kind_of_error == "extra_forbidden":
            if isinstance(owner, type) and issubclass(owner, DataSettings):
                message = _foreign_key(str(key[-1]), owner) or message
        elif kind_of_error == "unknown_connection":
            key.append("type")
            message = f"unknown connection '{detail['ctx']['tag']}'{nearest(detail['ctx']['tag'], connection_types())}"
        elif kind_of_error == "unknown_model":
            key.append("type")
            message = f"unknown model '{detail['ctx']['tag']}'{nearest(detail['ctx']['tag'], MODELS)}"
        elif kind_of_error == "unknown_corpus":
            key.append("corpus")
            message = f"unknown corpus '{detail['ctx']['tag']}'{nearest(detail['ctx']['tag'], CORPORA)}"
        elif kind_of_error == "unknown_tokenizer":
            key.append("type")
            message = f"unknown tokenizer '{detail['ctx']['tag']}'{nearest(detail['ctx']['tag'], TOKENIZERS)}"
        elif kind_of_error == "connection_without_type":
            message = f"{detail['msg']}{nearest('', connection_types())}"
        return self.error(self._written((*place, *key)), message)

    def _written(self, key: KeyPath) -> KeyPath:
        """Where the key of a resolved arm was written: in the arm, on an axis of the grid, or in the suite's own
        section, so that it is reported there and not once for every arm."""
        if key[0] != "arms" or len(key) < 4:
            return key
        axis = dotted(key[2:])
        if key[1] not in (self.raw.get("arms") or {}) and axis in (self.raw.get("grid") or {}):
            return ("grid", axis)
        if key in self.lines or key in self.overridden or key[2] not in SECTIONS:
            return key
        return key[2:]

    def check_inputs(self, suite: Suite, inputs: Inputs) -> None:
        """Raises UsageError where a model does not fit the data."""
        self._refuse(problems_with(suite, inputs))

    def fitted(self, suite: Suite) -> tuple[Suite, Data, Inputs]:
        """The suite in the sizes that it asks for, with its data and what these decide of models. Raises UsageError."""
        try:
            data = load_data(suite.data, self.path.parent)
        except UsageError as error:
            raise self.locate(error) from None
        inputs = inputs_of(data)
        self.check_inputs(suite, inputs)
        try:
            return resized(suite, inputs), data, inputs
        except UsageError as error:
            raise self.locate(error) from None

    def _refuse(self, found: Iterable[Problem]) -> None:
        """Raises UsageError for the first problem, where it was written."""
        for key, message in found:
            written = self._written(key)
            arm = f" (arm '{key[1]}')" if written[0] == "grid" and key[0] == "arms" else ""
            raise self.error(written, message + arm)


def _below(kind: Any, part: str | int) -> Any:
    """The type of `kind`'s field, element or value called `part`."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        field = kind.model_fields.get(str(part))
        return field.annotation if field else None
    if get_origin(kind) in (dict, tuple, list):
        return [argument for argument in get_args(kind) if argument is not Ellipsis][-1]
    return None


def _owner(kind: Any, raw: Any, location: tuple[str | int, ...]) -> Any:
    """The settings class in which the last part of a pydantic error location is a key."""
    for part in (None, *location[:-1]):
        if part is not None:
            kind = _below(kind, part)
            raw = raw.get(part) if isinstance(raw, dict) else None
        if get_origin(kind) is not None and type(None) in get_args(kind):
            kind = next(option for option in get_args(kind) if option is not type(None))
        if kind in (AnyConnection, ConnectionSettings) and isinstance(raw, dict):
            kind = connection_type(raw.get("type"))
        if kind in (AnyModel, ModelSettings) and isinstance(raw, dict):
            kind = MODELS.get(str(raw.get("type", "decoder")))
        if kind in (AnyData, DataSettings) and isinstance(raw, dict):
            kind = corpus_type(raw)
        if kind in (AnyTokenizer, TokenizerSettings) and isinstance(raw, dict):
            kind = TOKENIZERS.get(str(raw.get("type")))
    return kind


def _foreign_key(key: str, owner: type[DataSettings]) -> str | None:
    """What to say of a key that other corpora have, else None."""
    others = [name for name, kind in CORPORA.items() if key in kind.model_fields]
    own = next(name for name, kind in CORPORA.items() if kind is owner)
    return f"the corpus '{own}' has no key '{key}'; it is of {', '.join(others)}" if others else None


def load_suite(path: Path, overrides: list[str] | None = None) -> Suite:
    """Read, complete and check a suite file. Raises UsageError."""
    return SuiteFile(path, overrides or []).resolve()
