"""What a step of `harness run` takes beside a bare PyTorch loop of the same model, in turn in one process.

    python benchmarks/training_loop.py --scale tiny --scale toy --json loop.json

The harness's side is the real thing: `fit`, Lightning's Trainer with its callback, a journal in a cell's directory. The
other is what a person would write: random windows of a memory-mapped file of tokens, forward, backward, clipping, fused
AdamW, a schedule, a loss printed now and then. `fit` asks after every step whether it is to stop; it is asked here, and
the other loop has its turn while it waits for the answer. Windows of steps alternate, A B, B A, ...; a ratio is that of
the two windows of a round, its median over the rounds with an interval. CPU time is told beside wall time: little of
what else the machine does is in it. A validation and a checkpoint follow every window and are in none: what each takes
is told apart, and as a share of training at the scale's own intervals.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from harness.bench.rounds import Visit, paired_ratio
from harness.compare.markdown import grid
from harness.connections.settings import ResidualSettings
from harness.data.documents import Corpus
from harness.data.load import inputs_of, load_data
from harness.data.settings import StdlibSettings
from harness.data.shards import shard
from harness.models.presets import SCALES
from harness.models.settings import DecoderSettings
from harness.run.celldir import CellDir
from harness.training.fit import StoppedError, fit
from harness.training.optim import lr_factor, parameter_groups
from harness.training.recipe import Recipe, build_model, device_of
from harness.training.settings import TrainSettings

WARMUP = 3
"""Steps of either before the first window."""


def recipe_of(scale: str, data: Corpus, window: int, rounds: int, **train: object) -> Recipe:
    """The scale's residual network on these data, with a validation and a checkpoint after every window."""
    chosen = SCALES[scale]
    settings = TrainSettings(**{**chosen["train"], **train})
    period = window + 2  # validation and checkpoint fall into the two steps that no window has
    steps = max(settings.steps, period * (rounds + 2))
    return Recipe(
        connection=ResidualSettings(),
        model=DecoderSettings(**chosen["model"]),
        train=settings.model_copy(update={"steps": steps, "validate_every": period, "checkpoint_every": period}),
        inputs=inputs_of(data),
        streams={"backbone": 1, "connection": 2, "data": 3, "dropout": 4},
    )


class BareLoop:
    """The training loop of a script."""

    def __init__(self, recipe: Recipe, tokens: np.ndarray):
        train, self.device = recipe.train, device_of(recipe.train)
        self.train, self.tokens, self.context = train, tokens, recipe.model.context
        self.model = build_model(recipe).to(self.device)
        groups = [
            {k: v for k, v in g.items() if k != "names"} for g in parameter_groups(self.model, train.weight_decay)
        ]
        betas = train.beta1, train.beta2
        self.optimizer = torch.optim.AdamW(groups, lr=train.lr, betas=betas, eps=train.eps, fused=True)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, lambda step: lr_factor(step, train))
        self.draw, self.steps = np.random.default_rng(0), 0
        self.printed: list[str] = []

    def step(self) -> None:
        starts = self.draw.integers(len(self.tokens) - self.context, size=self.train.batch_size)
        rows = [self.tokens[start : start + self.context + 1] for start in starts]
        batch = torch.from_numpy(np.stack(rows).astype(np.int64)).to(self.device)
        piece = self.train.micro_batch_size or len(batch)
        for part in batch.split(piece):
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.train.precision == "bf16"):
                logits = self.model(part[:, :-1])
                loss = F.cross_entropy(logits.float().flatten(0, 1), part[:, 1:].flatten()) * len(part) / len(batch)
            loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.train.clip)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.schedule.step()
        self.steps += 1
        if self.steps % self.train.log_every == 0:
            self.printed.append(f"{self.steps} {loss.item():.4f}")


class Turns:
    """What `fit` asks after every step: keeps the time and lets the bare loop have its turn. True ends the training.

    Steps come in periods of `window` + 2. In the time of a period's first step falls the checkpoint of the period
    before, in that of its last (place 0) a validation; those between are the window. The first period warms up."""

    def __init__(self, bare: BareLoop, window: int, rounds: int):
        self.bare, self.window, self.rounds = bare, window, rounds
        self.took: dict[str, list[Visit]] = {"harness": [], "bare": [], "validation": [], "checkpoint": []}
        self.asked, self.last = 0, Visit(0.0, 0.0)

    def __call__(self) -> bool:
        self.asked += 1
        period, place = divmod(self.asked, self.window + 2)
        if period == 0 and place == self.window + 1:
            self.turn(WARMUP, counts=False)
        elif period == 0 or 1 < place <= self.window:
            return False
        elif place == 0:
            self.note("validation")
        elif place == 1:
            self.note("checkpoint")
            if period % 2 == 0:
                self.turn(self.window)
        else:
            self.note("harness", self.window)
            if period % 2 == 1:
                self.turn(self.window)
        self.last = self.now()
        return period > self.rounds

    def now(self) -> Visit:
        if self.bare.device.type == "cuda":
            torch.cuda.synchronize()
        return Visit(time.perf_counter(), time.process_time())

    def note(self, what: str, steps: int = 1, since: Visit | None = None) -> None:
        began, now = since or self.last, self.now()
        seconds, cpu_seconds = now.seconds - began.seconds, now.cpu_seconds - began.cpu_seconds
        self.took[what].append(Visit(seconds / steps, cpu_seconds / steps))

    def turn(self, steps: int, counts: bool = True) -> None:
        began = self.now()
        for _ in range(steps):
            self.bare.step()
        if counts:
            self.note("bare", steps, began)


