"""Hyper- and Frac-Connections: what may be switched, and what it costs."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, model_validator

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
    from harness.connections.frac import FracConnections
    from harness.connections.hyper import HyperConnections

Strength = Literal["dynamic", "static", "frozen"]
"""What a part of the connection is: predicted from the state on top of a learned value, a learned value, or its initial
value for ever."""

OutputInitScale = Literal["none", "div_sqrt_n", "mul_sqrt_n", "div_n"]
Stagger = Literal["cyclic", "first", "uniform"]


class CoefficientSettings(ConnectionSettings):
    """Switches that HC and FC share. `dynamic` sets all parts; a part that is named has its own setting."""

    PARTS: ClassVar[tuple[str, ...]]
    LETTERS: ClassVar[str]

    rate: int = Field(ge=1, le=MOST_ROWS)
    dynamic: bool = True
    """Coefficients that depend on the hidden state, or not; the value for every part that is not named."""
    B: Strength = "dynamic"
    """Weights of the sub-layer's output."""
    norm: bool = True
    """Normalise the state before the dynamic projection (`use_hc_norm` of FC's Figure 4)."""
    tanh: bool = True
    """Tanh on the dynamic part ("W/O tanh" of HC's tables is false)."""
    scale: bool = True
    """Learned scale on the dynamic part, 0.01 at first."""
    norm_type: NormType = "layer_norm"
    """Norm before the dynamic projection: LayerNorm in the papers' pseudo-code, the model's own in their text."""

    @model_validator(mode="before")
    @classmethod
    def _resolve(cls, raw: Any) -> Any:
        """`dynamic` spelt out part by part, so that one connection has one canonical form, whichever way it was asked
        for."""
        if not isinstance(raw, dict) or not isinstance(raw.get("dynamic", True), bool):
            return raw
        default = "dynamic" if raw.get("dynamic", True) else "static"
        resolved = {**dict.fromkeys(cls.PARTS, default), **raw}
        return {**resolved, "dynamic": any(resolved[part] == "dynamic" for part in cls.PARTS)}

    def strengths(self) -> dict[str, Strength]:
        """Every part by its letter in the paper."""
        return {part: getattr(self, part) for part in self.PARTS}

    def claims(self) -> Claims:
        carry = self.strengths()[self.PARTS[1]]
        return Claims(
            start=self.start(),
            rows=self.rate,
            constant_carry="the carry is frozen by the settings" if carry == "frozen" else "",
            dynamic_bound=(0.01 if self.scale else 1.0) if self.dynamic and self.tanh else None,
            normalised=self.dynamic and self.norm,
        )

    def tag(self) -> str:
        usual = "dynamic" if self.dynamic else "static"
        tag = f"{'d' if self.dynamic else 's'}{self.LETTERS}{self.rate}"
        tag += "".join(f"-{how}{part.replace('_', '')}" for part, how in self.strengths().items() if how != usual)
        if self.dynamic:
            tag += "".join(f"-no{switch}" for switch in ("norm", "tanh", "scale") if not getattr(self, switch))
            if self.norm and self.norm_type != "layer_norm":
                tag += f"-{self.norm_type.replace('_', '')}"
        return tag

    def problem(self, dim: int, sublayers: int) -> tuple[str, str] | None:
        """A switch of the dynamic part on a static connection: the arm would claim a difference that it has not."""
        switches = ("norm", "tanh", "scale", "norm_type") if not self.dynamic else () if self.norm else ("norm_type",)
        for switch in switches:
            if getattr(self, switch) != type(self).model_fields[switch].default:
                reason = "this connection is static" if not self.dynamic else "'norm' is off"
                return switch, f"'{switch}' concerns the dynamic part, and {reason}"
        return None

    def _coefficient_parameters(self, width: int, columns: dict[str, int]) -> int:
        """Parameters of one sub-layer whose rows have `width` entries; `columns` has the parts but B."""
        how, rows = self.strengths(), self.rate
        count = sum(rows * size for part, size in columns.items() if how[part] != "frozen")
        count += rows if self.B != "frozen" else 0
        if self.dynamic:
            alpha = [size for part, size in columns.items() if how[part] == "dynamic"]
            count += width * (sum(alpha) + (self.B == "dynamic"))
            count += norm_parameters(self.norm_type, width) if self.norm else 0
            count += (bool(alpha) + (self.B == "dynamic")) if self.scale else 0
        return count

    def _kept(self, dim: int, state: int, columns: dict[str, int]) -> int:
        """Elements per token and sub-layer that are kept besides what norm and transform read. `state` is the size of
        the state."""
        rows, total = self.rate, sum(columns.values())
        kept = dim if self.B != "frozen" else 0  # the sub-layer's output, for the gradient of B
        kept += state if self._alpha_learns() or self.dynamic else 0
        if self.dynamic:
            if self.norm:  # normalised state and statistics; torch decomposes RMSNorm on a CPU, LayerNorm is one call
                kept += 2 * state + rows if self.norm_type == "rms_norm" else state + 2 * rows
            kept += rows * self._dynamic_columns(columns) if self.tanh or self.scale else 0
            kept += rows * total if any(self.strengths()[part] == "dynamic" for part in columns) else 0
            kept += rows if self.B == "dynamic" else 0
        return kept

    def _alpha_learns(self) -> bool:
        """Whether any part but B is not frozen."""
        return any(how != "frozen" for part, how in self.strengths().items() if part != "B")

    def _dynamic_columns(self, columns: dict[str, int]) -> int:
        """Columns of the dynamic projection, B's among them."""
        how = self.strengths()
        return sum(size for part, size in columns.items() if how[part] == "dynamic") + (self.B == "dynamic")


