"""YAML with the line of every key, duplicate keys refused, and `3e-4` read as the number that it is."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from harness.errors import UsageError

KeyPath = tuple[str | int, ...]


class _Loader(yaml.SafeLoader):
    """SafeLoader (no objects are constructed) with YAML 1.2 floats: YAML 1.1 takes `3e-4` for a string."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:\d[\d_]*\.?[\d_]*|\.\d[\d_]*)[eE][-+]?\d+$"),
    list("-+0123456789."),
)


def parse_value(text: str) -> Any:
    """The value of a command-line override: `3e-4` is a number, `[1, 2]` a list, `true` a truth value. Raises
    UsageError for what is not YAML."""
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506  a SafeLoader, see above
    except yaml.YAMLError as error:
        raise UsageError(f"cannot read the value '{text}': {_problem(error)}") from error


def load(path: Path) -> tuple[dict[str, Any], dict[KeyPath, int]]:
    """The mapping in the file, and the line of every key and list element. Raises UsageError with file and line."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise UsageError(f"{path}: cannot read the file: {reason}") from error
    loader = None
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        lines: dict[KeyPath, int] = {}
        if node is not None:
            _record(node, (), lines, path)
        data = loader.construct_document(node) if node is not None else None
    except RecursionError:
        raise UsageError(f"{path}: nested too deep") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        raise UsageError(f"{path}{f':{mark.line + 1}' if mark else ''}: not YAML: {_problem(error)}") from error
    finally:
        if loader is not None:
            loader.dispose()
    if not isinstance(data, dict):
        raise UsageError(f"{path}: a file of settings is a mapping of keys, this one is {_kind(data)}")
    return data, lines


def _record(
    node: yaml.Node, key: KeyPath, lines: dict[KeyPath, int], path: Path, above: tuple[yaml.Node, ...] = ()
) -> None:
    lines.setdefault(key, node.start_mark.line + 1)
    if node in above:
        raise UsageError(f"{path}:{lines[key]}: {dotted(key)}: an alias stands inside itself")
    above = (*above, node)
    if isinstance(node, yaml.MappingNode):
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                raise UsageError(f"{path}:{line}: {dotted(key)}: a key must be a word")
            below = (*key, key_node.value)
            if below in lines:
                raise UsageError(f"{path}:{line}: {dotted(below)}: given twice (first on line {lines[below]})")
            lines[below] = key_node.start_mark.line + 1
            _record(value_node, below, lines, path, above)
    elif isinstance(node, yaml.SequenceNode):
        for index, value_node in enumerate(node.value):
            _record(value_node, (*key, index), lines, path, above)


def dotted(key: KeyPath) -> str:
    return ".".join(str(part) for part in key)


def _problem(error: yaml.YAMLError) -> str:
    return str(getattr(error, "problem", None) or error).replace("\n", " ")


def _kind(data: Any) -> str:
    return "empty" if data is None else f"a {type(data).__name__}"
