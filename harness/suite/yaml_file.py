"""A YAML file that people write, with settings from the command line laid over it: errors name file, line and key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from harness.errors import UsageError, nearest
from harness.suite.yaml_lines import KeyPath, dotted, load, parse_value

COMMAND_LINE = "command line"


class YamlFile:
    """The raw mapping, and where each key was written. `origin` is what the settings laid over it are called."""

    def __init__(self, path: Path, origin: str = COMMAND_LINE):
        self.path, self.origin = path, origin
        self.raw, self.lines = load(path)
        self.overridden: set[KeyPath] = set()

    def error(self, key: KeyPath, message: str) -> UsageError:
        """One line that names the file and line, or the command line, and the key."""
        return UsageError(f"{self.where(key)}: {message}")

    def where(self, key: KeyPath) -> str:
        """The file and line, or the command line, and the key."""
        if any(key[:size] in self.overridden for size in range(1, len(key) + 1)):
            return f"{self.origin}: {dotted(key)}"
        known = key
        while known and known not in self.lines:
            known = known[:-1]
        line = f":{self.lines[known]}" if known else ""
        return f"{self.path}{line}: {dotted(key)}" if key else str(self.path)

    def locate(self, error: UsageError) -> UsageError:
        """An error of a part that does not know the file, `data.files: ...`, with file and line."""
        key, _, message = str(error).partition(": ")
        return self.error(tuple(key.split(".")), message)

    def put(self, name: str, key: tuple[str, ...], text: str) -> None:
        """Lay `name=text` over the file at `key`."""
        place = self.raw
        for part in key[:-1]:
            if place.get(part) is None:
                place[part] = {}
            place = place[part]
            if not isinstance(place, dict):
                raise UsageError(f"{self.origin}: {name}: '{part}' is not a section")
        try:
            place[key[-1]] = parse_value(text)
        except UsageError as error:
            raise UsageError(f"{self.origin}: {name}: {error}") from None
        self.overridden.add(key)

    def split(self, override: str) -> tuple[str, str]:
        """`key=value` at its first sign. Raises UsageError for anything else."""
        name, equals, text = override.partition("=")
        if not equals or not name:
            raise UsageError(f"{self.origin}: '{override}' is not of the form key=value")
        return name, text

    def validate(self, kind: Any, raw: Any, place: KeyPath = ()) -> Any:
        """The typed value. Raises UsageError, one line for every problem found."""
        try:
            return TypeAdapter(kind).validate_python(raw)
        except ValidationError as error:
            details = error.errors()
            misspelt = {detail["loc"][:-1] for detail in details if detail["type"] == "extra_forbidden"}
            lines = [
                str(self.explain(kind, raw, detail, place))
                for detail in details
                if not (detail["type"] == "missing" and detail["loc"][:-1] in misspelt)
                and not (detail["type"] == "too_short" and len(details) > 1)
            ]
            raise UsageError("\n".join(dict.fromkeys(lines))) from None

    def explain(self, kind: Any, raw: Any, detail: Any, place: KeyPath) -> UsageError:
        """One problem that was found in `raw`, which stands at `place`."""
        return self.error((*place, *detail["loc"]), wrong(detail))


def wrong(detail: Any, keys: Any = ()) -> str:
    """What a problem of pydantic's is, in our words; `keys` are those that could have been meant."""
    kind, message = detail["type"], detail["msg"]
    if kind == "extra_forbidden":
        return f"unknown key{nearest(detail['loc'][-1], keys)}"
    if kind == "missing":
        return "missing"
    if kind == "tuple_type":
        return f"must be a list, got {detail['input']!r}"
    if kind == "literal_error":
        return f"'{detail['input']}' is none of {detail['ctx']['expected']}"
    return f"{message[0].lower()}{message[1:]}, got {detail['input']!r}"
