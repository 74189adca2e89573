"""The learned strengths that Hyper- and Frac-Connections share: static part, dynamic part, foreign checkpoints.

Both papers compute alpha = static_alpha + s_α · tanh(norm(H) · dynamic_alpha_fn), and beta alike, where row i is
predicted from row i of the state by weights shared over the rows (HC Eq. 10-13, arXiv 2409.19606; FC, arXiv
2503.14125, Algorithm 2). Only the shapes differ: R rows (N streams or M fractions) and C columns of alpha.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter
from typing import Any, Literal, cast, get_args

import torch
from torch import Tensor, nn

from harness.connections.base import SublayerConnection, SublayerConnections, make_norm, working_dtype
from harness.connections.kernels.form import Form, Operands
from harness.connections.settings.base import NormType
from harness.connections.settings.hyper import Strength

DECAYED = frozenset({"dynamic_alpha_fn", "dynamic_beta_fn"})
"""The only parameters with weight decay: "static no, dynamic yes" in both papers. The scales, which the papers leave
open, and the norm are not decayed."""

SILENT = ("_scale", "norm.weight", "norm.bias")
"""Behind dynamic weights that are zero at first."""

SCALE_AT_START = 0.01


def check_sizes(dim: int, rate: int, layer_id: int) -> None:
    """Raises ValueError for sizes that no connection can have."""
    if dim < 1 or rate < 1 or layer_id < 0:
        raise ValueError(f"needs dim >= 1, rate >= 1, layer_id >= 0; got {dim=}, {rate=}, {layer_id=}")


def check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    """Raises ValueError for a switch that is none of its choices."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}; got {value!r}")


def transposed_product(alpha_BTRC: Tensor, h_BTRW: Tensor) -> Tensor:
    """alphaᵀ H for every token, (B, T, C, W).

    With one or two rows a batched matrix product has almost nothing to multiply and costs 2-3 times the sum written
    out (CPU, forward and backward, W = 64); from three rows on it is the faster one.
    """
    if alpha_BTRC.shape[-2] <= 2:
        return (alpha_BTRC.unsqueeze(-1) * h_BTRW.unsqueeze(-2)).sum(-3)
    return alpha_BTRC.transpose(-1, -2) @ h_BTRW


def norm_kind(norm: nn.Module) -> tuple[Literal["layer", "rms", "none"], float]:
    """What a norm of `make_norm` does to a row, and with which epsilon."""
    if isinstance(norm, nn.LayerNorm):
        return "layer", norm.eps
    if isinstance(norm, nn.RMSNorm):
        return "rms", norm.eps or 0.0
    return "none", 0.0


def stacked(modules: Sequence[nn.Module], name: str) -> Tensor:
    """(L, ...): a tensor of every module, by its name."""
    return torch.stack([attrgetter(name)(module) for module in modules])


def folded(modules: Sequence[nn.Module], weights_LWC: Tensor) -> tuple[Tensor, Tensor]:
    """Weight and bias of every `norm` taken into the projection behind it: (weights (L, C, W), offsets (L, C))."""
    norm = modules[0].norm
    offset_LC = weights_LWC.new_zeros(weights_LWC.shape[0], weights_LWC.shape[2])
    if getattr(norm, "bias", None) is not None:
        offset_LC = (stacked(modules, "norm.bias").unsqueeze(1) @ weights_LWC).squeeze(1)
    if getattr(norm, "weight", None) is not None:
        weights_LWC = weights_LWC * stacked(modules, "norm.weight").unsqueeze(-1)
    return weights_LWC.transpose(1, 2).contiguous(), offset_LC


