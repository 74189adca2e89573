"""Hyper-Connections (HC, arXiv 2409.19606): n streams, learned strengths across depth and width.

Axes: B batch, T time, N streams, D width. With H the (N, D) state of one token, one sub-layer 𝒯 is (Eq. 2-5)

    h0 = A_mᵀ H        H' = A_rᵀ H        H_new = Bᵀ 𝒯(h0)ᵀ + H'

`static_alpha` holds [A_m | A_r] as (N, N+1) and `static_beta` B as (N,). The contraction is transposed: new stream j
is sum_i alpha[i, j] h_i. The sub-layer's own pre-norm belongs to 𝒯, after A_m.
"""

from __future__ import annotations

from typing import get_args

import torch
from torch import Tensor

from harness.connections.base import Matrices, replicate, sum_streams, write
from harness.connections.coefficients import (
    DECAYED,
    SILENT,
    ConnectionCoefficients,
    check_choice,
    check_sizes,
    first_of,
    operands_of,
)
from harness.connections.kernels.form import Form, Operands
from harness.connections.kernels.stack import FusableConnections, read_all
from harness.connections.settings.base import NormType
from harness.connections.settings.hyper import HyperSettings, Stagger, Strength


class HyperConnection(ConnectionCoefficients):
    """The connection around one sub-layer (arXiv 2409.19606, Algorithm 2), for use in any model:

        mix, beta = c.width_connection(h)                       # h (B, T, N, D), mix (B, T, N+1, D)
        h = c.depth_connection(mix, sublayer(c.layer_input(mix)), beta)

    `layer_id` counts sub-layers (two per transformer block); the layer reads stream `layer_id % rate` at first.
    Initially B = 1, A_r = I and the dynamic weights are zero: n equal streams behave as the pre-norm residual.
    With H̄ = norm(H) the dynamic part is s_β tanh(H̄ W_β) and s_α tanh(H̄ [W_m | W_r]) (Eq. 10-13). A_m, A_r and B are
    each "dynamic", "static" or "frozen" at their initial value; where one is not given, `dynamic` decides.

    Raises ValueError for a rate or width below 1, a negative `layer_id`, or a switch that is none of its choices.
    """

    def __init__(
        self,
        dim: int,
        rate: int,
        layer_id: int,
        dynamic: bool = True,
        tanh: bool = True,
        *,
        A_m: Strength | None = None,
        A_r: Strength | None = None,
        B: Strength | None = None,
        norm: bool = True,
        scale: bool = True,
        norm_type: NormType = "layer_norm",
        stagger: Stagger = "cyclic",
    ):
        check_sizes(dim, rate, layer_id)
        default: Strength = "dynamic" if dynamic else "static"
        super().__init__(
            [(initial_read(rate, layer_id, stagger), A_m or default), (torch.eye(rate), A_r or default)],
            B or default,
            dim,
            norm=norm,
            tanh=tanh,
            scale=scale,
            norm_type=norm_type,
        )
        self.dim, self.rate, self.layer_id = dim, rate, layer_id

    def width_connection(self, h_BTND: Tensor) -> tuple[Tensor, Tensor]:
        """Mix the streams: `mix` (B, T, N+1, D), row 0 the layer input and the rest H'; `beta` (B or 1, T or 1, N)."""
        return self.mix(h_BTND)

    def layer_input(self, mix: Tensor) -> Tensor:
        """(B, T, D), a copy: of a view, the norm behind it would keep all of `mix` for the backward pass."""
        return mix[..., 0, :].clone()

    def depth_connection(self, mix: Tensor, out_BTD: Tensor, beta: Tensor) -> Tensor:
        """H_new[i] = beta[i] · out + H'[i]: an outer product, (B, T, N, D)."""
        return write(mix[..., 1:, :], out_BTD, beta)

    def matrices(self, h_BTND: Tensor) -> Matrices:
        alpha, beta = self.coefficients(h_BTND)
        return Matrices(alpha[..., :1], alpha[..., 1:], beta.unsqueeze(-2))


def initial_read(rate: int, layer_id: int, stagger: Stagger) -> Tensor:
    """A_m at the start, (N, 1): one-hot on stream `layer_id % rate`. Without this stagger every stream stays equal to
    every other for ever, by symmetry; `uniform`, the mean, is the control that shows it."""
    check_choice("stagger", stagger, get_args(Stagger))
    if stagger == "uniform":
        return torch.full((rate, 1), 1 / rate)
    read = torch.zeros(rate, 1)
    read[layer_id % rate if stagger == "cyclic" else 0] = 1.0
    return read


class HyperConnections(FusableConnections):
    """A network of Hyper-Connections: n copies of the embedding in, the sum of the streams out (Algorithm 1)."""

    decayed = DECAYED
    silent = SILENT

    def __init__(self, settings: HyperSettings, dim: int, sublayers: int):
        switches = settings.model_dump(exclude={"type", "rate", "output_init_scale"})
        super().__init__([HyperConnection(dim, settings.rate, k, **switches) for k in range(sublayers)])
        self.rate, self.dim = settings.rate, dim

    def forms(self) -> tuple[Form, Form]:
        return first_of(self).form(self.dim, diagonal=False), Form(self.rate, 1, self.dim, "given")

    def operands(self) -> list[Operands]:
        return operands_of(self, self.dim)

    def exit_read(self, like: Tensor) -> Tensor:
        return read_all(self.rate, like)

    def expand(self, x_BTD: Tensor) -> Tensor:
        return replicate(x_BTD, self.rate)

    def collapse(self, h_BTND: Tensor) -> Tensor:
        return sum_streams(h_BTND)
