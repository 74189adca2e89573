"""What all models are: branches in a list, wired by whatever `Connections` stack they are given."""

from __future__ import annotations

import hashlib
import math
from typing import Any, cast

import torch
from torch import Tensor, nn

from harness import connections
from harness.connections.base import Connections
from harness.connections.settings import ConnectionSettings
from harness.models.layers import Branch
from harness.models.settings import ModelSettings


class Network(nn.Module):
    """The backbone's weights come from their own random stream, `backbone_seed`, drawn in the order of their names'
    registration and without a look at the connection: two arms of one seed start from bit-equal shared weights
    (but for `output_init_scale`, which scales the draw afterwards).

    A subclass registers its modules, the branches among them, and then calls `_complete`.
    """

    zero: tuple[str, ...] = ()
    """Endings of the names of weights that are zero at first."""
    undecayed: tuple[str, ...] = ("norm.weight", ".bias")
    """Endings of the names of the backbone's parameters that weight decay leaves alone."""

    branches: nn.ModuleList
    connections: Connections

    def __init__(self, settings: ModelSettings):
        super().__init__()
        self.settings = settings

    def _complete(self, connection: ConnectionSettings, backbone_seed: int, connection_seed: int) -> None:
        self._initialise(backbone_seed, connection.output_init_factor())
        # The stack draws from torch's global stream, as modules do; it is given its own seed and put back after.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(connection_seed)
            self.connections = connections.build(connection, self.settings.width, self.settings.sublayers)

    @torch.no_grad()
    def _initialise(self, seed: int, output_factor: float) -> None:
        generator = torch.Generator().manual_seed(seed)
        output_std = self.settings.init_std / math.sqrt(self.settings.sublayers) * output_factor
        for name, parameter in self.named_parameters():
            if name.endswith("norm.weight") or parameter.is_meta:
                continue  # ones; a model on the meta device is there to be counted
            if name.endswith((".bias", *self.zero)):
                parameter.zero_()
                continue
            std = output_std if name.endswith((".out.weight", ".out")) else self.settings.init_std
            parameter.normal_(generator=generator).mul_(std)

    def wired(self, x_BTD: Tensor, **given: Any) -> Tensor:
        """(B, T, D) through all branches; `given` goes to every branch's transform (a mask, a condition)."""
        if torch.is_autocast_enabled(x_BTD.device.type):  # autocast leaves embeddings in fp32; the stream is to be bf16
            x_BTD = x_BTD.to(torch.get_autocast_dtype(x_BTD.device.type))
        branches = [cast(Branch, branch).given(**given) for branch in self.branches] if given else list(self.branches)
        return self.connections(x_BTD, branches)

    def auxiliary_losses(self) -> dict[str, Tensor]:
        """Terms of the training loss besides the objective's, weighted, by name, of the last forward pass."""
        return {}

    def readings(self) -> dict[str, float]:
        """What the model has to report of its forward passes since `reset_readings`, by name (expert loads)."""
        return {}

    def expert_loads(self) -> Tensor | None:
        """(layers, E): every expert's share of the choices since `reset_readings`; None without experts."""
        return None

    def reset_readings(self) -> None:
        """Begin `readings` anew."""

    def decays(self, name: str) -> bool:
        """Whether weight decay applies to the parameter `name`. A connection's parameters are its type's business; of
        the backbone's it is decided by name, never by the number of dimensions (see `Connections.decayed`)."""
        if name.startswith("connections."):
            return self.connections.decays(name.removeprefix("connections."))
        return not name.endswith(self.undecayed)

    def backbone_digest(self) -> str:
        """SHA-256 of the weights that arms of one seed share at initialisation."""
        digest = hashlib.sha256()
        for name, parameter in self.named_parameters():
            if not name.startswith("connections."):
                digest.update(name.encode())
                digest.update(parameter.detach().to("cpu", torch.float32).contiguous().numpy().tobytes())
        return digest.hexdigest()