class ConnectionCoefficients(SublayerConnection):
    """alpha (R, C) and beta (R,), static or per token, under the papers' parameter names.

    `parts` are the column blocks of alpha at their initial values, [A_m | A_r] or [Y | A], each with what it is:
    frozen blocks are no parameters, and only dynamic ones have columns in `dynamic_alpha_fn`. `width` is the size of
    the rows that the dynamic part looks at: D for HC, D/M for FC.
    """

    frozen_alpha: Tensor
    frozen_beta: Tensor

    def __init__(
        self,
        parts: Sequence[tuple[Tensor, Strength]],
        beta: Strength,
        width: int,
        *,
        norm: bool,
        tanh: bool,
        scale: bool,
        norm_type: NormType,
    ):
        super().__init__()
        for strength in [strength for _, strength in parts] + [beta]:
            check_choice("a part", strength, get_args(Strength))
        rows = parts[0][0].shape[0]
        self.tanh, self.scale, self.beta = tanh, scale, beta
        self.strengths = [strength for _, strength in parts]
        self.sizes = [block.shape[1] for block, _ in parts]
        learned = [block for block, strength in parts if strength != "frozen"]
        frozen = [block for block, strength in parts if strength == "frozen"]
        columns = sum(block.shape[1] for block, strength in parts if strength == "dynamic")
        if learned:
            self.static_alpha = nn.Parameter(torch.cat(learned, dim=1))
        if frozen:
            self.register_buffer("frozen_alpha", torch.cat(frozen, dim=1))
        if beta != "frozen":
            self.static_beta = nn.Parameter(torch.ones(rows))
        else:
            self.register_buffer("frozen_beta", torch.ones(rows))
        self.dynamic_columns = columns
        if columns:
            self.dynamic_alpha_fn = nn.Parameter(torch.zeros(width, columns))
        if beta == "dynamic":
            self.dynamic_beta_fn = nn.Parameter(torch.zeros(width))
        if columns and scale:
            self.dynamic_alpha_scale = nn.Parameter(torch.full((1,), SCALE_AT_START))
        if beta == "dynamic" and scale:
            self.dynamic_beta_scale = nn.Parameter(torch.full((1,), SCALE_AT_START))
        if columns or beta == "dynamic":
            self.norm = make_norm(norm_type, width) if norm else nn.Identity()

    def coefficients(self, h_BTRW: Tensor) -> tuple[Tensor, Tensor]:
        """alpha (B, T, R, C) and beta (B, T, R); (1, 1, ...) where static. `h` is in the working dtype."""
        beta = self.frozen_beta if self.beta == "frozen" else self.static_beta
        if not self.dynamic_columns and self.beta != "dynamic":
            return self._alpha(None), beta[None, None]
        # One product for alpha and beta: the state is read once, and at small widths calls cost more than arithmetic.
        weights: list[Tensor] = [self.dynamic_alpha_fn] if self.dynamic_columns else []
        weights += [self.dynamic_beta_fn[:, None]] if self.beta == "dynamic" else []
        raw = self.norm(h_BTRW) @ (torch.cat(weights, dim=1) if len(weights) > 1 else weights[0])
        if self.tanh:
            raw = torch.tanh(raw)
        alpha = self._alpha(raw[..., : self.dynamic_columns] if self.dynamic_columns else None)
        if self.beta != "dynamic":
            return alpha, beta[None, None]
        if self.scale:
            return alpha, torch.addcmul(beta, raw[..., -1], self.dynamic_beta_scale)
        return alpha, raw[..., -1] + beta

    def _alpha(self, raw: Tensor | None) -> Tensor:
        """alpha from `raw`, the dynamic columns before their scale: added to the static ones, where they belong."""
        if set(self.strengths) == {"dynamic"} and raw is not None:
            return self._scaled(self.static_alpha, raw)
        blocks = self.blocks(getattr(self, "static_alpha", None), getattr(self, "frozen_alpha", None))
        if raw is None:
            return torch.cat(blocks, dim=-1)[None, None]
        dynamic = 0
        for place, (strength, size) in enumerate(zip(self.strengths, self.sizes, strict=True)):
            if strength == "dynamic":
                blocks[place] = self._scaled(blocks[place], raw[..., dynamic : dynamic + size])
                dynamic += size
        return torch.cat([block.expand(*raw.shape[:-1], block.shape[-1]) for block in blocks], dim=-1)

    def blocks(self, learned: Tensor | None, frozen: Tensor | None) -> list[Tensor]:
        """The column blocks of alpha, (..., R, size) each, from those that are learned and those that are not."""
        found, taken = [], {"learned": 0, "frozen": 0}
        for strength, size in zip(self.strengths, self.sizes, strict=True):
            kind = "frozen" if strength == "frozen" else "learned"
            columns = frozen if strength == "frozen" else learned
            assert columns is not None
            found.append(columns[..., taken[kind] : taken[kind] + size])
            taken[kind] += size
        return found

    def _scaled(self, static: Tensor, raw: Tensor) -> Tensor:
        return torch.addcmul(static, raw, self.dynamic_alpha_scale) if self.scale else raw + static

    def form(self, width: int, *, diagonal: bool) -> Form:
        """Of the boundary before this sub-layer."""
        rows, parts = len(self.frozen_beta if self.beta == "frozen" else self.static_beta), self.sizes[0]
        if not self.dynamic_columns and self.beta != "dynamic":
            return Form(rows, parts, width, "given", diagonal)
        kind, eps = norm_kind(self.norm)
        return Form(rows, parts, width, "affine", diagonal, norm=kind, eps=eps, tanh=self.tanh)

    def mix(self, h_BTRW: Tensor) -> tuple[Tensor, Tensor]:
        """alphaᵀ H, (B, T, C, W) in the dtype of `h`, and beta. Computed in fp32 at least, also under autocast."""
        with torch.autocast(h_BTRW.device.type, enabled=False):
            work = h_BTRW.to(working_dtype(h_BTRW))
            alpha, beta = self.coefficients(work)
            return transposed_product(alpha, work).to(h_BTRW.dtype), beta

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        """Accept what other implementations write: the norm as `layer_norm`, scales without a dimension."""
        for key in [k for k in state_dict if k.startswith(prefix)]:
            name = key[len(prefix) :]
            if name.startswith("layer_norm."):
                state_dict[prefix + name.removeprefix("layer_")] = state_dict.pop(key)
            elif name.endswith("_scale") and state_dict[key].ndim == 0:
                state_dict[key] = state_dict[key].reshape(1)
        super()._load_from_state_dict(state_dict, prefix, *args)


