"""Generalized Hyper-Connections (GHC, virtual width networks, arXiv 2511.11238): m fractions through n slots.

Axes: B batch, T time, M fractions, N slots, W = D/M width of both. With H the (N, W) state of one token and 𝒯 a
sub-layer of width D = M · W, pre-norm included (Eq. 6)

    Z = split(𝒯(concat(Aᵀ H)))        H_new = Bᵀ Z + Âᵀ H

A (N, M) reads, Â (N, N) carries and B (M, N) writes. `static_alpha` holds [A | Â] as (N, M+N) and `static_beta` holds
Bᵀ as (N, M). The state is N/M times as wide as the sub-layers. With M = 1 this is HC, with N = M it is FC with a full
matrix for its diagonal of output weights.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from harness.connections.base import Matrices, SublayerConnection, make_norm, working_dtype
from harness.connections.coefficients import DECAYED, SILENT, folded, norm_kind, stacked, transposed_product
from harness.connections.kernels.form import Form, Operands
from harness.connections.kernels.stack import FusableConnections
from harness.connections.settings.base import NormType
from harness.connections.settings.generalized import FirstRead, GHCSettings


class GeneralizedConnection(SublayerConnection):
    """The connection around one sub-layer (arXiv 2511.11238, Algorithm 2), for use in any model:

        mix, beta = c.width_connection(h)                       # h (B, T, N, W), mix (B, T, M+N, W)
        h = c.depth_connection(mix, sublayer(c.layer_input(mix)), beta)

    Dynamic (Eq. 8-10), with H̄ = norm(H) slot by slot over W: row i of [A | Â] is static + S_α ∘ tanh(H̄_i W_a / sqrt(W))
    and column i of B likewise with W_b and S_β. W_a (W, M+N) and W_b (W, M) are shared over the slots and start at 0;
    the scales are matrices, (N, M+N) and (N, M), and start at 1, both unlike HC.

    Initially Â = I, B[a, j] = 1 where j mod m = a (Eq. 11), and A reads slots 0..m-1 (`stagger` "first", Eq. 12). Our
    "cyclic" reads for fraction a in turn the slots i with i mod m = a, as HC does. Left open by the paper: the norm's
    weight (it has one here, ones at first) and the decay of the scales (none).

    Raises ValueError for slots below fractions, fractions that do not divide `dim`, or sizes below their bounds.
    """

    def __init__(
        self,
        dim: int,
        fractions: int,
        slots: int,
        layer_id: int,
        dynamic: bool = True,
        *,
        norm: bool = True,
        tanh: bool = True,
        norm_type: NormType = "rms_norm",
        stagger: FirstRead = "first",
    ):
        super().__init__()
        if dim < 1 or fractions < 1 or slots < fractions or layer_id < 0:
            sizes = f"{dim=}, {fractions=}, {slots=}, {layer_id=}"
            raise ValueError(f"needs dim >= 1, slots >= fractions >= 1, layer_id >= 0; got {sizes}")
        if dim % fractions:
            raise ValueError(f"fractions {fractions} do not divide dim {dim}")
        m, n, width = fractions, slots, dim // fractions
        self.dim, self.fractions, self.slots, self.layer_id = dim, m, n, layer_id
        self.dynamic, self.tanh = dynamic, tanh
        home_N = torch.arange(n) % m
        read = torch.zeros(n, m)
        for a in range(m):
            turn = layer_id % int((home_N == a).sum()) if stagger == "cyclic" else 0
            read[a + m * turn, a] = 1.0
        self.static_alpha = nn.Parameter(torch.cat([read, torch.eye(n)], dim=1))
        self.static_beta = nn.Parameter(torch.eye(m)[home_N])
        if dynamic:
            self.dynamic_alpha_fn = nn.Parameter(torch.zeros(width, m + n))
            self.dynamic_beta_fn = nn.Parameter(torch.zeros(width, m))
            self.dynamic_alpha_scale = nn.Parameter(torch.ones(n, m + n))
            self.dynamic_beta_scale = nn.Parameter(torch.ones(n, m))
            self.norm = make_norm(norm_type, width) if norm else nn.Identity()

    def coefficients(self, h_BTNW: Tensor) -> tuple[Tensor, Tensor]:
        """[A | Â], (B, T, N, M+N), and Bᵀ, (B, T, N, M); (1, 1, ...) where static. `h` is in the working dtype."""
        if not self.dynamic:
            return self.static_alpha[None, None], self.static_beta[None, None]
        # One product for both. The divisor is applied to the weights, of which there is one copy, not one per slot.
        weights = torch.cat([self.dynamic_alpha_fn, self.dynamic_beta_fn], dim=1) * h_BTNW.shape[-1] ** -0.5
        raw = self.norm(h_BTNW) @ weights
        if self.tanh:
            raw = torch.tanh(raw)
        static = torch.cat([self.static_alpha, self.static_beta], dim=1)
        scale = torch.cat([self.dynamic_alpha_scale, self.dynamic_beta_scale], dim=1)
        alpha, beta = torch.addcmul(static, raw, scale).split([self.fractions + self.slots, self.fractions], dim=-1)
        return alpha, beta

    def form(self) -> Form:
        """Of the boundary before this sub-layer."""
        sizes = self.slots, self.fractions, self.dim // self.fractions
        if not self.dynamic:
            return Form(*sizes, "given")
        kind, eps = norm_kind(self.norm)
        return Form(*sizes, "affine", norm=kind, eps=eps, tanh=self.tanh)

    def width_connection(self, h_BTNW: Tensor) -> tuple[Tensor, Tensor]:
        """`mix` (B, T, M+N, W), the fractions of the layer input then Âᵀ H; `beta` (B or 1, T or 1, N, M)."""
        with torch.autocast(h_BTNW.device.type, enabled=False):
            work = h_BTNW.to(working_dtype(h_BTNW))
            alpha, beta = self.coefficients(work)
            return transposed_product(alpha, work).to(h_BTNW.dtype), beta

    def layer_input(self, mix: Tensor) -> Tensor:
        """(B, T, D), a copy: of a view, the norm behind it would keep all of `mix` for the backward pass."""
        return mix[..., : self.fractions, :].flatten(-2).clone()

    def depth_connection(self, mix: Tensor, out_BTD: Tensor, beta: Tensor) -> Tensor:
        """H_new[j] = sum_a B[a, j] · out_a + (Âᵀ H)[j] with out_a the a-th fraction of the output, (B, T, N, W)."""
        work = working_dtype(mix)
        with torch.autocast(mix.device.type, enabled=False):
            out_BTMW = out_BTD.unflatten(-1, (self.fractions, -1)).to(work)
            carried_BTNW, beta = mix[..., self.fractions :, :].to(work), beta.to(work)
            if self.fractions == 1:  # an outer product, added in one pass, as in HC
                new_BTNW = torch.addcmul(carried_BTNW, beta, out_BTMW)
            else:
                new_BTNW = carried_BTNW + transposed_product(beta.transpose(-1, -2), out_BTMW)
            return new_BTNW.to(mix.dtype)

    def matrices(self, h_BTNW: Tensor) -> Matrices:
        alpha, beta = self.coefficients(h_BTNW)
        return Matrices(alpha[..., : self.fractions], alpha[..., self.fractions :], beta.transpose(-1, -2))


class GeneralizedConnections(FusableConnections):
    """A network of GHCs. In: slot i is fraction i mod m of the embedding. Out: fraction a is (n/m) times the mean of
    the slots i with i mod m = a.

    Both ways are ours, without parameters, so that GHC contains HC and FC: the paper widens the embedding, or expands
    it by a learned matrix, and reduces by GroupNorm and a learned matrix (Eq. 3-4), whose initial values it does not
    give. So the network starts as the pre-norm residual with its state n/m times as large, which the final norm undoes.
    """

    decayed = DECAYED
    silent = SILENT

    def __init__(self, settings: GHCSettings, dim: int, sublayers: int):
        m, n = settings.fractions, settings.slots
        switches = settings.model_dump(exclude={"type", "fractions", "slots"})
        super().__init__([GeneralizedConnection(dim, m, n, k, **switches) for k in range(sublayers)])
        self.fractions, self.slots, self.width = m, n, dim // m

    def forms(self) -> tuple[Form, Form]:
        return cast(GeneralizedConnection, self.sublayers[0]).form(), Form(
            self.slots, self.fractions, self.width, "given"
        )

    def operands(self) -> list[Operands]:
        modules = list(self.sublayers)

        def both(alpha: str, beta: str) -> Tensor:
            return torch.cat([stacked(modules, alpha), stacked(modules, beta)], dim=-1)

        fixed_LNC = both("static_alpha", "static_beta")
        if not cast(GeneralizedConnection, modules[0]).dynamic:
            return [Operands(fixed) for fixed in fixed_LNC.unbind()]
        weights_LWC = both("dynamic_alpha_fn", "dynamic_beta_fn") * self.width**-0.5
        scale_LNC = both("dynamic_alpha_scale", "dynamic_beta_scale")
        return list(map(Operands, fixed_LNC, *folded(modules, weights_LWC), scale_LNC))

    def exit_read(self, like: Tensor) -> Tensor:
        n, m = self.slots, self.fractions
        read = torch.zeros(n, m + n + m)
        for slot in range(n):
            read[slot, slot % m] = n / m / len(range(slot % m, n, m))
        return read.to(like.device)

    def expand(self, x_BTD: Tensor) -> Tensor:
        x_BTMW = x_BTD.unflatten(-1, (self.fractions, -1))
        whole, rest = divmod(self.slots, self.fractions)
        return torch.cat([x_BTMW] * whole + [x_BTMW[..., :rest, :]], dim=-2)

    def collapse(self, h_BTNW: Tensor) -> Tensor:
        work, m, n = working_dtype(h_BTNW), self.fractions, self.slots
        sums = [h_BTNW[..., a::m, :].sum(dim=-2, dtype=work) for a in range(m)]
        if n % m:  # else every fraction has n/m slots, and the factor is 1
            sums = [x_BTW * (n / m / len(range(a, n, m))) for a, x_BTW in enumerate(sums)]
        return torch.stack(sums, dim=-2).flatten(-2).to(h_BTNW.dtype)
