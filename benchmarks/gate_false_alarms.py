"""How often the gate is red where nothing is worse: simulated gates on resampled calibration runs, and real gates of
the code at hand against itself on other seeds.

    python benchmarks/gate_false_alarms.py              # trains 15 more seeds of every arm the first time
    python benchmarks/gate_false_alarms.py --only-simulated

Simulated: differences of arms and baseline arm as they were calibrated, each arm's mean taken out, drawn with
replacement and with random signs (what a change does that harms nobody on average); and differences of two runs of one
arm on two seeds, which is what remains where pairing is broken. Real: of 30 seeds a random half is the head's and the
other half, under the head's numbers, the baseline's; the gate is the real one, on real cells, from a baseline file.
"""

from __future__ import annotations

import argparse
import math
import random
import statistics
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from harness.data.load import load_data
from harness.gate.baseline import Baseline, baseline_path, noise_path
from harness.gate.noise import Noise
from harness.gate.power import simulate
from harness.gate.reading import seed_run
from harness.gate.rule import Spread
from harness.gate.run import GateOptions, gate
from harness.gate.runs import Here, Question
from harness.suite.file import SuiteFile
from harness.suite.find import find_suite

SIMULATED, REAL = 2000, 40
OTHERS = tuple(range(301, 316))


def simulated(noise: Noise, question: Question) -> dict[str, Counter[str]]:
    """Kind of differences -> verdicts of whole gates."""
    rule, seeds = question.suite.gate, len(question.suite.seeds)
    losses = {arm: {int(seed): loss for seed, loss in of_arm.items()} for arm, of_arm in noise.losses.items()}
    base = losses[question.suite.baseline]
    centred = {}
    for arm, mine in losses.items():
        pairs = [mine[seed] - base[seed] for seed in mine.keys() & base.keys()]
        centred[arm] = [one - statistics.mean(pairs) for one in pairs]
    # The baseline arm has no arm to differ from: it borrows all.
    centred[question.suite.baseline] = [one for arm in noise.pairs for one in centred[arm]]

    def paired(generator: np.random.Generator, arm: str, count: int) -> Sequence[float]:
        return [float(one) for one in generator.choice(centred[arm], count) * generator.choice([-1, 1], count)]

    def unpaired(generator: np.random.Generator, arm: str, count: int) -> Sequence[float]:
        pool = list(losses[arm].values())
        return [float(one) for one in generator.choice(pool, count) - generator.choice(pool, count)]

    wide = Spread(math.sqrt(2) * noise.seed.sd, noise.seed.df)
    found = {}
    for kind, draw, spread in (("paired", paired, noise.paired.spread), ("unpaired", unpaired, wide)):
        gates = simulate(list(losses), draw, spread, rule, seeds, SIMULATED)
        found[kind] = Counter(worst(list(verdicts.values())) for verdicts in gates)
    return found


def real(question: Question, file: Path) -> Counter[str]:
    """Verdicts of gates on real cells with disjoint seeds."""
    suite = question.suite
    own = (*suite.seeds, *suite.gate.confirm)
    pool = [*own, *OTHERS]
    runs = {key: seed_run(cell) for key, cell in Here(question).seeds(pool, list(suite.arms)).items()}
    accepted = Baseline.read(file, suite.name)
    draw, found = random.Random(20261127), Counter[str]()  # noqa: S311  nothing secret
    with tempfile.TemporaryDirectory() as folder:
        for number in range(REAL):
            shuffled = draw.sample(pool, len(pool))
            head, base = shuffled[: len(own)], shuffled[len(own) :]
            arms = {
                arm: one.model_copy(
                    update={"seeds": {str(seed): runs[arm, other] for seed, other in zip(head, base, strict=True)}}
                )
                for arm, one in accepted.arms.items()
            }
            place = Path(folder) / f"{number}.json"
            accepted.model_copy(update={"arms": arms}).write(place)
            noise_path(place).write_bytes(noise_path(file).read_bytes())
            looks, confirm = tuple(head[: len(suite.seeds)]), tuple(head[len(suite.seeds) :])
            rules = suite.gate.model_copy(update={"confirm": confirm, "calibrate": ()})
            asked = Question(
                suite.model_copy(update={"seeds": looks, "gate": rules}),
                question.data, question.path, question.overrides, question.results, question.jobs,
            )  # fmt: skip
            report = gate(asked, GateOptions(baseline=place, layers=("L2",), stale_ok=True))
            found[report.state] += 1
            print(f"real gate {number + 1} of {REAL}: {report.state}", file=sys.stderr, flush=True)
    return found


def worst(verdicts: list[str]) -> str:
    return "fail" if "fail" in verdicts else "inconclusive" if "inconclusive" in verdicts else "pass"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only-simulated", action="store_true", help="trains nothing")
    parser.add_argument("--results", default="results")
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    path = find_suite("ci")
    suite = SuiteFile(path, []).resolve()
    file = baseline_path(suite.name)
    question = Question(suite, load_data(suite.data, path.parent), path, (), Path(options.results), options.jobs)
    noise = Noise.read(noise_path(file), suite.name)
    if noise is None:
        raise SystemExit(f"{noise_path(file)}: run harness gate calibrate first")
    rows = {f"simulated, {kind}": verdicts for kind, verdicts in simulated(noise, question).items()}
    if not options.only_simulated:
        rows["real, disjoint seeds"] = real(question, file)
    print("| gates without harm | number | red | inconclusive | pass |\n|---|--:|--:|--:|--:|")
    for name, verdicts in rows.items():
        total = sum(verdicts.values())
        shares = [f"{verdicts[state] / total:.2%}" for state in ("fail", "inconclusive", "pass")]
        print(f"| {name} | {total} | {' | '.join(shares)} |")


if __name__ == "__main__":
    main()
