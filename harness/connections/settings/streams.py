"""ResiDual and AltUp, several streams without Hyper-Connections: what may be switched, and what it costs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from harness.connections.settings.base import BRANCHES_PER_BLOCK, MOST_ROWS, ConnectionSettings, Start, not_whole_blocks

if TYPE_CHECKING:
    from harness.connections.streams import AltUpConnections, ResiDualConnections


class ResiDualSettings(ConnectionSettings):
    """ResiDual, arXiv 2304.14802: a post-norm stream that is read, and the plain sum of all outputs beside it."""

    type: Literal["resi_dual"] = "resi_dual"

    def tag(self) -> str:
        return "resi-dual"

    def build(self, dim: int, sublayers: int) -> ResiDualConnections:
        from harness.connections.streams import ResiDualConnections

        return ResiDualConnections(dim)

    def parameter_count(self, dim: int, sublayers: int) -> int:
        return dim  # the norm of the plain sum; the branches' own norms serve the other stream

    def flops_per_token(self, dim: int, sublayers: int) -> int:
        return 2 * dim * sublayers + dim  # the output added to either stream; their sum at the end

    def stream_traffic(self, dim: int, sublayers: int) -> tuple[int, int]:
        return 4 * dim * sublayers, 2 * dim * sublayers

    def saved_bytes(self, dim: int, sublayers: int) -> int:
        # What transform and norm read; nothing for the plain sum but at its end, where torch takes RMSNorm apart: the
        # sum, the same normalised (for the gradient of the weight), and the statistic.
        return 4 * (2 * dim * sublayers + 2 * dim + 1)

    def moves_norm(self) -> bool:
        return True

    def start(self) -> Start:
        return Start("own")


class AltUpSettings(ConnectionSettings):
    """Recycled AltUp, arXiv 2301.13310: `rate` n streams, of which each block computes one and predicts the others."""

    type: Literal["altup"] = "altup"
    rate: int = Field(default=2, ge=2, le=MOST_ROWS)
    """Number of streams n; block b computes stream b mod n."""

    def tag(self) -> str:
        return f"altup-n{self.rate}"

    def build(self, dim: int, sublayers: int) -> AltUpConnections:
        from harness.connections.streams import AltUpConnections

        return AltUpConnections(self, sublayers)

    def parameter_count(self, dim: int, sublayers: int) -> int:
        return (self.rate**2 + self.rate) * (sublayers // BRANCHES_PER_BLOCK)

    def flops_per_token(self, dim: int, sublayers: int) -> int:
        n = self.rate
        flops = 2 * dim * n * n + dim + 2 * dim * n  # prediction, its error on one stream, the correction of all
        flops += BRANCHES_PER_BLOCK * dim  # the residuals inside the block
        return flops * (sublayers // BRANCHES_PER_BLOCK) + n * dim  # the sum at the end

    def stream_traffic(self, dim: int, sublayers: int) -> tuple[int, int]:
        n = self.rate
        read, written = BRANCHES_PER_BLOCK * 2 * dim, BRANCHES_PER_BLOCK * dim  # the residuals inside the block
        read, written = read + n * dim + n * n, written + n * dim  # prediction
        read, written = read + 2 * dim, written + dim  # its error
        read, written = read + dim + n + 2 * n * dim, written + 2 * n * dim  # the error times the gains, added
        return read * (sublayers // BRANCHES_PER_BLOCK), written * (sublayers // BRANCHES_PER_BLOCK)

    def saved_bytes(self, dim: int, sublayers: int) -> int:
        n = self.rate
        # Per block the streams, for the gradient of the prediction, of which attention's norm reads one; what the
        # feed-forward's norm and the two transforms read; the prediction's error, for the gradient of the gains.
        each = n * dim + 3 * dim + dim
        first = -(n - 1) * dim if sublayers else 0  # the first streams are n views of the embedding
        return 4 * (each * (sublayers // BRANCHES_PER_BLOCK) + first)

    def cast_states(self, sublayers: int) -> int:
        return sublayers // BRANCHES_PER_BLOCK + self.rate - 1

    def start(self) -> Start:
        return Start("pre-norm", self.rate)  # n equal streams, summed

    def problem(self, dim: int, sublayers: int) -> tuple[str, str] | None:
        return not_whole_blocks(self.type, sublayers)
