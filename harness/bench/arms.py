"""Who takes part: arms by their tags, and another package's connections beside them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import ValidationError

from harness.bench.presets import Preset
from harness.conform.targets import standard
from harness.connections.settings import (
    CONNECTIONS,
    ConnectionSettings,
    FracSettings,
    HyperSettings,
    MHCSettings,
    connection_types,
)
from harness.errors import UsageError, close, nearest

BASELINE = "residual"
DEFAULT = (BASELINE, "dhc-n4", "dhc-n2", "shc-n4", "dfc-m4", "sfc-m4", "mhc-n4")
RATES = range(1, 17)
"""That a tag may name; what kernels take."""

Kernels = Literal["auto", "plain", "fused"]


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A model that is measured."""

    arm: str
    connection: ConnectionSettings
    """Of a peer our type of the same shape, for what formulas say."""
    kernels: Kernels = "auto"
    peer: str | None = None
    """Its adapter in `harness.conform.peers`."""
    compiled: bool = False

    @property
    def name(self) -> str:
        """Unique in a bench."""
        marks = [self.kernels] if self.kernels != "auto" else []
        return ", ".join([self.arm, *marks, *(["compiled"] if self.compiled else [])])


PEERS: dict[str, tuple[str, ConnectionSettings]] = {
    "hyper-connections/hc-n4": ("hyper-connections/hc", HyperSettings(rate=4)),
    "hyper-connections/hc-n2": ("hyper-connections/hc", HyperSettings(rate=2)),
    "hyper-connections/mhc-n4": ("hyper-connections/mhc", MHCSettings(rate=4)),
    "hyper-connections/frac-m4": ("hyper-connections/frac", FracSettings(rate=4)),
}
"""Name of the row -> (adapter, our type of the same shape)."""


def catalogue() -> dict[str, ConnectionSettings]:
    """Every tag that can be asked for: the forms of every type that stand for it in `harness conform`, and those with a
    rate at every rate up to 16."""
    found: dict[str, ConnectionSettings] = {}
    for kind in connection_types():
        for settings in _forms(kind):
            found.setdefault(settings.tag(), settings)
    return found


def _forms(kind: str) -> Iterator[ConnectionSettings]:
    try:
        forms = standard(kind)
    except UsageError:  # a type of another package that cannot do without settings
        return
    yield from forms
    for form in forms:
        if "rate" in type(form).model_fields:
            yield from _valid(kind, ({**form.model_dump(), "rate": rate} for rate in RATES))
        if kind == "ghc":
            pairs = ((m, n) for m in RATES for n in RATES if n >= m)
            yield from _valid(kind, ({**form.model_dump(), "fractions": m, "slots": n} for m, n in pairs))


def _valid(kind: str, raws: Iterator[dict[str, Any]]) -> Iterator[ConnectionSettings]:
    for raw in raws:
        try:
            yield CONNECTIONS[kind].model_validate(raw)
        except ValidationError:  # a rate that the type does not take
            continue


def find(words: str | None, preset: Preset) -> list[Entry]:
    """The arms of a list of tags with commas, the residual first; a type's name stands for its forms in `harness
    conform`. Raises UsageError for a name that nobody has, and for an arm that does not fit the preset."""
    tags = catalogue()
    asked = [word.strip() for word in words.split(",") if word.strip()] if words is not None else list(DEFAULT)
    if not asked:
        raise UsageError("--arms: names no arm")
    found: dict[str, ConnectionSettings] = {BASELINE: tags[BASELINE]}
    for word in asked:
        if word in tags:
            found[word] = tags[word]
        elif word in connection_types():
            found.update((settings.tag(), settings) for settings in standard(word))
        else:
            raise UsageError(f"--arms: no connection is called '{word}'{_near(word, tags)}")
    for tag, settings in found.items():
        _check(tag, settings, preset)
    return [Entry(arm=tag, connection=settings) for tag, settings in found.items()]


def _near(word: str, tags: dict[str, ConnectionSettings]) -> str:
    """The nearest of all names; where none is near, the usual ones and the types, for all would fill a page."""
    return close(word, [*tags, *connection_types()]) or nearest("", dict.fromkeys([*DEFAULT, *connection_types()]))


def _check(tag: str, settings: ConnectionSettings, preset: Preset) -> None:
    model = preset.model
    if problem := settings.problem(model.width, model.sublayers):
        raise UsageError(f"--arms: {tag}: {problem[1]} (preset '{preset.name}')")
    if why := model.problem_of(settings):
        raise UsageError(f"--arms: {tag}: {why} (preset '{preset.name}')")


def peers(preset: Preset) -> list[Entry]:
    """The package hyper-connections in its forms. Raises UsageError where it is not installed."""
    from harness.conform.peers import PEERS as ADAPTERS
    from harness.conform.subject import NotApplicable

    made = [Entry(arm=arm, connection=like, peer=adapter) for arm, (adapter, like) in PEERS.items()]
    for entry in made:
        assert entry.peer is not None
        try:
            ADAPTERS[entry.peer].subject(entry.peer, rate_of(entry))
        except NotApplicable as reason:
            raise UsageError(f"--peer: {reason}: pip install hyper-connections==0.4.11") from None
        _check(entry.arm, entry.connection, preset)
    return made


def rate_of(entry: Entry) -> int:
    """Of a peer: streams or fractions."""
    return entry.connection.claims().rows
