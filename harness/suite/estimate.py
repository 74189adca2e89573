"""Hours, memory and disk of a suite's arms before anything is paid, on a chip of the table or on a measured machine."""

from __future__ import annotations

import heapq
import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

from harness.connections.settings import ResidualSettings
from harness.data.inputs import Inputs
from harness.errors import UsageError, nearest
from harness.models import cost
from harness.suite.schema import Arm

USUAL_MFU = 0.4
"""Share of a chip's dense peak that a training step is taken to reach where nobody says otherwise."""

PASSES = 3
"""Stream traffic of a training step over that of its forward pass, as with FLOPs."""


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What hours and memory are estimated for: chips of the table, or, without a chip, the machine at hand."""

    name: str
    count: int = 1
    """Devices that share one cell's batch."""
    sharded: bool = False
    """Weights, gradients and optimiser state in parts over the devices (FSDP), or whole on each (DDP)."""
    chip: cost.Device | None = None
    mfu: float = USUAL_MFU
    place: cost.Place = "cpu"
    """Whose rules say what is kept for the backward pass."""
    cores: int = 1
    """Of the machine at hand, for cells beside each other."""
    step_seconds: Mapping[str, float] = field(default_factory=dict)
    """Measured here, by arm; what has no entry is estimated from the chip."""

    def about(self, jobs: int) -> str:
        if self.chip is None:
            return f"{self.name}, by a short measured step of every arm that is to be trained"
        sharing = f" × {self.count} ({'FSDP' if self.sharded else 'DDP'})" if self.count > 1 else ""
        several = f", {jobs} of these at a time" if jobs > 1 else ""
        return f"{self.name}{sharing}{several}, at {self.mfu:.0%} of its dense peak, communication not counted"

    def check(self, arms: Mapping[str, Arm]) -> None:
        """Raises UsageError for an arm that cannot run so."""
        for name, arm in arms.items():
            if self.count > arm.train.batch_size:
                examples = f"a batch of {arm.train.batch_size} examples (arm '{name}')"
                raise UsageError(f"--devices: {self.count} devices cannot share {examples}")
            if self.chip is not None and self.chip.peak(arm.train.precision) is None:
                has = f"{self.name} has no {arm.train.precision} (arm '{name}')"
                raise UsageError(f"--device: {has}; train.precision=fp32")

    def where(self, arm: Arm) -> cost.Place:
        """Where the arm's tensors are."""
        asked = arm.train.device
        return self.place if asked == "auto" or self.chip is not None else asked

    def beside(self, jobs: int, arms: Collection[Arm]) -> int:
        """How many of `jobs` cells of these arms really run beside each other: each has chips of its own, or its share
        of the cores; where one is on the machine's GPU, they take turns."""
        if self.chip is not None:
            return jobs
        if any(self.where(arm) == "cuda" for arm in arms):
            return 1
        return max(1, min(jobs, self.cores // max((arm.train.threads for arm in arms), default=1)))

    def seconds(self, name: str, arm: Arm, inputs: Inputs, held_out: int | None = None) -> float | None:
        """Of training and validating one cell of the arm; None where nothing is known of this machine. `held_out` is
        how many tokens or images there are to validate on."""
        train, positions = arm.train, arm.model.positions(inputs)
        text = arm.model.DATA != ("images",)
        asked = train.validation_tokens // positions if text else train.validation_images
        available = asked if held_out is None else held_out // positions if text else held_out
        # A validation is forward passes, a third of the work of training steps.
        judged = math.ceil(train.steps / train.validate_every) * min(asked, available) / (PASSES * train.batch_size)
        each = self.step_seconds.get(name)
        if each is None and self.chip is not None:
            each = self.step(arm, inputs)
        return None if each is None else each * (train.steps + judged)

    def step(self, arm: Arm, inputs: Inputs) -> float | None:
        """Seconds of a training step on the chip, None where it has no such precision: arithmetic at `mfu` of the peak,
        and beside it the streams' traffic beyond a residual's at full bandwidth."""
        assert self.chip is not None
        peak = self.chip.peak(arm.train.precision)
        if peak is None:
            return None
        examples = -(-arm.train.batch_size // self.count)  # of the device that has most
        flops = cost.training_flops(arm.model, arm.connection, inputs) * examples
        moved = sum(cost.traffic(arm.model, arm.connection)) - sum(cost.traffic(arm.model, ResidualSettings()))
        tokens = examples * arm.model.positions(inputs)
        size = PASSES * moved * arm.model.sublayers * tokens * (2 if arm.train.precision == "bf16" else 4)
        return flops / (peak * self.mfu) + max(size, 0) / self.chip.bandwidth

    def memory(self, arm: Arm, inputs: Inputs, sharded: bool | None = None) -> cost.Memory:
        """Of one device during a step: tensors, without the libraries, buffers of communication and fragments."""
        train, sharded = arm.train, self.sharded if sharded is None else sharded
        examples = min(-(-train.batch_size // self.count), train.micro_batch_size or train.batch_size)
        whole = cost.memory(
            arm.model,
            arm.connection,
            inputs,
            batch=examples,
            precision=train.precision,
            place=self.where(arm),
        )
        if not sharded or self.count == 1:
            return whole
        shape = cost.parameters(arm.model, arm.connection, inputs)
        block = -(-shape.backbone // arm.model.layers)
        gathered = block + shape.embedding  # the block at work, and what belongs to no block
        return replace(
            whole,
            weights=-(-whole.weights // self.count) + 4 * gathered,
            gradients=-(-whole.gradients // self.count) + 4 * block,
            optimiser=-(-whole.optimiser // self.count),
            copies=min(whole.copies, 2 * gathered),
        )

    def totals(self, arm: Arm, inputs: Inputs) -> dict[str, int]:
        """Memory of one device with everything whole on each, and in parts over all."""
        return {"ddp": self.memory(arm, inputs, False).total, "fsdp": self.memory(arm, inputs, True).total}


def disk(arm: Arm, inputs: Inputs) -> tuple[int, int]:
    """Bytes (kept, while training) of one cell: its weights; a checkpoint with the optimiser's state, and the next one
    being written."""
    size = 4 * cost.parameters(arm.model, arm.connection, inputs).total
    return size, 2 * 3 * size


def table_machine(name: str, count: int, sharded: bool, mfu: float | None) -> Machine:
    """A chip of the table. Raises UsageError with the nearest name there is."""
    chip = cost.find_device(name)
    if chip is None:
        known = [device.name for device in cost.DEVICES]
        raise UsageError(f"--device: no chip '{name}' in the table, and 'here' is this machine{nearest(name, known)}")
    return Machine(name=chip.name, count=count, sharded=sharded, chip=chip, mfu=mfu or USUAL_MFU, place="cuda")


def makespan(seconds: Iterable[float], jobs: int) -> float:
    """Seconds until the last cell ends, when each is begun in its order as soon as one of `jobs` places is free."""
    places = [0.0] * jobs
    for each in seconds:
        heapq.heapreplace(places, places[0] + each)
    return max(places)


def check_budget(hours: float | None, memory: int, budget_hours: float | None, budget_memory: float | None) -> None:
    """Raises UsageError where the estimate is over a budget (hours; GiB), or where there is none to hold it to."""
    if budget_hours is not None:
        if hours is None:
            raise UsageError("--budget-hours: nothing is known of this machine; name a chip, or --device here")
        if hours > budget_hours:
            raise UsageError(f"--budget-hours: about {hours:.3g} hours are needed, and {budget_hours:g} are allowed")
    if budget_memory is not None and memory > budget_memory * 2**30:
        need = f"{memory / 2**30:.3g} GiB"
        raise UsageError(f"--budget-memory: about {need} are needed at a time, and {budget_memory:g} GiB are allowed")
