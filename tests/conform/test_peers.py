"""What the laws find in other packages, without being told where to look. Skipped where a package is not installed."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from harness.conform.hold import Finding, hold
from harness.conform.peers import PEERS
from harness.conform.subject import NotApplicable


def findings(name: str, rate: int) -> dict[str, Finding]:
    try:
        subject = PEERS[name].subject(name, rate)
    except NotApplicable as reason:
        pytest.skip(str(reason))
    return {finding.law: finding for finding in hold(subject)}


def broken(found: dict[str, Finding]) -> dict[str, str]:
    return {law: finding.evidence for law, finding in found.items() if finding.verdict == "fail"}


@pytest.mark.parametrize("rate", [1, 2, 3, 4])
def test_the_streams_of_hyper_connections_are_right(rate: int) -> None:
    found = findings("hyper-connections/hc", rate)
    assert broken(found) == {}
    assert found["start_function"].evidence.startswith("0.0e+00 from")
    assert found["equations"].verdict == "pass"
    assert "left to the user" in found["decay_groups"].evidence


@pytest.mark.parametrize(
    ("rate", "reads", "carries", "crossings"),
    [(2, "[0, 0]", "[0, 1]", 2), (4, "[0, 0, 0, 2]", "[0, 0, 1, 3]", 12)],
)
def test_the_fractions_of_hyper_connections_are_lost_doubled_and_crossed(
    rate: int, reads: str, carries: str, crossings: int
) -> None:
    found = broken(findings("hyper-connections/frac", rate))
    assert found.keys() == {"start_function", "fractions_kept", "write_applied"}
    expected = f"reads fractions {reads}, carries {carries}, {crossings} crossings in what is written"
    assert found["fractions_kept"] == expected
    assert "crosses from one fraction to another" in found["write_applied"]


@pytest.mark.parametrize("name", ["hyper-connections/mhc", "hyper-connections/mhc-v2"])
def test_the_constrained_streams_of_hyper_connections_differ_from_the_paper_in_what_predicts_them(name: str) -> None:
    """Each stream predicts its own coefficients there, as in HC; mHC predicts all from all streams."""
    found = broken(findings(name, 4))
    # While streams are equal some gradients are zero but for rounding, and whether a CPU rounds to zero is its own.
    assert found.keys() - {"learns_everywhere"} == {"dynamic_whole"}
    assert findings(name, 4)["mixer_orientation"].verdict == "pass"


def test_the_mixer_of_x_transformers_is_a_constant_that_grows_the_state() -> None:
    found = broken(findings("x-transformers/hyper-connection", 4))
    assert "it starts as [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1]" in found["carry_learns"]
    assert "sums into a stream 3.0e+00 off" in found["doubly_stochastic"]
    assert "1.67772e+07 times" in found["quiet_network"]
    assert "dynamic_alpha_fn" in found["learns_everywhere"]
    assert "write 2.4e-03 off" in found["maps"], "beta is squashed twice"


@pytest.mark.slow
def test_ligers_kernels_obey_what_the_paper_says_under_the_interpreter() -> None:
    """In a process of its own: Triton decides on its first import whether it interprets."""
    pytest.importorskip("liger_kernel")
    command = [sys.executable, "-m", "harness", "conform", "liger-kernel/mhc", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    verdicts = {finding["law"]: finding["verdict"] for finding in json.loads(done.stdout)}
    assert verdicts["mixer_orientation"] == verdicts["dynamic_whole"] == "pass"
    assert verdicts["maps"] == verdicts["doubly_stochastic"] == verdicts["symmetry_broken"] == "pass"
