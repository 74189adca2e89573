"""What a suite's losses vary by, measured on real runs, and what a gate can therefore see: `<suite>.noise.json`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from pydantic import Field

from harness.compare.markdown import grid
from harness.compare.statistics import pairs
from harness.errors import UsageError, shown
from harness.gate.baseline import Environment, differences
from harness.gate.rule import Spread, pooled
from harness.gate.sealed import is_there, read_sealed, write_sealed
from harness.settings import Settings

KIND = "gate noise"
CALIBRATE = "harness gate calibrate SUITE"


class Deviation(Settings):
    """A standard deviation, of `df` degrees of freedom."""

    sd: float = Field(ge=0.0)
    df: int = Field(ge=1)

    @property
    def spread(self) -> Spread:
        return Spread(self.sd, self.df)


class ArmPairs(Settings):
    """An arm against the baseline arm, seed by seed."""

    n: int
    mean: float
    sd: float
    rho: float | None


class Power(Settings):
    """Of a gate of this suite on one arm that is worse by `harm`, the others unchanged: shares of simulated gates."""

    harm: float
    fail: float
    inconclusive: float


class Noise(Settings):
    suite: str
    suite_digest: str
    created: str
    commit: str | None
    environment: Environment
    digests: dict[str, str]
    precision: str
    seed: Deviation
    """Of a loss over seeds, pooled over the arms, each about its own mean."""
    initialisation: Deviation
    """Of the baseline arm's loss over initial weights, with equal batches."""
    order: Deviation
    """Of the baseline arm's loss over the order of the data, with equal initial weights."""
    paired: Deviation
    """Of the difference of an arm and the baseline arm on one seed, pooled over the arms, each about its own mean: what
    a change that matters has, too. Not of two runs of one arm and seed: they are equal."""
    pairs: dict[str, ArmPairs]
    document: float | None
    """Standard error of one run's loss over the held-out text."""
    document_paired: float | None
    """The same of the difference of two arms of one seed, mean over pairs."""
    losses: dict[str, dict[str, float]]
    """Arm -> seed -> loss: everything above is computed from these, but for initialisation, order and documents."""
    power: tuple[Power, ...]

    def write(self, path: Path) -> None:
        write_sealed(path, KIND, self)

    @classmethod
    def read(cls, path: Path, suite: str) -> Noise | None:
        """None where there is no file. Raises UsageError for what is no calibration of this suite."""
        if not is_there(path):
            return None
        found = read_sealed(path, KIND, cls, CALIBRATE)
        if found.suite != suite:
            raise UsageError(f"{shown(path)}: is the calibration of the suite '{found.suite}', not of '{suite}'")
        return found

    def stale(
        self, suite_digest: str, environment: Environment, digests: Mapping[str, str], precision: str, days: int
    ) -> list[str]:
        """Why it is not to be trusted any more, if anything."""
        why = []
        if self.suite_digest != suite_digest:
            why.append("the suite file was changed since")
        ours, theirs = _without_patch(environment), _without_patch(self.environment)
        why += differences(ours, theirs)
        why += [f"other data: {one}" for one in differences(digests, self.digests)]
        if self.precision != precision:
            why.append(f"precision {self.precision} -> {precision}")
        age = (datetime.now(UTC) - datetime.fromisoformat(self.created)).days
        if age > days:
            why.append(f"it is {age} days old, and {days} are allowed")
        return why


def _without_patch(environment: Environment) -> Environment:
    """torch 2.13.0 and 2.13.1 are as good as one."""
    return {key: ".".join(value.split(".")[:2]) if key == "torch" else value for key, value in environment.items()}


def paired_noise(losses: Mapping[str, Mapping[int, float]], baseline: str) -> tuple[dict[str, ArmPairs], Spread | None]:
    """(every arm against the baseline arm, their spread pooled about each arm's own mean)."""
    found, groups = {}, []
    base = losses[baseline]
    for arm, mine in losses.items():
        one = pairs(mine, base)
        if arm == baseline or one is None or one.sd_paired is None:
            continue
        found[arm] = ArmPairs(n=one.n, mean=one.mean, sd=one.sd_paired, rho=one.rho)
        groups.append([mine[seed] - base[seed] for seed in one.seeds])
    return found, pooled(groups)


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def noise_markdown(noise: Noise) -> str:
    """What was found, as it is printed."""
    kinds = [
        ("seed", noise.seed, "over seeds, all arms"),
        ("initial weights", noise.initialisation, "of the baseline arm, with equal batches"),
        ("order of the data", noise.order, "of the baseline arm, with equal initial weights"),
        ("paired", noise.paired, "of arm − baseline arm on one seed: what a gate rests on"),
    ]
    rows = [["noise", "SD", "degrees of freedom", "of a loss"]]
    rows += [[name, f"{one.sd:.4f}", str(one.df), about] for name, one, about in kinds]
    rows += [
        [
            "text, one run",
            _number(noise.document),
            "–",
            "standard error over the held-out text, in blocks of neighbours",
        ],
        ["text, paired", _number(noise.document_paired), "–", "the same of a paired difference"],
    ]
    arms = [["arm", "pairs", "Δ to the baseline arm", "SD of Δ", "ρ"]]
    for arm, pair in noise.pairs.items():
        rho = "–" if pair.rho is None else f"{pair.rho:.2f}"
        arms.append([arm, str(pair.n), f"{pair.mean:+.4f}", f"{pair.sd:.4f}", rho])
    power = [["one arm is worse by", "fails", "is inconclusive", "passes"]]
    for row in noise.power:
        shares = [row.fail, row.inconclusive, 1 - row.fail - row.inconclusive]
        power.append([f"{row.harm:g}", *(f"{share:.1%}" for share in shares)])
    tables = [grid(rows, (1, 2)), grid(arms, (1, 2, 3, 4)), grid(power, (0, 1, 2, 3))]
    return "\n\n".join("\n".join(table) for table in tables)
