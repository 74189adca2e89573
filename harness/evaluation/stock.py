"""lm-eval's own tasks by name: found in its files without importing it, so that `plan` stays instant.

lm-eval's index of its 14,000 files takes ten seconds, every time. Names stand on lines of their own in those files, so
a search of their text finds them in a fifth of a second, and only the files that are asked for are read as YAML.
"""

from __future__ import annotations

import fnmatch
import functools
import hashlib
import importlib.util
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml

from harness.errors import UsageError, close

NAME = re.compile(rb'^["\']?(task|group)["\']?[ \t]*:[ \t]*["\']?([\w.+/()-]+)["\']?[ \t]*(?:#.*)?\r?$', re.MULTILINE)
PYTHON = re.compile(rb'^["\']?class["\']?[ \t]*:', re.MULTILINE)
INCLUDE = re.compile(rb'^["\']?include["\']?[ \t]*:[ \t]*["\']?([^"\'\s#]+)', re.MULTILINE)
SKIPPED = {"__pycache__", ".ipynb_checkpoints"}


@dataclass(frozen=True)
class Leaf:
    """A task that is scored. `parents` are the names of the groups and tags on the way to it, the nearest last."""

    name: str
    path: Path
    config: dict[str, Any]
    """Its YAML with what it includes, functions as text. Overrides of a group come on top."""
    parents: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """SHA-256 of how lm-eval asks: the configuration, and the release of lm-eval, whose code is part of it."""
        return hashlib.sha256(f"{version()}\0{sorted(map(repr, self.config.items()))}".encode()).hexdigest()


@dataclass(frozen=True)
class Group:
    """Tasks that are reported together. `members` are names of leaves and groups below it."""

    name: str
    config: dict[str, Any]
    members: tuple[str, ...]


@dataclass(frozen=True)
class Stock:
    """What a name stands for: leaves in order, and the groups among them, outermost first."""

    name: str
    leaves: tuple[Leaf, ...]
    groups: tuple[Group, ...] = ()


def version() -> str:
    """Of the installed lm-eval. Raises UsageError without it."""
    try:
        return metadata.version("lm_eval")
    except metadata.PackageNotFoundError:
        raise UsageError("evaluation.tasks: lm-eval is not installed; with tasks: [] nothing is scored") from None


def find(name: str, read: Callable[[Path], dict[str, Any]] | None = None) -> Stock:
    """The task, group or tag called `name`; its files are read with `read`, by default safely and functions as text.
    Raises UsageError with the nearest names where there is none."""
    version()
    finder = _Finder(read or _read)
    unique = {leaf.name: leaf for leaf in finder.leaves(name, (), {})}
    return Stock(name, tuple(unique.values()), tuple(finder.groups))


def matching(pattern: str) -> list[str]:
    """Names of tasks and groups that a pattern with `*` stands for."""
    return sorted(fnmatch.filter(_index(), pattern))


def known(name: str) -> bool:
    return name in _index() or bool(_tagged(name))


class _Finder:
    def __init__(self, read: Callable[[Path], dict[str, Any]]):
        self.read = read
        self.groups: list[Group] = []

    def leaves(self, name: str, parents: tuple[str, ...], overrides: dict[str, Any]) -> Iterator[Leaf]:
        if name in parents:
            raise UsageError(f"evaluation.tasks: '{name}' of lm-eval contains itself")
        found = _index().get(name)
        if found is None:
            tagged = _tagged(name)
            if not tagged:
                raise UsageError(f"evaluation.tasks: no task is called '{name}'{_nearest(name)}")
            for task in tagged:
                yield from self.leaves(task, (*parents, name), overrides)
            return
        kind, path = found
        config = self.read(path)
        if kind == "task":
            for structural in ("tag", "group", "task_list"):
                config.pop(structural, None)
            yield Leaf(name, path, {**config, **overrides, "task": name}, parents)
            return
        yield from self._members(name, config, parents, overrides)

    def _members(
        self, name: str, config: dict[str, Any], parents: tuple[str, ...], overrides: dict[str, Any]
    ) -> Iterator[Leaf]:
        """What a group has in its `task:` list: names, names with overrides, groups written out."""
        own = {key: value for key, value in config.items() if key not in GROUP_KEYS}
        below = {**own, **overrides}
        place, members = len(self.groups), []
        self.groups.append(Group(name, config, ()))
        listed = config.get("task")
        for member in listed if isinstance(listed, list) else ():
            more: dict[str, Any] = {}
            if isinstance(member, dict):
                more = {key: value for key, value in member.items() if key not in ("task", "group")}
                if isinstance(member.get("task"), list):  # a group written out
                    inner = f"{name}::{member['group']}"
                    members.append(inner)
                    yield from self._members(inner, member, (*parents, name), below)
                    continue
                member = member.get("group") or member.get("task")
            if not isinstance(member, str) or not known(member):
                raise UsageError(f"evaluation.tasks: the group '{name}' of lm-eval has a member that is not a name")
            before = len(self.groups)
            leaves = list(self.leaves(member, (*parents, name), {**below, **more}))
            members += [member] if len(self.groups) > before else [leaf.name for leaf in leaves]
            yield from leaves
        self.groups[place] = Group(name, config, tuple(members))


