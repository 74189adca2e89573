"""What the tests of images share."""

from __future__ import annotations

import numpy as np
import pytest

from harness.data.images import ImageSet
from harness.errors import UsageError


def everything(images: ImageSet) -> tuple[np.ndarray, ...]:
    sides = (images.train, images.valid)
    return tuple(a for side in sides for a in (side.pixels(np.arange(len(side))), side.labels))


def one_line(caught: pytest.ExceptionInfo[UsageError], *parts: str) -> None:
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("data.")
    for part in parts:
        assert part in str(caught.value)