def rounds_of(scale: str, rounds: int, window: int, **train: object) -> dict[str, list[Visit]]:
    """What a step of both loops took, round by round, and a step with a validation or a checkpoint."""
    data = load_data(StdlibSettings(), None)
    assert isinstance(data, Corpus)
    recipe = recipe_of(scale, data, window, rounds, **train)
    with tempfile.TemporaryDirectory() as folder:
        cell = CellDir(Path(folder))
        turns = Turns(BareLoop(recipe, shard(data, "train").tokens), window, rounds)
        with contextlib.suppress(StoppedError):
            fit(recipe, data, cell.journal, cell.path, turns)
        cell.journal.close()
    return turns.took


def measure(
    scales: Sequence[str] = ("tiny", "toy"), rounds: int = 15, window: int = 10, **train: object
) -> dict[str, float]:
    """`<scale>/step`: a harness step over a bare one, with `/low` and `/high` of its 95% interval; `<scale>/cpu` the
    same of CPU time; `<scale>/with_pauses` with validations and checkpoints at the own intervals of the scale. Names
    that end with `_ms` are milliseconds: `extra_ms` is what a step takes more, of CPU time."""
    found: dict[str, float] = {}
    for scale in scales:
        took = rounds_of(scale, rounds, window, **train)
        wall = {what: [visit.seconds for visit in visits] for what, visits in took.items()}
        cpu = {what: [visit.cpu_seconds for visit in visits] for what, visits in took.items()}
        for name, seconds in (("step", wall), ("cpu", cpu)):
            ratio, interval = paired_ratio(seconds["harness"], seconds["bare"])
            ends = zip(("", "/low", "/high"), (ratio, *(interval or (ratio, ratio))), strict=True)
            found |= {f"{scale}/{name}{end}": value for end, value in ends}
        median = {what: statistics.median(each) for what, each in wall.items()}
        own = TrainSettings(**{**SCALES[scale]["train"], **train})
        pauses = (median["validation"] - median["harness"]) / own.validate_every
        pauses += (median["checkpoint"] - median["harness"]) / own.checkpoint_every
        found[f"{scale}/with_pauses"] = found[f"{scale}/step"] + pauses / median["bare"]
        found[f"{scale}/bare_ms"] = 1e3 * median["bare"]
        more = [h - b for h, b in zip(cpu["harness"], cpu["bare"], strict=True)]
        found[f"{scale}/extra_ms"] = 1e3 * statistics.median(more)
        for what in ("validation", "checkpoint"):
            found[f"{scale}/{what}_ms"] = 1e3 * (median[what] - median["harness"])
    return found


def table(scales: Sequence[str], found: dict[str, float]) -> str:
    rows = [
        [
            "scale",
            "bare step",
            "harness ×",
            "95%",
            "of CPU time ×",
            "95%",
            "extra",
            "validation",
            "checkpoint",
            "with both ×",
        ]
    ]
    for scale in scales:
        one = {key.removeprefix(f"{scale}/"): value for key, value in found.items() if key.startswith(f"{scale}/")}
        rows.append(
            [
                scale,
                f"{one['bare_ms']:.1f} ms",
                f"{one['step']:.3f}",
                f"{one['step/low']:.3f} to {one['step/high']:.3f}",
                f"{one['cpu']:.3f}",
                f"{one['cpu/low']:.3f} to {one['cpu/high']:.3f}",
                f"{one['extra_ms']:+.2f} ms",
                f"{one['validation_ms']:.0f} ms",
                f"{one['checkpoint_ms']:.0f} ms",
                f"{one['with_pauses']:.3f}",
            ]
        )
    return "\n".join(grid(rows, set(range(1, 10))))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--scale", action="append", choices=[name for name in SCALES if "type" not in SCALES[name]["model"]]
    )
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--window", type=int, default=10, help="steps of either in a round; a multiple of ten")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, help="examples of a step, in one piece (default: the scale's)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the ratios into this file")
    options = parser.parse_args()
    scales = options.scale or ["tiny", "toy"]
    train: dict[str, object] = {"threads": options.threads}
    if options.batch:
        train |= {"batch_size": options.batch, "micro_batch_size": None}
    found = measure(scales, options.rounds, options.window, **train)
    print(table(scales, found))
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