GROUP_KEYS = {"group", "group_alias", "task", "aggregate_metric_list", "metadata", "tag", "include"}
"""Keys of a group that are not meant for its members."""


def _nearest(name: str) -> str:
    """Names that are near: of the many that begin so, those of the folder that is called most alike, then the short."""
    beginning = [known for known in _index() if known.startswith(name)]
    if beginning:
        first = sorted(beginning, key=lambda known: (len(_index()[known][1].parent.name), len(known)))[:3]
        return f"; there are {', '.join(first)}"
    return close(name, _index()) or "; lm-eval ls tasks lists all"


def folder() -> Path:
    """Where lm-eval keeps its tasks."""
    version()
    found = importlib.util.find_spec("lm_eval")
    assert found is not None
    assert found.origin is not None
    return Path(found.origin).parent / "tasks"


@functools.cache
def _texts() -> dict[Path, bytes]:
    """All YAML files of lm-eval's tasks, in the order of their paths, as lm-eval itself goes through them."""
    paths = []
    for place, folders, files in os.walk(folder()):
        folders[:] = [name for name in folders if name not in SKIPPED]
        paths += [Path(place, name) for name in files if name.endswith(".yaml")]
    return {path: path.read_bytes() for path in sorted(paths, key=Path.as_posix)}


@functools.cache
def _index() -> dict[str, tuple[str, Path]]:
    """Name -> (task or group, file); of two files with one name the first, as in lm-eval."""
    index: dict[str, tuple[str, Path]] = {}
    for path, text in _texts().items():
        names = {kind.decode(): name.decode() for kind, name in NAME.findall(text)}
        # A task written in Python may name a group that it is of, and is a task all the same.
        kind = "group" if "group" in names and not PYTHON.search(text) else "task"
        if kind in names:
            index.setdefault(names[kind], (kind, path))
    return index


@functools.cache
def _includers() -> dict[Path, list[Path]]:
    """Which files include a file, templates without the ending .yaml among these."""
    includers: dict[Path, list[Path]] = {}
    for path, text in _texts().items():
        for name in INCLUDE.findall(text):
            includers.setdefault(Path(os.path.normpath(path.parent / name.decode())), []).append(path)
    return includers


@functools.cache
def _tagged(tag: str) -> tuple[str, ...]:
    """Names of the tasks with this tag, which a file may have from one that it includes."""
    word, texts = tag.encode(), _texts()
    templates = [path for path in _includers() if path not in texts and path.is_file()]
    waiting = [path for path, text in texts.items() if word in text]
    waiting += [path for path in templates if word in path.read_bytes()]
    holding: set[Path] = set()
    while waiting:
        if (path := waiting.pop()) not in holding:
            holding.add(path)
            waiting += _includers().get(path, [])
    names = set()
    for path in holding & texts.keys():
        config = _read(path)
        tags = config.get("tag") or []
        if tag in ([tags] if isinstance(tags, str) else tags) and isinstance(config.get("task"), str):
            names.add(config["task"])
    return tuple(sorted(names))


class _Loader(yaml.SafeLoader):
    """Safe: `!function utils.f` is read as the text that it is."""


_Loader.add_constructor("!function", lambda loader, node: f"!function {node.value}")


def _read(path: Path, above: tuple[Path, ...] = ()) -> dict[str, Any]:
    """The file with what it includes below it, as lm-eval merges them."""
    path = Path(os.path.normpath(path))
    if path in above:
        raise UsageError(f"evaluation.tasks: {path} of lm-eval includes itself")
    try:
        config = yaml.load(path.read_bytes(), Loader=_Loader)  # noqa: S506  a SafeLoader
    except (OSError, yaml.YAMLError) as error:
        raise UsageError(f"evaluation.tasks: {path} of lm-eval cannot be read: {error}") from error
    if not isinstance(config, dict):
        raise UsageError(f"evaluation.tasks: {path} of lm-eval is no mapping")
    included = config.pop("include", None) or []
    merged: dict[str, Any] = {}
    for name in [included] if isinstance(included, str) else included:
        inner = _read(path.parent / name, (*above, path))
        inner.pop("task_list", None)
        merged.update(inner)
    return {**merged, **config}
