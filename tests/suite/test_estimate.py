"""Hours, memory and disk of a plan: from a chip of the table, from measured steps, against budgets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from harness.connections.settings import ResidualSettings
from harness.data.inputs import TextInputs
from harness.errors import UsageError
from harness.models import cost
from harness.suite.estimate import Machine, check_budget, disk, makespan, table_machine
from harness.suite.schema import Arm, Suite

TEXT = TextInputs(257, 256)


@pytest.fixture
def arms(load: Callable[..., Suite]) -> dict[str, Arm]:
    return load().arms


def test_hours_on_a_chip_are_flops_at_its_peak_and_the_streams_traffic(arms: dict[str, Arm]) -> None:
    machine = table_machine("h200", 1, False, 0.5)
    assert machine.chip is not None
    residual, dhc = arms["residual"], arms["dhc"]
    train = residual.train
    judged = -(-train.steps // train.validate_every) * (train.validation_tokens // 64) / (3 * train.batch_size)
    flops = cost.training_flops(residual.model, residual.connection, TEXT) * train.batch_size
    expected = flops / (machine.chip.fp32 * 0.5) * (train.steps + judged)
    assert machine.seconds("residual", residual, TEXT) == pytest.approx(expected)
    # Rate 4, dynamic: (8n + 2) widths are moved per sub-layer where a residual moves 3, and the small coefficients.
    moved = 3 * 4 * train.batch_size * 64 * 24 * ((34 - 3) * 64 + 2 * 24)
    flops = cost.training_flops(dhc.model, dhc.connection, TEXT) * train.batch_size
    expected = (flops / (machine.chip.fp32 * 0.5) + moved / machine.chip.bandwidth) * (train.steps + judged)
    assert machine.seconds("dhc", dhc, TEXT) == pytest.approx(expected)


def test_more_devices_take_less_time_and_a_measured_step_goes_before_the_table(arms: dict[str, Arm]) -> None:
    one, eight = (table_machine("h200", n, False, None).seconds("dhc", arms["dhc"], TEXT) for n in (1, 8))
    assert one is not None
    assert eight == pytest.approx(one / 8)
    measured = Machine(name="here", step_seconds={"dhc": 2.0})
    assert measured.seconds("residual", arms["residual"], TEXT) is None
    seconds = measured.seconds("dhc", arms["dhc"], TEXT)
    assert seconds is not None
    assert seconds > 2.0 * arms["dhc"].train.steps


def test_what_cannot_run_so_is_refused(arms: dict[str, Arm]) -> None:
    half = arms["dhc"].model_copy(update={"train": arms["dhc"].train.model_copy(update={"precision": "bf16"})})
    with pytest.raises(UsageError, match=r"--device: T4 has no bf16 \(arm 'dhc'\); train\.precision=fp32"):
        table_machine("t4", 1, False, None).check({"residual": arms["residual"], "dhc": half})
    with pytest.raises(UsageError, match=r"--devices: 9 devices cannot share a batch of 8 examples \(arm 'dhc'\)"):
        table_machine("h200", 9, False, None).check({"dhc": arms["dhc"]})


def test_devices_that_do_not_divide_the_batch_wait_for_the_fullest(arms: dict[str, Arm]) -> None:
    three, four, seven = (table_machine("h200", n, False, None).seconds("dhc", arms["dhc"], TEXT) for n in (3, 4, 7))
    assert three is not None
    assert four == seven == pytest.approx(three * 2 / 3), "of 8 examples, 3, 2 and 2 on the fullest"


def test_a_connection_that_moves_less_than_a_residual_costs_no_less_time(arms: dict[str, Arm]) -> None:
    class Less(ResidualSettings):
        def stream_traffic(self, dim: int, sublayers: int) -> tuple[int, int]:
            return 0, 0

    machine, residual = table_machine("h200", 1, False, None), arms["residual"]
    less = residual.model_copy(update={"connection": Less()})
    assert machine.seconds("residual", less, TEXT) == machine.seconds("residual", residual, TEXT)


def test_a_validation_ends_with_the_held_out_data(arms: dict[str, Arm]) -> None:
    machine = Machine(name="here", step_seconds={"dhc": 1.0})
    train = arms["dhc"].train
    times = -(-train.steps // train.validate_every)
    assert machine.seconds("dhc", arms["dhc"], TEXT, 64 * 5) == pytest.approx(train.steps + times * 5 / 24)
    assert machine.seconds("dhc", arms["dhc"], TEXT, 10**9) == machine.seconds("dhc", arms["dhc"], TEXT)


@pytest.mark.parametrize(
    ("seconds", "jobs", "last"),
    [
        ([1.0, 1.0, 1.0], 2, 2.0),
        ([1.0] * 5, 4, 2.0),
        ([1.0, 1.0, 9.0], 3, 9.0),
        ([9.0, 1.0, 1.0, 1.0], 2, 9.0),
        ([], 2, 0.0),
    ],
)
def test_the_last_cell_ends_when_its_place_was_free(seconds: list[float], jobs: int, last: float) -> None:
    assert makespan(seconds, jobs) == last


def on(arm: Arm, **train: object) -> Arm:
    return arm.model_copy(update={"train": arm.train.model_copy(update=train)})


def test_cells_beside_each_other_need_cores_or_chips(arms: dict[str, Arm]) -> None:
    arm = arms["dhc"]
    assert Machine(name="here", cores=2).beside(4, [arm]) == 2
    assert Machine(name="here", cores=4).beside(4, [arm, on(arm, threads=2)]) == 2
    assert Machine(name="here", cores=1).beside(4, [on(arm, threads=2)]) == 1
    assert Machine(name="here", cores=2).beside(4, []) == 2
    gpu = Machine(name="here", cores=64, place="cuda")
    assert gpu.beside(4, [on(arm, device="cpu"), arm]) == 1, "one goes to the GPU by itself: they take turns"
    assert gpu.beside(4, [on(arm, device="cpu")]) == 4
    assert gpu.memory(on(arm, device="cpu"), TEXT) == Machine(name="here").memory(arm, TEXT)
    assert table_machine("h200", 8, False, None).beside(4, [arm]) == 4, "each on eight chips of its own"


def test_memory_of_a_device_under_ddp_and_fsdp(arms: dict[str, Arm]) -> None:
    arm = arms["dhc"]
    alone = Machine(name="x").memory(arm, TEXT)
    ddp, fsdp = (Machine(name="x", count=4, sharded=sharded).memory(arm, TEXT) for sharded in (False, True))
    assert (ddp.weights, ddp.gradients, ddp.optimiser) == (alone.weights, alone.gradients, alone.optimiser)
    assert ddp.activations == alone.activations // 4, "8 examples on four devices"
    assert ddp.streams == alone.streams // 4
    assert fsdp.activations == ddp.activations
    shape = cost.parameters(arm.model, arm.connection, TEXT)
    block = -(-shape.backbone // arm.model.layers)
    assert fsdp.optimiser == -(-alone.optimiser // 4)
    assert fsdp.gradients == -(-alone.gradients // 4) + 4 * block, "and those of one block, before they are shared out"
    assert fsdp.weights == -(-alone.weights // 4) + 4 * (block + shape.embedding), (
        "and one block and the root, gathered"
    )
    half = arm.model_copy(update={"train": arm.train.model_copy(update={"precision": "bf16"})})
    whole, parts = (Machine(name="x", count=4, sharded=sharded).memory(half, TEXT) for sharded in (False, True))
    assert whole.copies > parts.copies == 2 * (block + shape.embedding)
    assert Machine(name="x", sharded=True).memory(arm, TEXT) == alone


def test_micro_batches_bound_the_activations(arms: dict[str, Arm]) -> None:
    arm = arms["dhc"]
    small = arm.model_copy(update={"train": arm.train.model_copy(update={"micro_batch_size": 2})})
    whole, parts = (Machine(name="x").memory(a, TEXT) for a in (arm, small))
    assert parts == replace(
        whole, activations=whole.activations // 4, streams=whole.streams // 4, workspace=whole.workspace // 4
    )


def test_disk_is_the_kept_weights_and_two_checkpoints(arms: dict[str, Arm]) -> None:
    count = cost.parameters(arms["residual"].model, ResidualSettings(), TEXT).total
    assert disk(arms["residual"], TEXT) == (4 * count, 24 * count)


def test_a_chip_that_is_not_in_the_table_is_one_line_with_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"--device: no chip 'h20O' in the table"):
        table_machine("h20O", 1, False, None)


@pytest.mark.parametrize(
    ("hours", "memory", "budgets", "message"),
    [
        (2.0, 0, (1.5, None), "--budget-hours: about 2 hours are needed, and 1.5 are allowed"),
        (None, 0, (1.5, None), "--budget-hours: nothing is known of this machine"),
        (1.0, 3 * 2**30, (None, 2.5), "--budget-memory: about 3 GiB are needed at a time, and 2.5 GiB are allowed"),
        (1.0, 2**30, (1.0, 1.0), None),
        (None, 9 * 2**40, (None, None), None),
    ],
)
def test_a_budget_is_held(
    hours: float | None, memory: int, budgets: tuple[float | None, float | None], message: str | None
) -> None:
    if message is None:
        check_budget(hours, memory, *budgets)
        return
    with pytest.raises(UsageError) as caught:
        check_budget(hours, memory, *budgets)
    assert message in str(caught.value)
    assert caught.value.exit_code == 2
