"""What a page is made from, gathered once: plain data, no layout, no tracker, no matplotlib."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.compare.match import Match
    from harness.compare.results import Comparison
    from harness.compare.tasks import TaskResult

Curves = Mapping[str, Mapping[int, Mapping[int, float]]]
"""arm -> seed -> step -> held-out loss"""


@dataclass(frozen=True, kw_only=True)
class Invocation:
    """How a suite was named on the command line, so that every number can be asked for again."""

    suite: str
    overrides: tuple[str, ...] = ()
    expression: str | None = None
    smoke: bool = False
    results: str | None = None

    def command(self, verb: str, expression: str | None = None, *more: str) -> str:
        """One line for a shell; `expression` takes the place of the own one."""
        chosen = expression or self.expression
        words = ["harness", verb, self.suite, *self.overrides]
        words += ["-k", chosen] if chosen else []
        words += ["--smoke"] if self.smoke else []
        words += ["--results", self.results] if self.results else []
        return shlex.join([*words, *more])


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What a cell of an arm spends, mean over its finished seeds; None is not recorded."""

    tokens: float | None = None
    flops: float | None = None
    time: float | None = None
    """In whole runs of the baseline."""


@dataclass(frozen=True, kw_only=True)
class Study:
    """The arms that share a baseline."""

    views: Mapping[Match, Comparison]
    """By what is made equal; `tokens` is always there."""
    losses: Mapping[str, Mapping[int, float]] = field(default_factory=dict)
    """arm -> seed -> held-out loss at the end"""
    curves: Curves = field(default_factory=dict)
    budgets: Mapping[str, Budget] = field(default_factory=dict)
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """arm -> its resolved connection, model and train"""
    diagnostics: Mapping[str, Mapping[int, Any]] = field(default_factory=dict)
    """arm -> seed -> document (docs/connection-diagnostics.md)"""
    costs: Mapping[str, Any] = field(default_factory=dict)
    """arm -> what the interleaved measurement found (docs/costs.md)"""
    tasks: Sequence[TaskResult] = ()
    """Answers held against the baseline's, document by document."""
    spikes: Mapping[str, Mapping[str, Sequence[float]]] = field(default_factory=dict)
    """Kind -> arm -> the share of steps of every seed that were one."""

    @property
    def table(self) -> Comparison:
        return self.views["tokens"]

    @property
    def baseline(self) -> str:
        return self.table.baseline

    @property
    def unit(self) -> str:
        return self.table.unit

    @property
    def arms(self) -> list[str]:
        return [row.arm for row in self.table.rows]


@dataclass(frozen=True, kw_only=True)
class Made:
    """How one cell was made."""

    arm: str
    seed: int
    state: str
    folder: str
    command: str
    run_id: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    """python, torch, hardware, commit; what was not recorded is not there."""


@dataclass(frozen=True, kw_only=True)
class Facts:
    """All that the page says."""

    suite: str
    description: str
    about: Sequence[tuple[str, str]]
    """What was trained, on what, when: a term and what it is."""
    studies: Sequence[Study]
    made: Sequence[Made]
    invocation: Invocation
    command: str
    """Makes this page again."""
    measured: str = ""
    """Machine and order of the interleaved measurement; empty where there was none."""
    smoke: bool = False
