"""Hyper-Connections with constrained mixing (mHC, Identity-HC, mHC-lite): what may be switched, and what it costs."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from harness.connections.settings.base import MOST_ROWS, Claims, ConnectionSettings, Start, fused_kept

if TYPE_CHECKING:
    from harness.connections.manifold import ManifoldConnections


class StreamSettings(ConnectionSettings):
    """What the three share: n streams, with coefficients that are predicted from the whole state by one matrix."""

    EXACT: ClassVar[bool] = False
    """The mixer is doubly stochastic by construction."""

    rate: int = Field(default=4, ge=1, le=MOST_ROWS)
    """Expansion rate n: the number of streams."""

    @abstractmethod
    def mixing_columns(self) -> int:
        """Raw numbers that the mixing of the carried streams is made of."""

    @abstractmethod
    def _mixing_kept(self) -> int:
        """Elements per token and sub-layer that are kept for the backward pass of the mixing matrix."""

    def _columns(self) -> int:
        return 2 * self.rate + self.mixing_columns()

    def parameter_count(self, dim: int, sublayers: int) -> int:
        """(n D + 1) columns + one scale for each kind: pre, post and, where the streams are mixed, res."""
        kinds = 3 if self.mixing_columns() else 2
        return ((self.rate * dim + 1) * self._columns() + kinds) * sublayers

    def flops_per_token(self, dim: int, sublayers: int) -> int:
        n = self.rate
        flops = 2 * n * dim * self._columns()  # the projection of all streams
        flops += 2 * n * dim + 2 * n * dim  # the read; post ⊗ output, added
        flops += 2 * n * n * dim if self.mixing_columns() else 0
        return flops * sublayers + n * dim  # the sum at the end

    def stream_traffic(self, dim: int, sublayers: int) -> tuple[int, int]:
        n = self.rate
        read, written = n * dim, 2 * n  # coefficients, however they are constrained
        read, written = read + n * dim + n, written + dim  # what the sub-layer reads
        read, written = read + dim + n + 2 * n * dim, written + 2 * n * dim  # post ⊗ output, and its sum with the rest
        if self.mixing_columns():
            read, written = read + n * dim + n * n, written + n * n + n * dim
        return read * sublayers, written * sublayers

    def saved_bytes(self, dim: int, sublayers: int) -> int:
        n = self.rate
        # The state, which the norm and the gradients of all coefficients need; what norm and transform read; the
        # output, for the gradient of post. The first state is a copy too, as one vector of all streams is normed.
        kept = n * dim + 2 * dim + dim
        kept += 2 * self._columns() + 2  # the projection before and after its norm; length and factor of that norm
        kept += n + 2 * n  # pre; post, and the sigmoid that it is twice of
        return 4 * (kept + self._mixing_kept()) * sublayers

    def fused_saved_bytes(self, dim: int, sublayers: int) -> int | None:
        n = self.rate
        # Coefficients, the raw numbers that they are made of, and one statistic. The first are views of the embedding.
        return fused_kept(dim, sublayers, first=dim, state=n * dim, small=n * (n + 2) + self._columns() + 1)

    def start(self) -> Start:
        return Start("pre-norm", self.rate)  # n equal streams, summed

    def claims(self) -> Claims:
        constant = "the carry is the identity by definition" if not self.mixing_columns() else ""
        return Claims(
            start=self.start(),
            family="constrained",
            rows=self.rate,
            constant_carry="one stream" if self.rate == 1 else constant,
            exact=self.EXACT,
        )


class MHCSettings(StreamSettings):
    """Manifold-Constrained Hyper-Connections (mHC), arXiv 2512.24880: n streams mixed by doubly stochastic matrices."""

    type: Literal["mhc"] = "mhc"
    iterations: int = Field(default=20, ge=1)
    """Sinkhorn iterations, each over columns then rows (the paper's 20)."""

    def tag(self) -> str:
        return f"mhc-n{self.rate}" + (f"-it{self.iterations}" if self.iterations != 20 else "")

    def build(self, dim: int, sublayers: int) -> ManifoldConnections:
        from harness.connections.manifold import ManifoldConnection, ManifoldConnections

        modules = [ManifoldConnection(dim, self.rate, k, self.iterations) for k in range(sublayers)]
        return ManifoldConnections(modules, self.rate)

    def mixing_columns(self) -> int:
        return self.rate**2

    def claims(self) -> Claims:
        return replace(super().claims(), iterations=self.iterations)

    def _mixing_kept(self) -> int:
        n = self.rate
        # Sinkhorn's start, rows' first factors, two vectors of factors per iteration and the last matrix of scaled
        # columns; the matrix of all coefficients that multiplies the state.
        return 2 * n * n + n + 2 * n * self.iterations + n * (n + 1)


class IdentityHCSettings(StreamSettings):
    """Identity-HC (an ablation of mHC, arXiv 2512.24880): n streams that are read and written, but not mixed."""

    type: Literal["identity_hc"] = "identity_hc"

    def tag(self) -> str:
        return f"ihc-n{self.rate}"

    def build(self, dim: int, sublayers: int) -> ManifoldConnections:
        from harness.connections.manifold import IdentityConnection, ManifoldConnections

        return ManifoldConnections([IdentityConnection(dim, self.rate, k) for k in range(sublayers)], self.rate)

    def mixing_columns(self) -> int:
        return 0

    def _mixing_kept(self) -> int:
        return 0


class MHCLiteSettings(StreamSettings):
    """mHC-lite, arXiv 2601.05732: mHC with a weighted mean of all n! permutations for the Sinkhorn iterations."""

    EXACT = True

    type: Literal["mhc_lite"] = "mhc_lite"
    rate: int = Field(default=4, ge=1, le=5)
    """Expansion rate n: the number of streams. n! weights are predicted, hence at most 5."""

    def tag(self) -> str:
        return f"mhclite-n{self.rate}"

    def build(self, dim: int, sublayers: int) -> ManifoldConnections:
        from harness.connections.manifold import ManifoldConnections, PermutationConnection

        return ManifoldConnections([PermutationConnection(dim, self.rate, k) for k in range(sublayers)], self.rate)

    def mixing_columns(self) -> int:
        return math.factorial(self.rate)

    def fused_saved_bytes(self, dim: int, sublayers: int) -> int | None:
        return None

    def _mixing_kept(self) -> int:
        # The permutations' weights; the matrix of all coefficients that multiplies the state.
        return math.factorial(self.rate) + self.rate * (self.rate + 1)
