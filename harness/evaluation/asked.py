"""What a suite asks of its models: every task with where its documents come from, known without importing lm-eval."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from harness.errors import UsageError, close
from harness.evaluation.local import LocalData, eval_folder, locate
from harness.evaluation.settings import OURS, EvaluationSettings
from harness.evaluation.stock import Leaf, Stock, find, known


@dataclass(frozen=True)
class Asked:
    """One entry of `evaluation.tasks`: one of ours (`stock` is None), or one of lm-eval's with the local documents of
    its leaves. A leaf without local documents has them from the hub."""

    name: str
    stock: Stock | None = None
    local: tuple[LocalData | None, ...] = ()

    @property
    def how(self) -> str:
        """SHA-256 of how it asks."""
        digest = hashlib.sha256(self.name.encode())
        for leaf, _ in self.sources():
            digest.update(f"\0{leaf.name}\0{leaf.digest}".encode())
        return digest.hexdigest()

    @property
    def documents(self) -> list[str]:
        """Digests of the local documents, leaf by leaf, where there are any."""
        return [f"{leaf.name} {data.digest}" for leaf, data in self.sources() if data is not None]

    def sources(self) -> list[tuple[Leaf, LocalData | None]]:
        """The leaves with their local documents."""
        return list(zip(self.stock.leaves, self.local, strict=True)) if self.stock else []


def resolve(settings: EvaluationSettings, relative_to: Path | None = None) -> list[Asked]:
    """What the tasks stand for; a tag stands for its tasks one by one. Raises UsageError for an unknown name, a folder
    that is not there, and a split that is missing in it."""
    folder = eval_folder(settings.data, relative_to)
    asked: dict[str, Asked] = {}
    for name in settings.tasks:
        if name in OURS:
            asked[name] = Asked(name)
            continue
        if near := nearest_of_ours(name):
            raise UsageError(f"evaluation.tasks: no task is called '{name}'{near}")
        stock = find(name)
        one_by_one = not stock.groups and (len(stock.leaves) > 1 or stock.leaves[0].name != name)
        for part in [find(leaf.name) for leaf in stock.leaves] if one_by_one else [stock]:
            local = tuple(locate(folder, leaf) if folder else None for leaf in part.leaves)
            asked.setdefault(part.name, Asked(part.name, part, local))
    return list(asked.values())


def nearest_of_ours(name: str) -> str:
    """`; did you mean 'cloze'?` for an unknown name that is near one of ours."""
    return "" if known(name) else close(name, OURS)
