"""What a comparison is made of and what it says: the wanted cells, the view, the rows. `rows.py` fills them."""

from __future__ import annotations

from dataclasses import dataclass, field

from harness.compare.answers import Answers
from harness.compare.documents import Documents, Windows
from harness.compare.gain import Gain
from harness.compare.match import Costs, Curve, Match, Matched
from harness.compare.pairing import Pairing
from harness.compare.rules import MARGIN
from harness.compare.statistics import Estimate, Pairs
from harness.compare.verdicts import Verdict

FULL_ACCURACY = "eval/classification/acc"


@dataclass(frozen=True)
class Wanted:
    """A cell that the suite has, by what the record knows it by."""

    arm: str
    seed: int
    cell: str
    evaluation: str
    answers: tuple[Answers, ...] = ()
    """All that the cell was ever asked, where that is at hand, what its suite asks last."""
    windows: Windows | None = None
    """Losses on the pieces of the held-out side, where they were kept."""


@dataclass(frozen=True, kw_only=True)
class Arm:
    """What the suite says of an arm, as far as a comparison needs it."""

    baseline: str
    unit: str
    start: str = ""
    """Equal for two arms whose settings draw the same shared weights."""
    twin_of: tuple[str, str] | None = None
    """(match, arm): it was resized until it costs as much as that arm."""


@dataclass(frozen=True, kw_only=True)
class View:
    """How a comparison is to be made."""

    match: Match = "tokens"
    forced: bool = False
    """Also what is unlike (hardware, code, ...) is compared, and marked."""
    margin: float = MARGIN
    ladder: tuple[str, ...] = ()
    """Arms that are the baseline at several budgets or sizes."""
    remarks: tuple[str, ...] = ()
    """What a reader must know of the whole table: that it is a selection, or of a smoke run."""


PLAIN = View()


@dataclass(frozen=True, kw_only=True)
class ArmResult:
    """One row of the table. Ratios are to the baseline; None is what the record does not have."""

    arm: str
    n: int
    missing: tuple[int, ...]
    """Seeds without a finished cell."""
    failed: tuple[int, ...]
    """Seeds whose cell failed; never left out without being named."""
    loss: Estimate | None
    pairs: Pairs | None = None
    """The paired difference to what the arm is held against in this view."""
    pairing: Pairing = field(default_factory=Pairing)
    matched: Matched | None = None
    """What that is; None for the baseline itself."""
    documents: Documents | None = None
    verdict: Verdict | None = None
    """None for what is not judged: the baseline, arms without pairs, controls, and what was read on a curve
    before its end, whose bias nobody knows."""
    p_holm: float | None = None
    """Of the paired t test, corrected for the arms of the table that are judged."""
    detectable: float | None = None
    """The difference that so many pairs find with a power of 80%, by the strictest test that p's correction asks."""
    more_seeds: int | None = None
    """About how many more would find one of the suite's margin so."""
    control: bool = False
    """A baseline of another size or budget, for others to be held against: never judged itself."""
    best: bool = False
    """In the group that is not told apart from the lowest loss, of the arms that have pairs with the baseline at equal
    tokens; in other views none is, for a row's loss is that of its own end."""
    gain: Gain | None = None
    bits_per_byte: float | None = None
    perplexity: float | None = None
    accuracy: float | None = None
    """Of a classifier, on the whole held-out side where it was scored."""
    mfu: float | None = None
    """Share of the chip's dense peak; None where the chip has no entry."""
    expert_load: float | None = None
    """Of a mixture of experts, the largest share of one expert in one layer, times the number of experts."""
    throughput_ratio: float | None = None
    throughput_interval: tuple[float, float] | None = None
    """95%, of the interleaved measurement."""
    measured: bool = False
    """The throughput ratio is the interleaved measurement's, not that of the cells as they ran."""
    saved_bytes_ratio: float | None = None
    peak_bytes_ratio: float | None = None
    """On CUDA, from the interleaved measurement."""
    parameters: int | None = None
    scores: dict[str, float] = field(default_factory=dict)
    unlike: tuple[str, ...] = ()
    """Tasks of which the cells of the table were asked other questions: their scores are left out."""
    runs: dict[int, str] = field(default_factory=dict)
    """MLflow run of every seed."""
    reported: dict[str, float | None] = field(default_factory=dict)
    """By column: the difference to the baseline that a paper printed; None where it has no number for the arm."""

    @property
    def delta(self) -> Estimate | None:
        return self.pairs


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One table: arms against their baseline, whose losses have one unit."""

    baseline: str
    unit: str
    rows: list[ArmResult]
    view: View = PLAIN
    hardware: tuple[str, ...] = ()
    """All that its cells were trained on."""
    tokens: float | None = None
    """Training tokens of a cell of the baseline."""
    measured_on: str = ""
    """The machine of the interleaved measurement; empty where there is none."""

    @property
    def bold(self) -> set[str]:
        """The best group, where it is not everything."""
        best = {row.arm for row in self.rows if row.best}
        compared = [row for row in self.rows if row.arm == self.baseline or row.pairs is not None]
        return best if len(best) < sum(row.n > 0 for row in compared) else set()


@dataclass(frozen=True, kw_only=True)
class Sources:
    """What a comparison reads besides the records."""

    costs: Costs = field(default_factory=dict)
    """By arm, from an interleaved measurement."""
    machine: str = ""
    """Where that was."""
    curve: Curve | None = None


NOTHING = Sources()
