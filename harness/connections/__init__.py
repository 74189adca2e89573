"""Connection types. The modules around one sub-layer are for a model of one's own; `build` makes the whole stack of any
type in the table. Names are imported when they are asked for: the table needs no torch, kernels no pydantic."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.connections.base import Connections
    from harness.connections.frac import FracConnection, FracConnections
    from harness.connections.generalized import GeneralizedConnection
    from harness.connections.hyper import HyperConnection, HyperConnections
    from harness.connections.manifold import IdentityConnection, ManifoldConnection, PermutationConnection
    from harness.connections.settings import CONNECTIONS, ConnectionSettings

__all__ = [
    "CONNECTIONS",
    "FracConnection",
    "FracConnections",
    "GeneralizedConnection",
    "HyperConnection",
    "HyperConnections",
    "IdentityConnection",
    "ManifoldConnection",
    "PermutationConnection",
    "build",
]

_HOME = {
    "CONNECTIONS": "settings",
    "FracConnection": "frac",
    "FracConnections": "frac",
    "GeneralizedConnection": "generalized",
    "HyperConnection": "hyper",
    "HyperConnections": "hyper",
    "IdentityConnection": "manifold",
    "ManifoldConnection": "manifold",
    "PermutationConnection": "manifold",
}


def build(settings: ConnectionSettings, dim: int, sublayers: int) -> Connections:
    """The stack that `settings` asks for, around `sublayers` branches of width `dim`."""
    return settings.build(dim, sublayers)


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