class HyperSettings(CoefficientSettings):
    """Hyper-Connections, arXiv 2409.19606: `rate` n streams, static (SHC) or dynamic (DHC)."""

    PARTS = ("A_m", "A_r", "B")
    LETTERS = "hc-n"

    type: Literal["hyper"] = "hyper"
    rate: int = Field(ge=1, le=MOST_ROWS)
    """Expansion rate n: the number of streams."""
    A_m: Strength = "dynamic"
    """Weights of the streams in the sub-layer's input."""
    A_r: Strength = "dynamic"
    """Mixing of the streams that are carried on."""
    stagger: Stagger = "cyclic"
    """Which stream a sub-layer reads at first: k mod n (the paper), always the first, or the mean of all, under which
    streams stay equal for ever: a control."""
    output_init_scale: OutputInitScale = "none"
    """Rescaling of the branches' output projections at initialisation; the paper's direction is ambiguous and every
    setting but `none` gives up equality with pre-norm at initialisation."""

    def build(self, dim: int, sublayers: int) -> HyperConnections:
        from harness.connections.hyper import HyperConnections

        return HyperConnections(self, dim, sublayers)

    def tag(self) -> str:
        tag = super().tag()
        if self.stagger != "cyclic":
            tag += f"-{self.stagger}"
        if self.output_init_scale != "none":
            tag += f"-{self.output_init_scale.replace('_', '')}"
        return tag

    def parameter_count(self, dim: int, sublayers: int) -> int:
        """App. B: n (n + 2) where all is static; |norm| + d (n + 2) + n (n + 2) + 2 where all is dynamic."""
        return self._coefficient_parameters(dim, {"A_m": 1, "A_r": self.rate}) * sublayers

    def flops_per_token(self, dim: int, sublayers: int) -> int:
        n = self.rate
        flops = 2 * dim * n * (n + 1) + 2 * dim * n  # width matmul [A_m|A_r]ᵀH; B ⊗ output, added
        # Every stream's own projection (the paper's Table 8 counts it once per token).
        flops += 2 * n * dim * self._dynamic_columns({"A_m": 1, "A_r": n})
        return flops * sublayers + n * dim  # the sum at the end (which Table 8 leaves out)

    def stream_traffic(self, dim: int, sublayers: int) -> tuple[int, int]:
        n, small = self.rate, self.rate**2 + 2 * self.rate
        read = (4 * n + 1) * dim + small + (n * dim if self.dynamic else 0)
        written = (3 * n + 1) * dim + (small if self.dynamic else 0)
        return read * sublayers, written * sublayers

    def saved_bytes(self, dim: int, sublayers: int) -> int:
        n = self.rate
        each = 2 * dim + self._kept(dim, n * dim, {"A_m": 1, "A_r": n})
        first = 0  # the first state is n views of the embedding: one is kept, or a copy besides where it is projected
        if self.dynamic and not self.norm and n > 1:
            first = dim if self._alpha_learns() else 0
        elif self._alpha_learns() or self.dynamic:
            first = -(n - 1) * dim
        return 4 * (each * sublayers + first)

    def fused_saved_bytes(self, dim: int, sublayers: int) -> int | None:
        n = self.rate
        # Coefficients, the raw numbers that they are made of, and two statistics of every row.
        small = 2 * n * (n + 2) + 2 * n if self.dynamic else 0
        return fused_kept(dim, sublayers, first=dim, state=n * dim, small=small)  # the first are views of the embedding

    def output_init_factor(self) -> float:
        n = self.rate
        return {"none": 1.0, "div_sqrt_n": 1 / math.sqrt(n), "mul_sqrt_n": math.sqrt(n), "div_n": 1 / n}[
            self.output_init_scale
        ]

    def cast_states(self, sublayers: int) -> int:
        return self.rate - 1

    def start(self) -> Start:
        return Start("pre-norm", self.rate)  # n equal streams, summed

    def claims(self) -> Claims:
        symmetric = ""
        if self.stagger == "uniform":
            symmetric = "the settings ask for the control, in which streams stay equal"
        elif self.A_r == self.B == "frozen":
            symmetric = "with A_r and B frozen all streams are written and carried alike, whatever is read"
        return replace(super().claims(), family="streams", parts=1, stagger=self.stagger, symmetric=symmetric)


