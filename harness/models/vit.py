"""The Vision Transformer (arXiv 2010.11929): images in, class logits out. Axes: B batch, C channels, S image side,
T tokens, D width."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from harness.connections.settings import ConnectionSettings
from harness.data.inputs import ImageInputs
from harness.models.network import Network
from harness.models.patches import PatchAttention, PatchFeedForward, to_patches
from harness.models.settings import ViTSettings


class ViT(Network):
    """Images (B, C, S, S) to logits (B, classes).

    Patches are embedded by a linear map with bias, positions are learned (Eq. 1), a branch is LayerNorm and attention
    or a GELU feed-forward (Eq. 2-3), and the classifier is linear on the normed class token (Eq. 4) or on the mean of
    the normed patches. All weights are drawn with `init_std`, the patch embedding and the classifier too; the paper's
    code starts the classifier and the class token at zero.
    """

    # Positions and class token are added to the stream as biases are: decay would only pull it towards 0.
    undecayed = (*Network.undecayed, "positions", "class_token")
    settings: ViTSettings

    def __init__(
        self,
        settings: ViTSettings,
        connection: ConnectionSettings,
        inputs: ImageInputs,
        *,
        backbone_seed: int = 0,
        connection_seed: int = 0,
    ):
        super().__init__(settings)
        self.inputs = inputs
        width, eps = settings.width, settings.norm_eps
        self.embedding = nn.Linear(inputs.channels * settings.patch**2, width)
        if settings.pool == "class_token":
            self.class_token = nn.Parameter(torch.empty(width))
        self.positions = nn.Parameter(torch.empty(settings.positions(inputs), width))
        self.branches = nn.ModuleList()
        for _ in range(settings.layers):
            self.branches.append(PatchAttention(settings, nn.LayerNorm(width, eps=eps)))
            self.branches.append(PatchFeedForward(settings, nn.LayerNorm(width, eps=eps)))
        self.norm = nn.LayerNorm(width, eps=eps)
        self.head = nn.Linear(width, inputs.classes)
        self._complete(connection, backbone_seed, connection_seed)

    def hidden(self, images_BCSS: Tensor) -> Tensor:
        """(B, T, D): the state before the final norm; the class token, where there is one, comes first."""
        x_BTD = self.embedding(to_patches(images_BCSS, self.settings.patch))
        if self.settings.pool == "class_token":
            first = self.class_token.to(x_BTD.dtype).expand(len(x_BTD), 1, -1)
            x_BTD = torch.cat([first, x_BTD], dim=1)
        return self.wired(x_BTD + self.positions)

    def forward(self, images_BCSS: Tensor) -> Tensor:
        hidden_BTD = self.hidden(images_BCSS)
        if self.settings.pool == "class_token":
            return self.head(self.norm(hidden_BTD[:, 0]))
        return self.head(self.norm(hidden_BTD).mean(dim=1))
