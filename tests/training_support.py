"""What the training tests and the golden maker share: a fixed text, connections, a journal in memory."""

from __future__ import annotations

from typing import Any

from harness.data.documents import Corpus, Document

CONNECTIONS: dict[str, dict[str, Any]] = {
    "residual": {"type": "residual"},
    "shc-n2": {"type": "hyper", "rate": 2, "dynamic": False},
    "dhc-n4": {"type": "hyper", "rate": 4},
    "dhc-n2-notanh": {"type": "hyper", "rate": 2, "tanh": False},
    "sfc-m2": {"type": "frac", "rate": 2, "dynamic": False},
    "dfc-m2": {"type": "frac", "rate": 2},
    "dfc-m4-nonorm-noscale": {"type": "frac", "rate": 4, "norm": False, "scale": False},
}

RELATIVES: dict[str, dict[str, Any]] = {
    "post-norm": {"type": "post_norm"},
    "ptb": {"type": "parallel"},
    "rezero": {"type": "rezero"},
    "laurel-rwlr": {"type": "laurel", "rank": 4},
    "laurel-pa": {"type": "laurel", "variant": "pa", "rank": 4},
    "resi-dual": {"type": "resi_dual"},
    "altup-n2": {"type": "altup"},
    "denseformer": {"type": "denseformer"},
    "dhc-n4-frozenAr-staticB": {"type": "hyper", "rate": 4, "A_r": "frozen", "B": "static"},
    "dghc-m2-n3": {"type": "ghc", "fractions": 2, "slots": 3},
    "mhc-n4": {"type": "mhc"},
    "mhclite-n3": {"type": "mhc_lite", "rate": 3},
    "ihc-n4": {"type": "identity_hc"},
    "attnres": {"type": "attention_residuals"},
    "attnres-block2-h2": {"type": "attention_residuals", "variant": "block", "blocks": 2, "heads": 2},
    "attnres-delta": {"type": "attention_residuals", "variant": "delta"},
    "mudd": {"type": "mudd"},
}
"""The other types, which the golden losses have in fp32."""

MODELS: dict[str, dict[str, Any]] = {
    "decoder": {"context": 32},
    "olmo": {"context": 32, "norm_type": "layer_norm_no_affine", "document_mask": True},
    "olmo2": {"context": 32, "norm_position": "after", "qk_norm": True, "kv_heads": 1, "tied": False},
    "moe": {"context": 32, "experts": 4, "qk_norm": True},
    "vit": {"type": "vit", "patch": 2},
    "dit": {"type": "dit", "patch": 2},
}
"""What the models have besides four layers of width 32 with two heads and dropout. The first is in the golden losses
with every connection, the others with two."""


def fixed_corpus() -> Corpus:
    """Text that is the same on every machine and Python: sentences from a small linear congruential generator."""
    words = [
        "the",
        "a",
        "one",
        "this",
        "every",
        "stream",
        "layer",
        "depth",
        "width",
        "token",
        "weight",
        "reads",
        "writes",
        "mixes",
        "keeps",
        "moves",
        "and",
        "or",
        "to",
    ]
    state, documents = 12345, []
    for number in range(24):
        text = []
        for _ in range(300):
            state = (1103515245 * state + 12345) % 2**31
            text.append(words[(state >> 16) % len(words)])
        documents.append(Document(f"{number:02d}", " ".join(text).encode()))
    return Corpus("fixed", tuple(documents[4:]), tuple(documents[:4]))


class MemoryJournal:
    """A journal that keeps its lines, and forgets on rewind what a file would lose."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, int, dict[str, float]]] = []
        self.extras: dict[tuple[str, int], dict[str, Any]] = {}
        """What lines have besides, by kind and step."""

    def write(self, kind: str, step: int, values: dict[str, float], **extra: Any) -> None:
        self.lines.append((kind, step, values))
        self.extras[kind, step] = extra

    def sync(self) -> None:
        pass

    def rewind(self, step: int) -> None:
        self.lines = [line for line in self.lines if line[1] <= step]

    def numbers(self) -> list[tuple[str, int, dict[str, float], dict[str, Any]]]:
        """All but what depends on the clock."""
        return [
            (kind, step, {k: v for k, v in values.items() if "second" not in k}, self.extras[kind, step])
            for kind, step, values in self.lines
        ]

    def losses(self) -> list[float]:
        return [values["train/loss"] for kind, _, values in self.lines if kind == "train"]
