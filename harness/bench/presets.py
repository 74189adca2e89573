"""What is trained in a bench: shapes by name, without torch.

The vocabulary is small on purpose where the shape is ours: an unembedding costs every arm the same, and would hide what
the connections cost.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from harness.data.inputs import TextInputs
from harness.errors import UsageError, nearest
from harness.models.presets import SCALES
from harness.models.settings import DecoderSettings

VOCABULARY = 512

OWN: dict[str, dict[str, Any]] = {
    # Seconds, for tests and for a first look at the columns. Its ratios are those of calls, not of work, which two
    # threads do no faster than one.
    "bench-toy": {
        "model": {"layers": 2, "width": 32, "heads": 2, "context": 32},
        "batch": 4,
        "precision": "fp32",
        "threads": 1,
    },
    # The row of a CPU: 4,096 tokens a step, about a second on two cores.
    "bench-d256": {
        "model": {"layers": 6, "width": 256, "heads": 8, "context": 256},
        "batch": 16,
        "precision": "fp32",
    },
    # The scale `mid`, 16,384 tokens a step.
    "bench-d768": {"model": SCALES["mid"]["model"], "batch": 16, "precision": "bf16"},
    # Four blocks of `olmo-1b`: its width is what decides the ratio, and seven arms of sixteen blocks fit no device.
    "bench-d2048": {
        "model": {**SCALES["olmo-1b"]["model"], "layers": 4, "vocabulary": None},
        "batch": 8,
        "precision": "bf16",
    },
}
CPU_DEFAULT, CUDA_DEFAULT = "bench-d256", "bench-d768"


@dataclass(frozen=True, kw_only=True)
class Preset:
    """A shape, and how much of it is a step."""

    name: str
    model: DecoderSettings
    batch: int
    """Sequences of a step."""
    precision: Literal["fp32", "bf16"]
    fixed: bool
    """The batch is part of what the name means; otherwise it is halved until everything fits."""
    threads: int | None = None
    """Of a CPU, where nobody says otherwise; by default all cores."""

    @property
    def inputs(self) -> TextInputs:
        return TextInputs(self.model.vocabulary or VOCABULARY)

    @property
    def tokens(self) -> int:
        """Of a step."""
        return self.batch * self.model.context


def names() -> list[str]:
    """Our own, then the scales of text."""
    return [*OWN, *(name for name, scale in SCALES.items() if scale["model"].get("type", "decoder") == "decoder")]


def find(name: str) -> Preset:
    """The preset of that name. Of a scale a step has what it trains on at a time (`micro_batch_size`), or its batch.

    Raises UsageError for a name that nobody has.
    """
    if name not in names():
        raise UsageError(f"--preset: no preset is called '{name}'{nearest(name, names())}")
    if name in OWN:
        one = OWN[name]
        model = DecoderSettings.model_validate(one["model"])
        how = {key: value for key, value in one.items() if key != "model"}
        return Preset(name=name, model=model, fixed=True, **how)
    train = SCALES[name]["train"]
    return Preset(
        name=name,
        model=DecoderSettings.model_validate(SCALES[name]["model"]),
        batch=train.get("micro_batch_size") or train["batch_size"],
        precision=train.get("precision", "fp32"),
        fixed=False,
    )
