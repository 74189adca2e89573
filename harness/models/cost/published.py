"""Operations as the papers of Hyper- and Frac-Connections count them, for the record: the harness counts otherwise.

HC, arXiv 2409.19606, Table 8; FC, arXiv 2503.14125, Table 2: forward GFLOPs per token. Neither states its rules; these
give all printed digits of the five OLMo-1B rows and of both OLMo-2 rows, and the others within 0.02 %:

- two for every matrix parameter that a token meets, the unembedding among them; attention's scores are left out;
- one for every element of every sum with the residual, and one for every learned number of the branches' norms;
- HC in the residual's place: 2 n (n + 2) - 1 an element; dynamic, 2 (n + 1) more for a projection *once per token*,
  where every stream has its own, and 4 n for its norm;
- FC in the residual's place: 4 m + 1 an element, its dynamic projection not counted.

No rules whose terms grow with width times depth give both OLMo-7B rows too: a residual there is 2.09 to 2.48 such
terms, and 0.32 to 1.85 in OLMo-1B.
"""

from __future__ import annotations

from dataclasses import dataclass

from harness.connections.settings import (
    ConnectionSettings,
    FracSettings,
    HyperSettings,
    ResidualSettings,
    norm_parameters,
)
from harness.data.inputs import Inputs
from harness.models.cost.operations import token_products
from harness.models.cost.weights import key_width
from harness.models.settings import DecoderSettings


@dataclass(frozen=True, kw_only=True)
class Printed:
    """A row of a paper's table; `scale` is our preset."""

    table: str
    row: str
    scale: str
    connection: ConnectionSettings
    gflops: float
    """Forward, per token."""


def _hyper(rate: int, dynamic: bool = True) -> HyperSettings:
    return HyperSettings(rate=rate, dynamic=dynamic)


PRINTED: tuple[Printed, ...] = tuple(
    Printed(table=table, row=row, scale=scale, connection=connection, gflops=gflops)
    for table, row, scale, connection, gflops in (
        ("HC, Table 8", "OLMo-1B", "olmo-1b", ResidualSettings(), 2.3536),
        ("HC, Table 8", "OLMo-1B-SHC×2", "olmo-1b", _hyper(2, dynamic=False), 2.3545),
        ("HC, Table 8", "OLMo-1B-SHC×4", "olmo-1b", _hyper(4, dynamic=False), 2.3566),
        ("HC, Table 8", "OLMo-1B-DHC×2", "olmo-1b", _hyper(2), 2.3554),
        ("HC, Table 8", "OLMo-1B-DHC×4", "olmo-1b", _hyper(4), 2.3583),
        ("HC, Table 8", "OLMo-7B", "olmo-7b", ResidualSettings(), 13.3647),
        ("HC, Table 8", "OLMo-7B-DHC×4", "olmo-7b", _hyper(4), 13.3844),
        ("HC, Table 8", "OLMoE-1B-7B", "olmoe-1b-7b", ResidualSettings(), 2.3580),
        ("HC, Table 8", "OLMoE-1B-7B-DHC×4", "olmoe-1b-7b", _hyper(4), 2.3629),
        ("FC, Table 2", "OLMo2-1B2", "olmo2-1b2", ResidualSettings(), 2.5587),
        ("FC, Table 2", "OLMo2-1B2-DFC×4", "olmo2-1b2", FracSettings(rate=4), 2.5598),
        # Printed is HC's total again; this is the row's own increase, 0.056 %.
        ("FC, Table 2", "OLMoE-1B-7B-DFC×4", "olmoe-1b-7b", FracSettings(rate=4), 2.3580 * 1.00056),
    )
)


def paper_flops_per_token(model: DecoderSettings, connection: ConnectionSettings, inputs: Inputs) -> int:
    """Forward operations per token by the papers' rules. Raises TypeError for a connection that they do not count."""
    width = model.width
    if isinstance(connection, HyperSettings):
        n = connection.rate
        each = 2 * n * (n + 2) - 1 + (2 * (n + 1) + 4 * n if connection.dynamic else 0)
    elif isinstance(connection, FracSettings):
        each = 4 * connection.rate + 1
    elif isinstance(connection, ResidualSettings):
        each = 1
    else:
        raise TypeError(f"the papers do not count a {connection.type}")
    norms = 2 * norm_parameters(model.norm_type, width) + (width + key_width(model) if model.qk_norm else 0)
    return 2 * token_products(model, inputs) + each * width * model.sublayers + norms * model.layers
