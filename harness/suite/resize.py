"""Arms in another size: `resize: {match: params, arm: dhc-n4}` is solved by the cost formulas, without torch.

A residual network that is as large, or needs as much memory or time, as an arm with a costly connection is the fair
opponent of that arm. Width (or depth) takes the model near, in steps that heads and connection allow, and the
feed-forward's width takes it the rest of the way; both may go down as well as up.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Iterator

from harness.data.inputs import Inputs
from harness.errors import UsageError
from harness.models import cost
from harness.models.settings import AnyModel, ModelSettings
from harness.suite.estimate import Machine, table_machine
from harness.suite.schema import Arm, Resize, Suite

FINE, TOLERANCE = 0.002, 0.01
"""How near is near enough to look no further, and how far away is an error; shares of what is to be met."""
CHIP = "h100"
"""Whose time it is where nobody says."""
ROUND = (64, 16, 8, 4, 2, 1)
"""The feed-forward's width is a multiple of the first of these that comes near enough: chips like round widths."""
LARGEST = 64
"""No width or depth is tried that is more times the arm's own."""


class Resized(Resize):
    """A resize that is done."""

    before: AnyModel
    """The model as the file has it."""
    wanted: float
    """What the other arm costs: parameters, bytes, seconds, or, with a ratio, training FLOPs of a step."""
    reached: float
    """What the arm costs now."""

    @property
    def off(self) -> float:
        """The difference as a share of what was wanted."""
        return self.reached / self.wanted - 1

    def value_text(self, value: float) -> str:
        if self.match == "params":
            return f"{value:,.0f} parameters"
        if self.match == "memory":
            return f"{value / 2**20:,.1f} MiB"
        return f"{value:.4g} training FLOPs a step" if self.ratio is not None else f"{1e3 * value:.4g} ms a step"

    def goal_text(self) -> str:
        """What is met: `the memory of dhc-n4`."""
        if self.ratio is not None:
            return f"{self.ratio:g} times its own FLOPs, the time of {self.arm}"
        return f"the {'parameters' if self.match == 'params' else self.match} of {self.arm}"


def resized(suite: Suite, inputs: Inputs) -> Suite:
    """The suite with every arm that says `resize` in the size that it asks for; from here on its settings are plain.
    Raises UsageError, `arms.<arm>.resize: ...`, where no size comes within TOLERANCE."""
    arms = {
        name: arm if arm.resize is None or isinstance(arm.resize, Resized) else _resized(name, arm, suite, inputs)
        for name, arm in suite.arms.items()
    }
    return suite.model_copy(update={"arms": arms})


def _resized(name: str, arm: Arm, suite: Suite, inputs: Inputs) -> Arm:
    assert arm.resize is not None
    resize, target = arm.resize, suite.arms[arm.resize.arm]

    def price(model: ModelSettings) -> float:
        return _price(resize, arm.model_copy(update={"model": model}), inputs, f"arms.{name}.resize")

    if resize.ratio is not None:
        wanted = resize.ratio * price(arm.model)
    else:
        wanted = _price(resize, target, inputs, f"arms.{name}.resize")
    model = min(_candidates(arm, inputs, resize.by, price, wanted), key=_distance(arm.model, price, wanted))
    done = Resized(**resize.model_dump(), before=arm.model, wanted=wanted, reached=price(model))
    if abs(done.off) > TOLERANCE:
        size = f"layers {model.layers}" if resize.by == "depth" else f"width {model.width}"
        raise UsageError(
            f"arms.{name}.resize: no size comes within {TOLERANCE:.0%} of {done.goal_text()}, "
            f"{done.value_text(wanted)}: the nearest, {size} and ffn_width {model.hidden}, has "
            f"{done.value_text(done.reached)} ({done.off:+.1%})"
        )
    return arm.model_copy(update={"model": model, "resize": done})


def _price(resize: Resize, arm: Arm, inputs: Inputs, where: str) -> float:
    """What of the arm is to be met."""
    if resize.match == "params":
        return float(cost.parameters(arm.model, arm.connection, inputs).total)
    if resize.match == "memory":
        # A model's size may not depend on the machine that plans it: without a chip, `auto` goes by a CPU's rules.
        machine = table_machine(resize.device, 1, False, None) if resize.device else Machine(name="any", place="cpu")
        return float(machine.memory(arm, inputs).total)
    if resize.ratio is not None:
        return float(arm.train.batch_size * cost.training_flops(arm.model, arm.connection, inputs))
    machine = table_machine(resize.device or CHIP, 1, False, None)
    seconds = machine.step(arm, inputs)
    if seconds is None:
        raise UsageError(f"{where}.device: {machine.name} has no {arm.train.precision}")
    return seconds


def _candidates(
    arm: Arm, inputs: Inputs, by: str, price: Callable[[ModelSettings], float], wanted: float
) -> Iterator[ModelSettings]:
    """Models near what is wanted: of every width (or depth) around it the one whose feed-forward fits best."""
    base = arm.model
    own = base.layers if by == "depth" else base.width
    key = "layers" if by == "depth" else "width"

    def shaped(size: int, hidden: int) -> ModelSettings:
        return base.model_copy(update={key: size, "ffn_width": hidden})

    def fits(model: ModelSettings) -> bool:
        misfit = arm.connection.problem(model.width, model.sublayers) or model.problem_with(inputs)
        return model.problem() is None and misfit is None

    def in_proportion(size: int) -> ModelSettings:
        return shaped(size, _proportion(base, shaped(size, 1)))

    largest = own
    while price(in_proportion(largest)) < wanted and largest < LARGEST * own:
        largest *= 2
    sizes = [size for size in range(1, 2 * largest + 1) if fits(shaped(size, base.hidden))]
    place = bisect.bisect_left(sizes, wanted, key=lambda size: price(in_proportion(size)))
    for size in sizes[max(place - 2, 0) : place + 2]:
        yield _with_feed_forward(lambda hidden, size=size: shaped(size, hidden), base.hidden, fits, price, wanted)  # type: ignore[misc]


def _with_feed_forward(
    shaped: Callable[[int], ModelSettings],
    usual: int,
    fits: Callable[[ModelSettings], bool],
    price: Callable[[ModelSettings], float],
    wanted: float,
) -> ModelSettings:
    """The width of the feed-forward that comes nearest, or a rounder one that comes near enough."""
    most = usual
    while price(shaped(most)) < wanted and most < LARGEST * usual:
        most *= 2
    exact = 1 + bisect.bisect_left(range(1, most + 1), wanted, key=lambda hidden: price(shaped(hidden)))
    found = [shaped(usual)]
    for step in ROUND:
        near = [shaped(max(step, exact // step * step + more)) for more in (0, step)]
        found += [model for model in near if fits(model)]
        best = min(found, key=lambda model: abs(price(model) / wanted - 1))
        if abs(price(best) / wanted - 1) <= FINE:
            return best
    return best


def _distance(
    base: ModelSettings, price: Callable[[ModelSettings], float], wanted: float
) -> Callable[[ModelSettings], tuple[float, float]]:
    """Orders models: all that are near enough count as equally near, and of them the one in whose proportions the file
    has the model comes first."""

    def distance(model: ModelSettings) -> tuple[float, float]:
        off = abs(price(model) / wanted - 1)
        return off if off > FINE else 0.0, abs(math.log(model.hidden / _proportion(base, model)))

    return distance


def _proportion(base: ModelSettings, model: ModelSettings) -> int:
    """The hidden width that goes with the model's width as the file's does with its own."""
    return max(1, round(base.hidden * model.width / base.width))