def first_of(stack: SublayerConnections) -> ConnectionCoefficients:
    """The first sub-layer's connection, which is made as all of them are."""
    return cast(ConnectionCoefficients, stack.sublayers[0])


def operands_of(stack: SublayerConnections, width: int) -> list[Operands]:
    """What `coefficients` computes with, for the kernels: a column for each of [alpha | beta], with scale 0 where it is
    not dynamic. Of all L sub-layers at once, for an operation costs more than what it computes here."""
    one, modules = first_of(stack), list(stack.sublayers)

    def every(name: str) -> Tensor:
        return stacked(modules, name)

    beta_LR = every("frozen_beta" if one.beta == "frozen" else "static_beta")
    learned, frozen = (every(name) if hasattr(one, name) else None for name in ("static_alpha", "frozen_alpha"))
    fixed_LRC = torch.cat([*one.blocks(learned, frozen), beta_LR.unsqueeze(-1)], dim=-1)
    if not one.dynamic_columns and one.beta != "dynamic":
        return [Operands(fixed) for fixed in fixed_LRC.unbind()]
    projections, scales, taken = [], [], 0
    for name, strength, size in [
        *(("alpha", strength, size) for strength, size in zip(one.strengths, one.sizes, strict=True)),
        ("beta", one.beta, 1),
    ]:
        if strength != "dynamic":
            projections.append(fixed_LRC.new_zeros(len(modules), width, size))
            scales.append(fixed_LRC.new_zeros(len(modules), size))
            continue
        projection_LWC = every(f"dynamic_{name}_fn").view(len(modules), width, -1)
        projections.append(projection_LWC[..., taken : taken + size] if name == "alpha" else projection_LWC)
        scale_L1 = every(f"dynamic_{name}_scale") if one.scale else fixed_LRC.new_ones(len(modules), 1)
        scales.append(scale_L1.expand(-1, size))
        taken += size
    scale_LRC = torch.cat(scales, dim=-1).unsqueeze(1).expand(fixed_LRC.shape).contiguous()
    weights_LCW, offset_LC = folded(modules, torch.cat(projections, dim=-1))
    return list(map(Operands, fixed_LRC, weights_LCW, offset_LC, scale_LRC))
