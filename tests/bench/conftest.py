"""What a bench leaves behind is cleared away."""

from __future__ import annotations

from collections.abc import Iterator
from multiprocessing import forkserver

import pytest


@pytest.fixture(autouse=True, scope="module")
def _no_server_is_left() -> Iterator[None]:
    """A process has one server that forks, and a bench's has not the imports that cells want: the cells of all tests
    after it would begin with ten seconds of them."""
    yield
    forkserver._forkserver._stop()  # type: ignore[attr-defined]
