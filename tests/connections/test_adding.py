"""docs/adding-a-connection.md does what it says: its example becomes a type from outside the package, with the file as it
is printed there, an entry point, and a row of the contract."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

GUIDE = Path(__file__).parents[2] / "docs" / "adding-a-connection.md"

SUITE = """\
name: momentum
baseline: residual
seeds: 1
scale: toy
arms:
  residual: {connection: residual}
  momentum: {connection: momentum}
evaluation: {tasks: []}
"""


@pytest.fixture
def outside(tmp_path: Path) -> dict[str, str]:
    """An environment in which a package with the guide's type is installed, as pip would leave it."""
    site = tmp_path / "site"
    found = site / "momentum_residual-1.0.dist-info"
    found.mkdir(parents=True)
    text = GUIDE.read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    (site / "momentum_residual.py").write_text(code, encoding="utf-8")
    group, line = re.findall(r'\[project\.entry-points\."(.*?)"\]\n(\w+ = )"(.*?)"', text)[0][0::2]
    (found / "METADATA").write_text("Metadata-Version: 2.1\nName: momentum-residual\nVersion: 1.0\n")
    (found / "entry_points.txt").write_text(f"[{group}]\nmomentum = {line}\n")
    return {**os.environ, "PYTHONPATH": str(site)}


BROKEN = {
    "missing": ("nowhere:Settings", "", "cannot be loaded: ModuleNotFoundError: No module named 'nowhere'"),
    "raising": ("broken:Settings", "raise RuntimeError('no kernel')", "cannot be loaded: RuntimeError: no kernel"),
    "nothing": ("broken:Settings", "Settings = 3", "is no ConnectionSettings but 3"),
    "renamed": (
        "broken:Settings",
        "from harness.connections.settings import HyperSettings as Settings",
        "its type is 'hyper'",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_package_is_one_line_that_names_it(name: str, tmp_path: Path) -> None:
    value, code, said = BROKEN[name]
    found = tmp_path / "site" / "broken-1.0.dist-info"
    found.mkdir(parents=True)
    (tmp_path / "site" / "broken.py").write_text(code)
    (found / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    (found / "entry_points.txt").write_text(f"[connection_harness.connections]\n{name} = {value}\n")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    (tmp_path / "suite.yaml").write_text(SUITE.replace("connection: momentum", f"connection: {name}"))
    for arguments in (["conform", name], ["plan", "suite.yaml"]):
        done = harness(environment, tmp_path, *arguments)
        assert done.returncode == 2, done.stderr
        assert f"the connection '{name}' of an installed package ({value})" in done.stderr
        assert said in done.stderr
        assert "Traceback" not in done.stderr


def harness(environment: dict[str, str], folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "harness", *arguments]
    return subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, timeout=300)


def test_the_guides_type_obeys_the_contract(outside: dict[str, str], tmp_path: Path) -> None:
    done = harness(outside, tmp_path, "conform", "momentum", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    verdicts = {finding["law"]: finding["verdict"] for finding in json.loads(done.stdout)}
    for law in ("equations", "start_function", "finite_differences", "deep_bf16", "checkpoint", "decay_groups",
                "cost_parameters", "cost_flops", "cost_saved_bytes"):  # fmt: skip
        assert verdicts[law] == "pass", law
    assert "fail" not in verdicts.values()


def test_the_guides_type_is_planned_and_trained_like_any_other(outside: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "suite.yaml").write_text(SUITE)
    listed = json.loads(harness(outside, tmp_path, "list", "--json").stdout)
    assert "momentum" in [connection["type"] for connection in listed["connections"]]
    planned = harness(outside, tmp_path, "plan", "suite.yaml", "--json")
    assert planned.returncode == 0, planned.stderr
    arms = {arm["arm"]: arm for arm in json.loads(planned.stdout)["arms"]}
    assert arms["momentum"]["connection_parameters"] == 2 * 12 - 1
    assert arms["momentum"]["flops_per_token"] > arms["residual"]["flops_per_token"]
    ran = harness(outside, tmp_path, "run", "suite.yaml", "--smoke", "train.steps=4", "train.warmup_steps=1")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert re.search(r"^\| momentum +\| +1 \|", ran.stdout, flags=re.MULTILINE), ran.stdout
    (found,) = tmp_path.rglob("momentum-*/diagnostics.json")
    matrix = json.loads(found.read_text())["end"]["matrix"]
    assert [len(row) for row in matrix] == [9] * 9
    assert all(row[k] == 1 for k, row in enumerate(matrix)), "the newest output is added as it is"


def test_without_the_package_the_name_is_unknown(tmp_path: Path) -> None:
    (tmp_path / "suite.yaml").write_text(SUITE)
    refused = harness(dict(os.environ), tmp_path, "plan", "suite.yaml")
    assert refused.returncode == 2
    assert "arms.momentum.connection.type: unknown connection 'momentum'" in refused.stderr


def test_the_line_and_the_row_of_the_guide_are_where_it_says() -> None:
    """The places that the guide names exist, with the form that it shows."""
    text = GUIDE.read_text(encoding="utf-8")
    root = GUIDE.parents[1]
    assert '"momentum": MomentumSettings,' in text
    table = (root / "harness/connections/settings/__init__.py").read_text(encoding="utf-8")
    assert re.search(r'^    "residual": ResidualSettings,$', table, flags=re.MULTILINE)
    assert '("momentum", {}),' in text
    rows = (root / "tests/connections/test_contract.py").read_text(encoding="utf-8")
    assert re.search(r'^    \("residual", \{\}\),$', rows, flags=re.MULTILINE)
