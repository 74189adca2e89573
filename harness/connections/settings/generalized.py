"""Generalized Hyper-Connections: what may be switched, and what it costs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from harness.connections.settings.base import (
    MOST_ROWS,
    Claims,
    ConnectionSettings,
    NormType,
    Start,
    divisors,
    fused_kept,
    norm_parameters,
)

if TYPE_CHECKING:
    from harness.connections.generalized import GeneralizedConnections

FirstRead = Literal["first", "cyclic"]


class GHCSettings(ConnectionSettings):
    """Generalized Hyper-Connections (virtual width networks), arXiv 2511.11238: n slots of width D / m.

    With one fraction (and `stagger: cyclic`) it is HC, with as many slots as fractions FC but for its dense writes.
    """

    type: Literal["ghc"] = "ghc"
    fractions: int = Field(ge=1, le=MOST_ROWS)
    """Fractions m that the sub-layer's input and output are split into; must divide the width."""
    slots: int = Field(ge=1, le=MOST_ROWS)
    """Slots n of the state, each D / m wide; at least m. The state is n / m times as wide as the sub-layers."""
    dynamic: bool = True
    """Coefficients that depend on the hidden state (DGHC), or not (SGHC)."""
    norm: bool = True
    """Normalise every slot before the dynamic projection."""
    tanh: bool = True
    """Tanh on the dynamic part."""
    norm_type: NormType = "rms_norm"
    """Norm before the dynamic projection."""
    stagger: FirstRead = "first"
    """Which slots a sub-layer reads at first: the first m (the paper), or in turn those of each fraction (HC's k mod
    n)."""

    def tag(self) -> str:
        tag = f"{'d' if self.dynamic else 's'}ghc-m{self.fractions}-n{self.slots}"
        if self.dynamic:
            tag += "".join(f"-no{switch}" for switch in ("norm", "tanh") if not getattr(self, switch))
        tag += f"-{self.stagger}" if self.stagger != "first" else ""
        if self.dynamic and self.norm and self.norm_type != "rms_norm":
            tag += f"-{self.norm_type.replace('_', '')}"
        return tag

    def build(self, dim: int, sublayers: int) -> GeneralizedConnections:
        from harness.connections.generalized import GeneralizedConnections

        return GeneralizedConnections(self, dim, sublayers)

    def parameter_count(self, dim: int, sublayers: int) -> int:
        """n (2m + n) where all is static; besides |norm| + (D/m) (2m + n) + n (2m + n) where all is dynamic."""
        width, columns = dim // self.fractions, 2 * self.fractions + self.slots
        count = self.slots * columns
        if self.dynamic:
            count += width * columns + self.slots * columns
            count += norm_parameters(self.norm_type, width) if self.norm else 0
        return count * sublayers

    def flops_per_token(self, dim: int, sublayers: int) -> int:
        m, n = self.fractions, self.slots
        state = n * (dim // m)
        flops = 2 * state * (m + n)  # [A | Â]ᵀ H
        flops += 2 * n * dim + (state if m > 1 else 0)  # Bᵀ output, added; the sum is part of the product for m = 1
        flops += 2 * state * (2 * m + n) if self.dynamic else 0
        return flops * sublayers + state + (dim if n % m else 0)  # the sum at the end, weighted where sizes differ

    def stream_traffic(self, dim: int, sublayers: int) -> tuple[int, int]:
        m, n = self.fractions, self.slots
        state, small = n * (dim // m), n * (2 * m + n)
        read = 4 * state + dim + small + (state if self.dynamic else 0)
        written = 3 * state + dim + (small if self.dynamic else 0)
        return read * sublayers, written * sublayers

    def saved_bytes(self, dim: int, sublayers: int) -> int:
        n, columns = self.slots, 2 * self.fractions + self.slots
        state = n * (dim // self.fractions)
        # The state, for the gradient of A and Â; what norm and transform read; the output, for the gradient of B.
        kept = state + 2 * dim + dim
        if self.dynamic:
            if self.norm:  # normalised state and statistics; torch takes RMSNorm apart on a CPU, LayerNorm is one call
                kept += 2 * state + n if self.norm_type == "rms_norm" else state + 2 * n
            kept += 2 * n * columns  # the dynamic part before its scale, and the coefficients
        return 4 * kept * sublayers

    def fused_saved_bytes(self, dim: int, sublayers: int) -> int | None:
        n, m = self.slots, self.fractions
        small = 2 * n * (n + 2 * m) + 2 * n if self.dynamic else 0
        return fused_kept(dim, sublayers, first=n * dim // m, state=n * dim // m, small=small)

    def start(self) -> Start:
        return Start("pre-norm", self.slots / self.fractions)

    def claims(self) -> Claims:
        return Claims(
            start=self.start(),
            family="slots",
            rows=self.slots,
            parts=self.fractions,
            stagger=self.stagger,
            dynamic_bound=1.0 if self.dynamic and self.tanh else None,
            normalised=self.dynamic and self.norm,
        )

    def problem(self, dim: int, sublayers: int) -> tuple[str, str] | None:
        if dim % self.fractions:
            return "fractions", f"{self.fractions} does not divide the width {dim} (divisors: {divisors(dim)})"
        if self.slots < self.fractions:
            return "slots", f"{self.slots} slots are too few for {self.fractions} fractions"
        if self.stagger != "first" and self.slots == self.fractions:
            return "stagger", f"with {self.slots} slots for {self.fractions} fractions there is nothing to take in turn"
        switches = ("norm", "tanh", "norm_type") if not self.dynamic else () if self.norm else ("norm_type",)
        for switch in switches:
            if getattr(self, switch) != type(self).model_fields[switch].default:
                reason = "this connection is static" if not self.dynamic else "'norm' is off"
                return switch, f"'{switch}' concerns the dynamic part, and {reason}"
        return None
