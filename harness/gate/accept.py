"""The only way to a baseline: runs of all seeds by the code at hand, and a reason."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from harness.errors import HarnessError
from harness.gate.baseline import ArmBaseline, Baseline, SeedRun
from harness.gate.output import check_writable
from harness.gate.reading import LOSS, digests_of, environment_of, seed_run
from harness.gate.reference import measured_arm
from harness.gate.run import check_seeds, say, suite_digest, unit_of
from harness.gate.runs import Here, Question
from harness.run.environment import code, versions


class RefusedError(HarnessError):
    """A run failed: there is no baseline to accept."""


def accept(asked: Question, path: Path, reason: str) -> Baseline:
    """Train what is missing, and write the file. Raises RefusedError where a run failed, with the file as it was."""
    check_seeds(asked)
    check_writable([str(path)])
    if path.exists():
        Baseline.read(path, asked.suite.name)  # what is no baseline of this suite is not written over
    suite, here = asked.suite, Here(asked)
    say(f"golden runs: {len(suite.arms)} arms, {suite.gate.golden_steps} steps")
    golden = here.golden()
    rows = here.throughput()
    seeds = (*suite.seeds, *suite.gate.confirm)
    say(f"{len(seeds)} seeds of every arm")
    runs = {key: seed_run(cell) for key, cell in here.seeds(seeds, list(suite.arms)).items()}
    if failed := [f"{arm}-s{seed} ({run.failure})" for (arm, seed), run in runs.items() if run.failure is not None]:
        raise RefusedError(f"--accept: not written, a baseline is of runs that ended: {', '.join(failed)}")
    settings = here.settings()
    measured = {arm: measured_arm(cell, rows.get(arm), settings[arm]) for arm, cell in golden.items()}
    arms = {arm: one for arm, one in measured.items() if one is not None}
    if short := [arm for arm in measured if arm not in arms]:
        raise RefusedError(f"--accept: not written, golden runs failed: {', '.join(short)}")
    first, made_by = next(iter(golden.values())), code()
    made = Baseline(
        suite=suite.name,
        suite_digest=suite_digest(asked),
        reason=reason,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        commit=made_by["commit"],
        dirty=made_by["dirty"],
        metric=LOSS,
        unit=unit_of(asked),
        environment=environment_of(first),
        digests=digests_of(first),
        versions=versions(),
        arms={arm: _with_seeds(one, arm, runs) for arm, one in arms.items()},
    )
    made.write(path)
    return made


def _with_seeds(one: ArmBaseline, arm: str, runs: dict[tuple[str, int], SeedRun]) -> ArmBaseline:
    own = {str(seed): run for (name, seed), run in runs.items() if name == arm}
    return one.model_copy(update={"seeds": own})
