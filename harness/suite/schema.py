"""The schema of a suite: what it says once presets, grid and overrides have been applied (`file.py` does that)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from harness.compare.rules import MARGIN
from harness.connections.settings import AnyConnection
from harness.data.settings import AnyData, StdlibSettings
from harness.evaluation.settings import EvaluationSettings
from harness.models.settings import AnyModel
from harness.settings import Settings
from harness.suite.gating import GateSettings
from harness.training.settings import TrainSettings


class SeedStreams(Settings):
    """Fixes a random stream for every seed of the suite; a stream left out is derived from the cell's seed."""

    backbone: int | None = Field(default=None, ge=0, lt=2**63)
    """Initial weights that all arms share."""
    connection: int | None = Field(default=None, ge=0, lt=2**63)
    """Initial weights of the connection."""
    data: int | None = Field(default=None, ge=0, lt=2**63)
    """Order of the batches."""
    dropout: int | None = Field(default=None, ge=0, lt=2**63)


class Resize(Settings):
    """The arm's model in another size: the one that costs what another arm costs, by formula (`resize.py`)."""

    match: Literal["params", "memory", "time"]
    """What is to be the same: parameters; memory of a training step; time of a training step."""
    arm: str
    """The arm whose costs are to be met."""
    by: Literal["width", "depth"] = "width"
    """What grows or shrinks first; the width of the feed-forward does the rest."""
    device: str | None = None
    """The chip, of those in the table, by whose peak and bandwidth the time is reckoned (h100 by default), or on which
    the memory is used."""
    ratio: float | None = Field(default=None, gt=0.0)
    """Of times instead: as measured, the other arm's time of a step over that of this arm in the size it has without
    resizing."""


class Arm(Settings):
    """One row of the table: a connection, and settings in which the arm differs from the suite besides."""

    connection: AnyConnection
    model: AnyModel
    train: TrainSettings
    baseline: str | None = None
    """The arm that this one is compared with, where it is not the suite's baseline."""
    resize: Resize | None = None


class Reported(Settings):
    """What a paper printed for some of the arms: shown beside the suite's own results, never mixed with them."""

    title: str = Field(min_length=1, max_length=40)
    """Heads the column, with the unit: "V2 loss, nats"."""
    source: str = Field(min_length=1)
    """Paper and table."""
    setting: str = ""
    """Model, tokens and seeds of those runs."""
    values: dict[str, float] = Field(min_length=1)
    """By arm, the baseline among them; differences to the baseline are what the table shows."""


class Suite(Settings):
    """A suite file after presets, grid and overrides have been applied: every arm is complete."""

    name: str = Field(min_length=1, max_length=100)
    description: str = ""
    baseline: str
    seeds: tuple[int, ...] = Field(min_length=1, strict=False)
    streams: SeedStreams = SeedStreams()
    scale: str | None = None
    data: AnyData = StdlibSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    arms: dict[str, Arm] = Field(min_length=1)
    reported: tuple[Reported, ...] = Field(default=(), strict=False)
    margin: float = Field(default=MARGIN, gt=0.0)
    """Losses closer than this count as equivalent, in the unit of the loss."""
    ladder: tuple[str, ...] = Field(default=(), strict=False)
    """Arms that are one and the same but for their budget: what a loss is worth in compute is read off them."""
    gate: GateSettings = GateSettings()
    """Rules of `harness gate`."""

    def baseline_of(self, arm: str) -> str:
        """The arm that `arm` is compared with."""
        return self.arms[arm].baseline or self.baseline

    def twin_of(self, arm: str) -> tuple[str, str] | None:
        """(match, other arm) of an arm that stands for the other's baseline, resized until it costs as much; None of
        an arm that was resized and has another connection than that baseline."""
        resize = self.arms[arm].resize
        head = None if resize is None or resize.arm not in self.arms else self.arms.get(self.baseline_of(resize.arm))
        if resize is None or head is None or head.connection != self.arms[arm].connection:
            return None
        return resize.match, resize.arm

    def baselines(self) -> list[str]:
        """The arms that others are compared with, in the suite's order: every one heads a table of its own."""
        heads = {self.baseline_of(arm) for arm in self.arms}
        return [arm for arm in self.arms if arm in heads]

    def reported_values(self) -> dict[str, dict[str, float]]:
        """Title -> arm -> value."""
        return {reported.title: dict(reported.values) for reported in self.reported}
