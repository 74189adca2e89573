"""`harness gate calibrate`: how much a suite's losses vary, by what, on this machine."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from harness.errors import HarnessError, UsageError
from harness.gate.noise import Deviation, Noise, paired_noise
from harness.gate.output import check_writable
from harness.gate.power import power_table
from harness.gate.reading import digests_of, environment_of, seed_run
from harness.gate.rule import Spread, pooled
from harness.gate.run import check_seeds, say, suite_digest
from harness.gate.runs import Here, Key, Question
from harness.run.answer import windows_of
from harness.run.celldir import CellDir
from harness.run.environment import code
from harness.suite.cells import stream_seeds

COMPONENT_SEEDS = 10
"""Of the runs in which only the initial weights, or only the order of the data, differ."""

Losses = dict[str, dict[int, float]]


def calibrate(asked: Question, path: Path) -> Noise:
    """Train what is missing, and write the file. Raises HarnessError where runs failed: noise is not measured on what
    happened to survive."""
    check_seeds(asked)
    check_writable([str(path)])
    if path.exists():
        Noise.read(path, asked.suite.name)
    if len(asked.suite.arms) < 2:
        raise UsageError(f"{asked.path}: arms: paired noise is of two arms at least, and here is one")
    suite, here = asked.suite, Here(asked)
    rule, baseline = suite.gate, suite.baseline
    common = (*suite.seeds, *rule.confirm)
    say(f"{len(common) + len(rule.calibrate)} seeds of {baseline}, {len(common)} of every other arm")
    cells = here.seeds(common, list(suite.arms)) | here.seeds(rule.calibrate, [baseline])
    losses = _losses(cells, list(suite.arms))
    pairs, paired = paired_noise(losses, baseline)
    seed = pooled(list(of_arm.values()) for of_arm in losses.values())
    chosen = common[:COMPONENT_SEEDS]
    first = stream_seeds(suite.seeds[0], suite.streams)
    say(f"{len(chosen)} runs with other weights and the same batches, {len(chosen)} the other way round")
    order = {"data": first["data"]}
    weights = {"backbone": first["backbone"], "connection": first["connection"]}
    initialisation = pooled([_values(here.streams(chosen, baseline, order), baseline)])
    ordering = pooled([_values(here.streams(chosen, baseline, weights), baseline)])
    assert paired is not None
    assert seed is not None
    assert initialisation is not None
    assert ordering is not None
    document, document_paired = _documents(cells, baseline, common)
    directory = next(iter(cells.values()))
    made = Noise(
        suite=suite.name,
        suite_digest=suite_digest(asked),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        commit=code()["commit"],
        environment=environment_of(directory),
        digests=digests_of(directory),
        precision=suite.arms[baseline].train.precision,
        seed=_deviation(seed),
        initialisation=_deviation(initialisation),
        order=_deviation(ordering),
        paired=_deviation(paired),
        pairs=pairs,
        document=document,
        document_paired=document_paired,
        losses={arm: {str(one): loss for one, loss in sorted(of_arm.items())} for arm, of_arm in losses.items()},
        power=power_table(list(suite.arms), paired, rule, len(suite.seeds)),
    )
    made.write(path)
    return made


def _losses(cells: Mapping[Key, CellDir], arms: Sequence[str]) -> Losses:
    found: Losses = {arm: {} for arm in arms}
    failed = []
    for (arm, seed), cell in cells.items():
        run = seed_run(cell)
        if run.loss is None:
            failed.append(f"{arm}-s{seed} ({run.failure})")
        else:
            found[arm][seed] = run.loss
    if failed:
        raise HarnessError(f"gate calibrate: not written, noise is of runs that all ended: {', '.join(failed)}")
    return found


def _values(cells: Mapping[Key, CellDir], arm: str) -> list[float]:
    return list(_losses(cells, [arm])[arm].values())


def _deviation(spread: Spread) -> Deviation:
    return Deviation(sd=spread.sd, df=spread.df)


def _documents(cells: Mapping[Key, CellDir], baseline: str, seeds: Sequence[int]) -> tuple[float | None, float | None]:
    """Standard errors over the held-out text, in blocks of neighbours: of one run's loss, and of a paired difference's,
    each the mean over runs; None where there is one block."""
    blocks = {key: found.blocks() for key, cell in cells.items() if (found := windows_of(cell)) is not None}
    if len(blocks) < len(cells) or min(map(len, blocks.values())) < 2:
        return None, None
    alone = [_standard_error(blocks[baseline, seed]) for seed in seeds]
    paired = [_standard_error(mine - blocks[baseline, seed]) for (arm, seed), mine in blocks.items() if arm != baseline]
    return statistics.mean(alone), statistics.mean(paired)


def _standard_error(values: np.ndarray) -> float:
    return float(values.std(ddof=1)) / math.sqrt(len(values))
