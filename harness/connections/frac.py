"""Frac-Connections (FC, arXiv 2503.14125): the hidden vector split into m fractions, connected like HC streams.

Axes: B batch, T time, M fractions, D/M width of a fraction. With H the (M, D/M) state of one token (section 3)

    x = concat(Yᵀ H) in R^D        H_new = B ⊙ split(𝒯(x)) + Aᵀ H

`static_alpha` holds [Y | A] as (M, 2M) and `static_beta` B as (M,). β scales fraction i of the output by beta[i]: it
is element-wise over the fractions, not the outer product of HC.
"""

from __future__ import annotations

import torch
from torch import Tensor

from harness.connections.base import Matrices, working_dtype
from harness.connections.coefficients import DECAYED, SILENT, ConnectionCoefficients, check_sizes, first_of, operands_of
from harness.connections.kernels.form import Form, Operands
from harness.connections.kernels.stack import FusableConnections
from harness.connections.settings.base import NormType
from harness.connections.settings.hyper import FracSettings, Strength


class FracConnection(ConnectionCoefficients):
    """The connection around one sub-layer (arXiv 2503.14125, Algorithm 2), for use in any model:

        mix, beta = c.width_connection(h)                       # h (B, T, M, D/M), mix (B, T, 2M, D/M)
        h = c.depth_connection(mix, sublayer(c.layer_input(mix)), beta)

    Initially Y = A = I, B = 1 and the dynamic weights are zero, so it equals the pre-norm residual whatever the
    layer; `layer_id` is taken so that both connections are made alike. `norm`, `tanh` and `scale` are the paper's
    `use_hc_norm`, `use_tanh` and `use_scale`. Y, A and B are each "dynamic", "static" or "frozen" at their initial
    value; where one is not given, `dynamic` decides.

    Raises ValueError for a rate that does not divide `dim`, a rate or width below 1, a negative `layer_id`, or a switch
    that is none of its choices.
    """

    def __init__(
        self,
        dim: int,
        rate: int,
        layer_id: int,
        dynamic: bool = True,
        *,
        Y: Strength | None = None,
        A: Strength | None = None,
        B: Strength | None = None,
        norm: bool = True,
        tanh: bool = True,
        scale: bool = True,
        norm_type: NormType = "layer_norm",
    ):
        check_sizes(dim, rate, layer_id)
        if dim % rate:
            raise ValueError(f"rate {rate} does not divide dim {dim}")
        default: Strength = "dynamic" if dynamic else "static"
        super().__init__(
            [(torch.eye(rate), Y or default), (torch.eye(rate), A or default)],
            B or default,
            dim // rate,
            norm=norm,
            tanh=tanh,
            scale=scale,
            norm_type=norm_type,
        )
        self.dim, self.rate, self.layer_id = dim, rate, layer_id

    def width_connection(self, h_BTMW: Tensor) -> tuple[Tensor, Tensor]:
        """Mix the fractions: `mix` (B, T, 2M, D/M), the layer input then Aᵀ H; `beta` (B or 1, T or 1, M)."""
        return self.mix(h_BTMW)

    def layer_input(self, mix: Tensor) -> Tensor:
        """(B, T, D), a copy: of a view, the norm behind it would keep all of `mix` for the backward pass."""
        return mix[..., : self.rate, :].flatten(-2).clone()

    def depth_connection(self, mix: Tensor, out_BTD: Tensor, beta: Tensor) -> Tensor:
        """H_new[i] = beta[i] · out_i + (Aᵀ H)[i] with out_i the i-th fraction of the output, (B, T, M, D/M)."""
        work = working_dtype(mix)
        out_BTMW = out_BTD.unflatten(-1, (self.rate, -1))
        new = torch.addcmul(mix[..., self.rate :, :].to(work), beta.unsqueeze(-1).to(work), out_BTMW.to(work))
        return new.to(mix.dtype)

    def matrices(self, h_BTMW: Tensor) -> Matrices:
        alpha, beta = self.coefficients(h_BTMW)
        return Matrices(alpha[..., : self.rate], alpha[..., self.rate :], torch.diag_embed(beta))


class FracConnections(FusableConnections):
    """A network of Frac-Connections: splitting and joining are reshapes, so nothing is copied or summed."""

    decayed = DECAYED
    silent = SILENT

    def __init__(self, settings: FracSettings, dim: int, sublayers: int):
        switches = settings.model_dump(exclude={"type", "rate"})
        super().__init__([FracConnection(dim, settings.rate, k, **switches) for k in range(sublayers)])
        self.rate, self.width = settings.rate, dim // settings.rate

    def forms(self) -> tuple[Form, Form]:
        form = first_of(self).form(self.width, diagonal=True)
        return form, Form(self.rate, self.rate, self.width, "given", diagonal=True)

    def operands(self) -> list[Operands]:
        return operands_of(self, self.width)

    def exit_read(self, like: Tensor) -> Tensor:
        return torch.eye(self.rate, 2 * self.rate + 1, dtype=torch.float32, device=like.device)

    def expand(self, x_BTD: Tensor) -> Tensor:
        return x_BTD.unflatten(-1, (self.rate, -1))

    def collapse(self, h_BTMW: Tensor) -> Tensor:
        return h_BTMW.flatten(-2)
