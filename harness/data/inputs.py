"""What the data bring with them that decides a model's shape."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TextInputs:
    """Token ids below `vocabulary`; `boundary` stands before every document."""

    vocabulary: int
    boundary: int | None = None


@dataclass(frozen=True)
class ImageInputs:
    """Square images, `size` pixels a side."""

    size: int
    channels: int
    classes: int


Inputs = TextInputs | ImageInputs
