"""No import runs upward: every file of the package imports from its own floor and those below, and no part from
another that imports it back. The floors are docs/architecture.md's."""

from __future__ import annotations

import ast
import graphlib
from collections import defaultdict
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "harness"
FLOORS = {
    "__init__": 0, "cache": 0, "errors": 1, "settings": 1, "progress": 1, "connections": 1, "data": 1, "tracking_sqlite": 0, "tracking": 1,
    "tracking_search": 1,
    "models": 2, "evaluation": 2, "compare": 2,
    "training": 3, "suite": 3,
    "run": 4,
    "conform": 5, "lm_eval_cli": 5, "report": 5,
    "bench": 5, "gate": 5, "search": 5, "doctor": 5,
    "cli": 6, "__main__": 7,
}  # fmt: skip


def part_of(path: Path) -> str:
    """`connections` for harness/connections/hyper.py, `tracking` for harness/tracking.py."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(tree: ast.AST) -> set[str]:
    """Parts of the package that a file imports anywhere in it, inside functions and under TYPE_CHECKING too."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide the floor"
            names.update(
                [f"harness.{alias.name}" for alias in node.names] if node.module == "harness" else [node.module or ""]
            )
    parts = {name.split(".")[1] for name in names if name.startswith("harness.")}
    return {"__init__" if part.startswith("__") else part for part in parts}


def edges() -> dict[Path, set[str]]:
    return {path: imported(ast.parse(path.read_text(encoding="utf-8"))) for path in sorted(PACKAGE.rglob("*.py"))}


def test_every_part_of_the_package_has_a_floor() -> None:
    parts = {part_of(path) for path in PACKAGE.rglob("*.py")}
    assert len(parts) > 10
    assert parts <= FLOORS.keys(), "give the new part a floor here and in docs/architecture.md"


def test_no_import_runs_upward() -> None:
    upward = [
        f"{path.relative_to(PACKAGE.parent)} imports harness.{part}"
        for path, parts in edges().items()
        for part in parts
        if FLOORS[part] > FLOORS[part_of(path)]
    ]
    assert upward == []


def test_no_two_parts_import_each_other_not_even_on_one_floor() -> None:
    graph: defaultdict[str, set[str]] = defaultdict(set)
    for path, parts in edges().items():
        graph[part_of(path)] |= parts - {part_of(path)}
    order = list(graphlib.TopologicalSorter(graph).static_order())  # raises CycleError
    assert order.index("connections") < order.index("models") < order.index("training") < order.index("run")


def test_only_tracking_speaks_to_mlflow_and_only_its_parts_to_lightning_and_lm_eval() -> None:
    homes = {
        "mlflow": {"tracking", "tracking_search"},
        "optuna": {"search"},
        "lightning": {"training"},
        "lm_eval": {"evaluation", "lm_eval_cli"},
        "argparse": {"cli"},
    }
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for library in {name.split(".")[0] for name in names} & homes.keys():
                assert part_of(path) in homes[library], f"{path.name} imports {library}"
