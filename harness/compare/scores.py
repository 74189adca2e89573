"""Scores of single cells and arms as a table: a line for every task and arm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from harness.compare.columns import MISSING, metric_name
from harness.compare.markdown import grid
from harness.compare.statistics import mean_interval

SHOWN = (
    "acc", "acc_norm", "exact_match", "gold_bits_per_byte", "margin", "perplexity", "byte_perplexity", "bits_per_byte",
    "loss", "mse",
)  # fmt: skip

Scores = Mapping[str, float]


def scores_table(arms: Mapping[str, Sequence[Scores]]) -> str:
    """Markdown of `label/metric` scores of every arm, one mapping a seed. With one seed ± is the standard error over
    documents, where there is one; with several half the 95% t interval over seeds."""
    labels = dict.fromkeys(name.rsplit("/", 1)[0] for seeds in arms.values() for scores in seeds for name in scores)
    names = dict.fromkeys(name for seeds in arms.values() for scores in seeds for name in scores)
    having = dict.fromkeys(name.rsplit("/", 1)[1] for name in names if metric_name(name) in SHOWN)
    metrics = sorted(having, key=lambda metric: (SHOWN.index(metric.partition(".")[0]), metric))
    several = any(len(seeds) > 1 for seeds in arms.values())
    lines = [["task", "arm", *(["seeds"] if several else []), "documents", *metrics]]
    for label in labels:
        for arm, seeds in arms.items():
            asked = [scores for scores in seeds if f"{label}/documents" in scores]
            if asked:
                count = f"{asked[0][f'{label}/documents']:,.0f}"
                numbers = [_number(asked, f"{label}/{metric}", several) for metric in metrics]
                lines.append([label, arm, *([str(len(asked))] if several else []), count, *numbers])
    about = "half the 95% t interval over seeds" if several else "the standard error over documents"
    note = f"±: {about}. task:N: its first N documents. gold_bits_per_byte, margin (nats): of the right answer."
    return "\n".join([*grid(lines), "", note])


def _number(seeds: Sequence[Scores], name: str, several: bool) -> str:
    values = [scores[name] for scores in seeds if name in scores]
    if not values:
        return MISSING
    estimate = mean_interval(values)
    if len(values) == 1:
        metric, dot, kind = name.rpartition("/")[2].partition(".")
        error = seeds[0].get(f"{name.rpartition('/')[0]}/{metric}_stderr{dot}{kind}")
        return f"{values[0]:.4f}" + (f" ± {error:.4f}" if error is not None and not several else "")
    low, high = estimate.interval or (estimate.mean, estimate.mean)
    return f"{estimate.mean:.4f} ± {(high - low) / 2:.4f}"