class FracSettings(CoefficientSettings):
    """Frac-Connections, arXiv 2503.14125: the width split into `rate` m fractions, static (SFC) or dynamic (DFC).

    HC's `stagger` and `output_init_scale` have no counterpart: fractions differ from the start, and nothing is summed.
    """

    PARTS = ("Y", "A", "B")
    LETTERS = "fc-m"

    type: Literal["frac"] = "frac"
    rate: int = Field(ge=1, le=MOST_ROWS)
    """Frac-rate m; must divide the width."""
    Y: Strength = "dynamic"
    """Mixing of the fractions in the sub-layer's input."""
    A: Strength = "dynamic"
    """Mixing of the fractions that are carried on."""

    def build(self, dim: int, sublayers: int) -> FracConnections:
        from harness.connections.frac import FracConnections

        return FracConnections(self, dim, sublayers)

    def parameter_count(self, dim: int, sublayers: int) -> int:
        """Sec. 4.4: m (2m + 1) where all is static, |norm| + (d/m) (2m + 1) + m (2m + 1) + 2 where all is dynamic."""
        m = self.rate
        return self._coefficient_parameters(dim // m, {"Y": m, "A": m}) * sublayers

    def flops_per_token(self, dim: int, sublayers: int) -> int:
        m = self.rate
        flops = 2 * dim * 2 * m + 2 * dim  # [Y|A]ᵀH; β ⊙ output, added
        flops += 2 * dim * self._dynamic_columns({"Y": m, "A": m})
        return flops * sublayers

    def stream_traffic(self, dim: int, sublayers: int) -> tuple[int, int]:
        small = 2 * self.rate**2 + self.rate
        read, written = (6 if self.dynamic else 5) * dim + small, 4 * dim + (small if self.dynamic else 0)
        return read * sublayers, written * sublayers

    def saved_bytes(self, dim: int, sublayers: int) -> int:
        m = self.rate
        return 4 * (2 * dim + self._kept(dim, dim, {"Y": m, "A": m})) * sublayers

    def fused_saved_bytes(self, dim: int, sublayers: int) -> int | None:
        m = self.rate
        small = 2 * m * (2 * m + 1) + 2 * m if self.dynamic else 0
        return fused_kept(dim, sublayers, first=dim, state=dim, small=small)

    def start(self) -> Start:
        return Start("pre-norm")

    def claims(self) -> Claims:
        return replace(super().claims(), family="fractions", parts=self.rate)

    def problem(self, dim: int, sublayers: int) -> tuple[str, str] | None:
        if dim % self.rate:
            return (
                "rate",
                f"frac-rate {self.rate} does not divide the width {dim} (divisors: {divisors(dim)})",
            )
        return super().problem(dim, sublayers)
