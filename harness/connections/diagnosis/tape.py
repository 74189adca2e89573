"""What a stack of connections was given in one pass and what its branches read and wrote, seen from outside.

Axes: B batch, T time, D width, K branches.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from harness.connections.base import Branch, Connections, NormedBranch, inputs_of


@dataclass(frozen=True)
class Tape:
    """One pass, all (B, T, D). `reads[k]` is what branch k was given, before its norm; of query, key and value the
    query; of a branch whose norm and transform a type uses apart, what the first of them was given."""

    x: Tensor
    reads: list[Tensor]
    outputs: list[Tensor]
    out: Tensor
    branches: Sequence[Branch]


class Watched:
    """A branch that remembers what it read and wrote. With an `output` it does no work and gives that back; its norm
    still works, for a type may use it behind the sum."""

    def __init__(self, branch: Branch, output: Tensor | None = None):
        self.inputs, self.branch, self.output = inputs_of(branch), branch, output
        self.read: Tensor | None = None
        self.written: list[Tensor] = []

    def __call__(self, x_BTD: Tensor, *more_BTD: Tensor) -> Tensor:
        return self._answer(self.branch, x_BTD, *more_BTD)

    def norm(self, x_BTD: Tensor) -> Tensor:
        self._see(x_BTD)
        return cast(NormedBranch, self.branch).norm(x_BTD)

    def transform(self, x_BTD: Tensor, *more_BTD: Tensor) -> Tensor:
        return self._answer(cast(NormedBranch, self.branch).transform, x_BTD, *more_BTD)

    def _see(self, x_BTD: Tensor) -> None:
        if self.read is None:
            self.read = x_BTD

    def _answer(self, work: Branch, x_BTD: Tensor, *more_BTD: Tensor) -> Tensor:
        self._see(x_BTD)
        self.written.append(work(x_BTD, *more_BTD) if self.output is None else self.output)
        return self.written[-1]


def reads_of(branches: Sequence[Watched]) -> list[Tensor]:
    """What each of them read. Raises ValueError for one that was not asked exactly once."""
    for k, branch in enumerate(branches):
        if len(branch.written) != 1:
            raise ValueError(f"branch {k} was asked {len(branch.written)} times in one pass, not once")
    return [cast(Tensor, branch.read) for branch in branches]


@torch.no_grad()
def record(stack: Connections, run: Callable[[], object]) -> Tape:
    """The stack's pass in `run()`, which calls it once. Raises ValueError for a branch that is not called once."""
    seen: list[tuple[Tensor, list[Watched], Sequence[Branch], Tensor]] = []
    watched: list[Watched] = []

    def before(_: Any, arguments: tuple[Tensor, Sequence[Branch]]) -> Any:
        watched[:] = [Watched(branch) for branch in arguments[1]]
        return arguments[0], list(watched)

    def after(_: Any, arguments: tuple[Tensor, Any], out_BTD: Tensor) -> None:
        seen.append((arguments[0], list(watched), [branch.branch for branch in watched], out_BTD))

    handles = [stack.register_forward_pre_hook(before), stack.register_forward_hook(after)]
    try:
        run()
    finally:
        for handle in handles:
            handle.remove()
    ((x_BTD, branches, originals, out_BTD),) = seen
    return Tape(x_BTD, reads_of(branches), [branch.written[0] for branch in branches], out_BTD, originals)


def at_least_fp32(tape: Tape) -> Tape:
    """The same in fp32 where the pass was in less, so that wiring can be replayed outside of autocast."""

    def wide(x: Tensor) -> Tensor:
        return x.to(torch.promote_types(x.dtype, torch.float32))

    return Tape(wide(tape.x), [*map(wide, tape.reads)], [*map(wide, tape.outputs)], wide(tape.out), tape.branches)
