"""A suite's cells: arm × seed, each with an identity made of everything that can change its numbers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.data.load import Data, digests_of
from harness.evaluation.asked import Asked, resolve
from harness.evaluation.local import eval_folder
from harness.evaluation.settings import TASKS_VERSION, EvaluationSettings
from harness.suite.schema import Arm, SeedStreams, Suite

IDENTITY_VERSION = 1
"""Part of every identity; raised when a change of code changes the numbers of cells that were trained before it."""


@dataclass(frozen=True)
class Cell:
    """One arm with one seed. `identity` names its training, `evaluation` how it is scored; the same cell asked for by
    two suites, under whatever arm name, has the same identity and is trained once."""

    arm: str
    seed: int
    config: dict[str, Any]
    """Everything that a worker needs: connection, model, train, data and their digests, evaluation, streams."""
    tag: str
    identity: str
    evaluation: str

    @property
    def name(self) -> str:
        """What people call it: `dhc-n4-s1`."""
        return f"{self.arm}-s{self.seed}"

    @property
    def folder(self) -> str:
        """Its directory: named by settings and identity, not by the suite that asked first."""
        return f"{self.tag}-s{self.seed}-{self.identity}"


def stream_seeds(seed: int, fixed: SeedStreams) -> dict[str, int]:
    """Seeds of the separate random streams, each derived from the cell's seed unless the suite fixes it."""
    return {
        stream: given if given is not None else _derived(stream, seed)
        for stream, given in ((name, getattr(fixed, name)) for name in SeedStreams.model_fields)
    }


def _derived(stream: str, seed: int) -> int:
    return int.from_bytes(hashlib.sha256(f"{stream}/{seed}".encode()).digest()[:8]) >> 1  # 63 bits, as torch takes


def cells(suite: Suite, data: Data, relative_to: Path | None = None) -> list[Cell]:
    """All cells, seed by seed, so that the first seeds of every arm are there early. Raises UsageError for a task that
    does not exist, or whose local documents (looked for below `relative_to` first) lack what is scored."""
    asked = resolve(suite.evaluation, relative_to)
    folder = eval_folder(suite.evaluation.data, relative_to)
    evaluation = suite.evaluation.model_copy(update={"data": str(folder) if folder else None})
    keys = {arm.model.type: evaluation_key(evaluation, asked, arm.model.type) for arm in suite.arms.values()}
    return [
        _cell(suite, name, arm, seed, data, evaluation, keys[arm.model.type])
        for seed in suite.seeds
        for name, arm in suite.arms.items()
    ]


def evaluation_key(settings: EvaluationSettings, asked: Sequence[Asked], model: str) -> str:
    """Names what such a model is asked, and how: `<how>`, or `<how>-<documents>` of local documents
    (`tracking.covers`)."""
    how = {"version": TASKS_VERSION, **settings.identity(model), "how": [one.how for one in asked]}
    documents = [one for part in asked for one in part.documents]
    return digest(how)[:8] + (f"-{digest(documents)[:6]}" if documents else "")


def _cell(suite: Suite, name: str, arm: Arm, seed: int, data: Data, evaluation: EvaluationSettings, key: str) -> Cell:
    config = {
        "connection": arm.connection.model_dump(mode="json"),
        "model": arm.model.model_dump(mode="json"),
        "train": arm.train.model_dump(mode="json"),
        "data": suite.data.model_dump(mode="json"),
        "digests": digests_of(data),
        "evaluation": evaluation.model_dump(mode="json"),
        "streams": stream_seeds(seed, suite.streams),
    }
    identity = {
        "version": IDENTITY_VERSION,
        "connection": config["connection"],
        "model": arm.model.identity(),
        "train": arm.train.identity(suite.data.KIND),
        # Paths do not matter, and shares held out show in the digests.
        "data": {**config["digests"], **suite.data.identity()},
        "streams": config["streams"],
    }
    return Cell(
        arm=name,
        seed=seed,
        config=config,
        tag=arm.connection.tag(),
        identity=digest(identity),
        evaluation=key,
    )


def digest(value: Any) -> str:
    """First 12 hexadecimal digits of the SHA-256 of a value's canonical JSON."""
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:12]


def by_identity(chosen: Iterable[Cell]) -> dict[str, Cell]:
    """The cells without those that a second arm asks for again (two arms may resolve to the same settings)."""
    first: dict[str, Cell] = {}
    for cell in chosen:
        first.setdefault(cell.identity, cell)
    return first
