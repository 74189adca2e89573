"""Planted harms: what every layer of the gate says of each, by real gates of a copy of the package with a line changed.

    python benchmarks/gate_harms.py                       # all of them; two to three minutes each on two cores
    python benchmarks/gate_harms.py --harms warmup clip   # some
    python benchmarks/gate_harms.py --layers L0,L1        # half a minute each

The suite is suites/ci.yaml with the residual arm and dhc-n4, against the committed baseline. `red` is the share of
gates whose L2 is red, over 1,000 gates on the differences that were found, drawn with replacement.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from harness.gate.baseline import baseline_path, noise_path
from harness.gate.findings import Finding, worst
from harness.gate.noise import Noise
from harness.gate.power import simulate
from harness.gate.rule import Spread
from harness.suite.file import SuiteFile

ROOT = Path(__file__).parents[1]
LEFT_OUT = (
    "  shc-n2: {connection: {type: hyper, rate: 2, dynamic: false}}\n",
    "  dfc-m2: {connection: {type: frac, rate: 2}}\n",
)
GATES = 1000


@dataclass(frozen=True)
class Harm:
    about: str
    file: str
    old: str
    new: str


HARMS = {
    "refactoring": Harm(
        "a refactoring that changes no number", "training/optim.py",
        "        return (step + 1) / settings.warmup_steps\n",
        "        done = 1 + step\n        return done / settings.warmup_steps\n",
    ),
    "lr": Harm(
        "learning rate × 0.7", "training/optim.py", "groups, lr=settings.lr,", "groups, lr=0.7 * settings.lr,",
    ),
    "decay": Harm(
        "weight decay on static parts", "connections/coefficients.py",
        'DECAYED = frozenset({"dynamic_alpha_fn", "dynamic_beta_fn"})',
        'DECAYED = frozenset({"dynamic_alpha_fn", "dynamic_beta_fn", "static_alpha", "static_beta"})',
    ),
    "scale": Harm(
        "scale of the dynamic part 0.01 → 0.1", "connections/coefficients.py",
        "SCALE_AT_START = 0.01", "SCALE_AT_START = 0.1",
    ),
    "transposed": Harm(
        "A_r transposed", "connections/coefficients.py",
        "            return transposed_product(alpha, work)",
        "            head, tail = alpha.split([alpha.shape[-1] - alpha.shape[-2], alpha.shape[-2]], -1)\n"
        "            alpha = torch.cat([head, tail.transpose(-1, -2)], -1)\n"
        "            return transposed_product(alpha, work)",
    ),
    "means": Harm(
        "averaged batch means in validation", "training/objective.py",
        "            nats += losses.sum(dtype=torch.float64).cpu()\n            self.judged += losses.sum(dim=1",
        "            pieces = -(-len(self.held_out[0]) // self.piece)\n"
        "            nats += losses.double().mean().cpu() * self.held_out[0][:, 1:].size / pieces\n"
        "            self.judged += losses.sum(dim=1",
    ),
    "dropout": Harm(
        "dropout 0.1 by accident", "models/settings.py",
        "    dropout: float = Field(default=0.0,", "    dropout: float = Field(default=0.1,",
    ),
    "order": Harm(
        "another order of the data in every arm", "training/objective.py",
        '            seed=recipe.streams["data"],\n        )\n        count, valid',
        '            seed=recipe.streams["data"] + len(recipe.connection.tag()),\n        )\n        count, valid',
    ),
    "epsilon": Harm(
        "epsilon of RMSNorm 1e-5 → 1e-2", "models/settings.py",
        "    norm_eps: float = Field(default=1e-5,", "    norm_eps: float = Field(default=1e-2,",
    ),
    "warmup": Harm(
        "warm-up dropped", "training/optim.py", "    if step < settings.warmup_steps:", "    if step < 0:",
    ),
    "positions": Harm(
        "keys one position late", "models/layers.py",
        "q, k = self.rotary(q, positions), self.rotary(k, positions)",
        "q, k = self.rotary(q, positions), self.rotary(k.roll(1, -2), positions).roll(-1, -2)",
    ),
    "clip": Harm(
        "gradients clipped at 0.1", "training/settings.py",
        "    clip: float = Field(default=1.0,", "    clip: float = Field(default=0.1,",
    ),
    "untied": Harm(
        "tied embedding untied", "models/settings.py", "    tied: bool = True", "    tied: bool = False",
    ),
}  # fmt: skip


def planted(harm: Harm, folder: Path) -> Path:
    """A copy of the package and the suite with the harm in it."""
    tree = folder / "tree"
    shutil.copytree(ROOT / "harness", tree / "harness", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "suites", tree / "suites")
    for path, changes in (
        (tree / "harness" / harm.file, [(harm.old, harm.new)]),
        (tree / "suites" / "ci.yaml", [(line, "") for line in LEFT_OUT]),
    ):
        text = path.read_text(encoding="utf-8")
        for old, new in changes:
            if text.count(old) != 1:
                raise SystemExit(f"{path.relative_to(tree)} has not one place to change, but {text.count(old)}: {old}")
            text = text.replace(old, new)
        path.write_text(text, encoding="utf-8")
    return tree


def gated(harm: Harm, layers: str, jobs: int, baseline: Path) -> dict[str, Any]:
    """What `harness gate --json` says."""
    with tempfile.TemporaryDirectory() as folder:
        tree, said = planted(harm, Path(folder)), Path(folder) / "said.json"
        command = [
            sys.executable, "-m", "harness", "gate", "suites/ci.yaml", "--baseline", str(baseline), "--layers", layers,
            "--stale-ok", "--jobs", str(jobs), "--json-file", str(said), "--results", str(Path(folder) / "results"),
        ]  # fmt: skip
        environment = {**os.environ, "PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, cwd=tree, env=environment, stdout=subprocess.DEVNULL)
        if not said.exists():
            raise SystemExit(f"the gate ended with {done.returncode} and said nothing")
        found: dict[str, Any] = json.loads(said.read_text())
        return found


def red_share(found: dict[str, Any], noise: Noise) -> float:
    """Of gates whose differences are drawn from those that were found."""
    rule, seeds = SuiteFile(ROOT / "suites/ci.yaml", []).resolve().gate, 10
    known: dict[str, list[float]] = {}
    for line in found["seeds"]:
        if line["difference"] is not None:
            known.setdefault(line["arm"], []).append(line["difference"])

    def draw(generator: np.random.Generator, arm: str, count: int) -> Sequence[float]:
        return [float(one) for one in generator.choice(known[arm], count)]

    paired = all(line["paired"] for line in found["seeds"])
    strangers = Spread(math.sqrt(2) * noise.seed.sd, noise.seed.df)
    gates = simulate(list(known), draw, noise.paired.spread if paired else strangers, rule, seeds, GATES)
    return sum("fail" in verdicts.values() for verdicts in gates) / GATES


def row(harm: Harm, found: dict[str, Any], noise: Noise | None) -> str:
    # The arms that were left out of the suite are inconclusive in L0, and no matter of the harm.
    golden = worst(Finding(**one) for one in found["findings"] if one["layer"] == "L0" and one["rule"] != "arms")
    layers, arms = {**found["layers"], "L0": golden}, ("residual", "dhc-n4")
    first = [one for one in found["findings"] if one["state"] == "fail" and one["layer"] in ("L0", "L1")]
    caught = ", ".join(dict.fromkeys(one["rule"] for one in first)) or "–"
    cells = [harm.about, layers["L0"], layers["L1"], caught]
    for arm in arms:
        lines = [one for one in found["seeds"] if one["arm"] == arm]
        differences = [one["difference"] for one in lines if one["difference"] is not None]
        cells.append(f"{statistics.mean(differences):+.4f} ({len(differences)})" if differences else "–")
    cells.append(layers["L2"])
    cells.append(f"{red_share(found, noise):.1%}" if noise is not None and found["seeds"] else "–")
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--harms", nargs="+", choices=HARMS, default=list(HARMS), metavar="NAME", help=", ".join(HARMS))
    parser.add_argument("--layers", default="L0,L1,L2")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--json", metavar="FILE", help="also all that the gates said")
    options = parser.parse_args()
    baseline = (ROOT / baseline_path("ci")).resolve()
    noise = Noise.read(noise_path(baseline), "ci")
    said = {}
    print("| harm | L0 | L1 | caught there by | Δ residual (seeds) | Δ dhc-n4 (seeds) | L2 | red |")
    print("|---|---|---|---|--:|--:|---|--:|", flush=True)
    for name in options.harms:
        said[name] = gated(HARMS[name], options.layers, options.jobs, baseline)
        print(row(HARMS[name], said[name], noise), flush=True)
        if options.json:
            Path(options.json).write_text(json.dumps(said, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
