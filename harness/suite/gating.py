"""How a suite is gated (docs/gate.md): the numbers of every rule. All of them are printed with a verdict."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from harness.compare.rules import MARGIN
from harness.settings import Settings

Seeds = tuple[Annotated[int, Field(ge=0, lt=2**63)], ...]


class GateSettings(Settings):
    """Rules of `harness gate`. Losses are in the suite's own unit."""

    first_look: int = Field(default=5, ge=2)
    """Of the suite's seeds, so many are trained for the first look; the rest join at the second."""
    confirm: Seeds = Field(default=(101, 102, 103, 104, 105), min_length=2, strict=False)
    """Fresh seeds on which a failure is to be found again before it counts."""
    calibrate: Seeds = Field(default=(201, 202, 203, 204, 205), strict=False)
    """Seeds of the baseline arm that calibration trains besides those of the looks and the confirmation."""
    alpha: float = Field(default=0.005, ge=1e-4, lt=0.5)
    """Of a look, one-sided, for all arms together."""
    margin: float = Field(default=MARGIN, gt=0.0)
    """δ: an arm passes where its loss is shown to have risen by less."""
    trivial: float = Field(default=0.2, ge=0.0, le=1.0)
    """Of the margin: a mean rise up to this share is never a failure, however significant."""
    drift: float = Field(default=2.0, ge=1.0)
    """Of the margin: so much may have been lost since the anchor."""
    golden_steps: int = Field(default=20, ge=4)
    """Steps of the short runs whose losses are to be equal, step by step."""
    close_steps: int = Field(default=10, ge=1)
    """Of these, how many are held against a baseline of another environment."""
    close: float = Field(default=2e-5, gt=0.0)
    """Relative difference of a loss up to which it counts as the same there."""
    start: float = Field(default=1e-6, gt=0.0)
    """Relative difference to the residual network's state at initialisation, of arms that start as that network."""
    spikes: float = Field(default=0.02, ge=0.0, le=1.0)
    """Largest share of spikes among the steps."""
    sigmas: float = Field(default=10.0, gt=0.0)
    """A single loss this many standard deviations over seeds above the baseline's is a divergence."""
    memory: float = Field(default=0.02, ge=0.0)
    """Rise of saved bytes, and of peak memory, that is let pass."""
    memory_floor: int = Field(default=32 * 2**20, ge=0)
    """Bytes; a rise of peak memory by less is let pass too."""
    slowdown: float = Field(default=0.05, ge=0.0)
    """Of the throughput as a ratio to the baseline arm's: too slow where even the interval's lower end is beyond it."""
    throughput: Literal["report", "fail"] = "report"
    """What too slow means; on shared machines it is only reported."""
    stale_days: int = Field(default=90, ge=1)
    """Age at which a calibration is no longer used unless asked for."""

    def problem(self, seeds: tuple[int, ...]) -> tuple[str, str] | None:
        """(key, what is wrong) beside the suite's seeds, else None."""
        if repeated := {*seeds} & {*self.confirm, *self.calibrate} or {*self.confirm} & {*self.calibrate}:
            return "confirm", f"seed {min(repeated)} is not fresh: seeds of looks, confirmation and calibration differ"
        if len({*self.confirm}) < len(self.confirm) or len({*self.calibrate}) < len(self.calibrate):
            return "confirm", "a seed is named twice"
        if self.close_steps > self.golden_steps:
            return "close_steps", f"{self.close_steps} are more than the {self.golden_steps} golden steps"
        return None
