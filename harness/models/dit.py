"""The Diffusion Transformer (arXiv 2212.09748): noisy images, timesteps and classes in, predicted noise out.

Axes: B batch, C channels, S image side, T tokens, D width, F frequencies.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.connections.settings import ConnectionSettings
from harness.data.inputs import ImageInputs
from harness.models.network import Network
from harness.models.patches import PatchAttention, PatchFeedForward, from_patches, to_patches
from harness.models.settings import FREQUENCIES, DiTSettings

LONGEST = 10_000.0
"""Longest wavelength over 2 pi, of timesteps and of positions."""


def waves(position: Tensor, count: int) -> Tensor:
    """(..., count): cosines, then sines of position / LONGEST^(2 i / count) (arXiv 1706.03762, section 3.5)."""
    steps = torch.arange(count // 2, device=position.device, dtype=position.dtype)
    angle = position[..., None] * LONGEST ** (-2 * steps / count)
    return torch.cat([angle.cos(), angle.sin()], dim=-1)


def grid_positions(side: int, width: int) -> Tensor:
    """(side · side, width), fixed: one half tells the row, the other the column."""
    at = torch.arange(side, dtype=torch.float64)
    row, column = torch.meshgrid(at, at, indexing="ij")
    return torch.cat([waves(row.flatten(), width // 2), waves(column.flatten(), width // 2)], dim=-1).float()


def modulate(x_BTD: Tensor, shift_BD: Tensor, scale_BD: Tensor) -> Tensor:
    """x (1 + scale) + shift, the same for all tokens."""
    return x_BTD * (1 + scale_BD[:, None]) + shift_BD[:, None]


class ModulatedAttention(PatchAttention):
    """Attention with adaLN-zero (section 3.2): gate · attention(modulate(norm(x))). Shift, scale and gate come from the
    condition by a linear map that starts at zero. The paper's code has one map to 6 D for a block; its two halves are
    the maps of two branches here. All three inputs, where they are separate, get the same modulation."""

    def __init__(self, settings: DiTSettings):
        super().__init__(settings, unlearned_norm(settings))
        self.modulation = nn.Linear(settings.width, 3 * settings.width)

    def transform(self, x_BTD: Tensor, *more_BTD: Tensor, condition_BD: Tensor) -> Tensor:  # type: ignore[override]
        shift, scale, gate = self.modulation(condition_BD).chunk(3, dim=-1)
        return gate[:, None] * super().transform(*(modulate(x, shift, scale) for x in (x_BTD, *more_BTD)))


class ModulatedFeedForward(PatchFeedForward):
    """The feed-forward with adaLN-zero, as in `ModulatedAttention`."""

    approximate = "tanh"

    def __init__(self, settings: DiTSettings):
        super().__init__(settings, unlearned_norm(settings))
        self.modulation = nn.Linear(settings.width, 3 * settings.width)

    def transform(self, x_BTD: Tensor, *, condition_BD: Tensor) -> Tensor:  # type: ignore[override]
        shift, scale, gate = self.modulation(condition_BD).chunk(3, dim=-1)
        return gate[:, None] * super().transform(modulate(x_BTD, shift, scale))


def unlearned_norm(settings: DiTSettings) -> nn.Module:
    """LayerNorm without parameters: the modulation brings them."""
    return nn.LayerNorm(settings.width, eps=settings.norm_eps, elementwise_affine=False)


class DiT(Network):
    """Noisy images (B, C, S, S), timesteps (B,) and labels (B,), both int64, to the predicted noise (B, C, S, S).

    The label `classes` means that no class is told. The condition is the timestep's embedding plus the label's, with
    SiLU, which has no parameters and is therefore applied once for all branches. The maps that modulate and the last
    one start at zero: untrained, the network predicts exactly 0. Variances are not learned, so the last map has C
    numbers a pixel and not 2 C. All other weights are drawn with `init_std`, whose default is the paper's for
    embeddings of timestep and label; the paper's code draws the others, the patch embedding too, by Xavier's rule.
    """

    zero = ("modulation.weight", "head.weight")
    # A row of labels is met by one class alone and is added as a bias is. The paper decays nothing.
    undecayed = (*Network.undecayed, "labels.weight")
    settings: DiTSettings
    positions: Tensor

    def __init__(
        self,
        settings: DiTSettings,
        connection: ConnectionSettings,
        inputs: ImageInputs,
        *,
        backbone_seed: int = 0,
        connection_seed: int = 0,
    ):
        super().__init__(settings)
        self.inputs = inputs
        width, numbers = settings.width, inputs.channels * settings.patch**2
        self.embedding = nn.Linear(numbers, width)
        self.timestep = nn.Sequential(nn.Linear(FREQUENCIES, width), nn.SiLU(), nn.Linear(width, width))
        self.labels = nn.Embedding(inputs.classes + 1, width)
        self.register_buffer("positions", grid_positions(inputs.size // settings.patch, width), persistent=False)
        self.branches = nn.ModuleList()
        for _ in range(settings.layers):
            self.branches.extend([ModulatedAttention(settings), ModulatedFeedForward(settings)])
        self.norm = unlearned_norm(settings)
        self.modulation = nn.Linear(width, 2 * width)
        self.head = nn.Linear(width, numbers)
        self._complete(connection, backbone_seed, connection_seed)

    def forward(self, noisy_BCSS: Tensor, timesteps_B: Tensor, labels_B: Tensor) -> Tensor:
        times_BF = waves(timesteps_B.to(self.positions.dtype), FREQUENCIES)
        condition_BD = F.silu(self.timestep(times_BF) + self.labels(labels_B))
        x_BTD = self.embedding(to_patches(noisy_BCSS, self.settings.patch)) + self.positions
        x_BTD = self.wired(x_BTD, condition_BD=condition_BD)
        shift, scale = self.modulation(condition_BD).chunk(2, dim=-1)
        noise_BTP = self.head(modulate(self.norm(x_BTD), shift, scale))
        return from_patches(noise_BTP, self.settings.patch, self.inputs.channels)
