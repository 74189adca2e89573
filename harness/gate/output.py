"""A report in the forms that people and their CI read: Markdown, JSON, JUnit XML. All of them say the same."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from harness.compare.markdown import grid
from harness.errors import UsageError
from harness.gate.findings import LAYERS, Finding, Report, SeedLine, State, worst
from harness.run.celldir import write_whole

SIGNS: dict[State, str] = {
    "pass": "pass",
    "fail": "**FAIL**",
    "inconclusive": "inconclusive",
    "report": "reported",
    "not judged": "not judged",
}
HEADS = {"pass": "passes", "fail": "FAILS", "inconclusive": "is inconclusive"}


def markdown(report: Report) -> str:
    """Verdict first, then a line for every layer, every rule, every seed, and the numbers of all rules."""
    lines = [f"## The gate of '{report.suite}' {HEADS[report.state]}", "", _against(report), ""]
    lines += [f"- {note}" for note in report.notes] + [""] * bool(report.notes)
    rows = [["layer", "verdict", "decided by"], *_layer_rows(report)]
    lines += [*grid(rows), ""]
    for layer, about in LAYERS.items():
        found = [finding for finding in report.findings if finding.layer == layer]
        if not found:
            continue
        lines += [f"### {layer}: {about}", ""]
        table = [["rule", "arm", "verdict", "measured", "passes"]]
        table += [[one.rule, one.arm or "all", SIGNS[one.state], one.measured, one.limit] for one in found]
        lines += [*grid(_safe(table)), ""]
    if report.seeds:
        lines += ["### Every seed", "", *grid(_safe(_seed_rows(report.seeds)), (2, 3, 4, 5)), ""]
    lines += [_rules(report)]
    return "\n".join(lines)


def _against(report: Report) -> str:
    about = report.against
    where = about.get("file") or f"{about.get('revision')} ({str(about.get('commit'))[:12]})"
    created = ""
    if "created" in about:
        changed = ", changed since" if about.get("dirty") else ""
        created = f", accepted {about['created'][:10]} at {str(about.get('commit'))[:12]}{changed}"
    return f"Against {where}{created}: {about['reason']}. Losses in {report.unit}."


def _layer_rows(report: Report) -> list[list[str]]:
    rows = []
    for layer, about in LAYERS.items():
        found = [finding for finding in report.findings if finding.layer == layer]
        if not found:
            rows.append([f"{layer} {about}", "not run", ""])
            continue
        state = worst(found)
        deciding = [f"{one.arm or 'all'}: {one.rule}" for one in found if one.state == state]
        shown = ", ".join(deciding[:6]) + (f" and {len(deciding) - 6} more" if len(deciding) > 6 else "")
        counted = f"{len(found)} rules, {sum(one.state == 'pass' for one in found)} passed"
        rows.append([f"{layer} {about}", SIGNS[state], counted if state == "pass" else shown])
    return rows


def _seed_rows(seeds: Sequence[SeedLine]) -> list[list[str]]:
    rows = [["arm", "stage", "seed", "loss", "baseline", "Δ", "paired", "failed"]]
    for one in seeds:
        numbers = [f"{value:.4f}" if value is not None else "–" for value in (one.loss, one.baseline)]
        difference = f"{one.difference:+.4f}" if one.difference is not None else "–"
        paired = "yes" if one.paired else "no"
        rows.append(
            [one.arm, f"{one.layer} {one.stage}", str(one.seed), *numbers, difference, paired, one.failure or ""]
        )
    return rows


def _rules(report: Report) -> str:
    rules = ", ".join(f"{key} {_plain(value)}" for key, value in report.rules.items())
    environment = ", ".join(f"{key} {value}" for key, value in report.environment.items())
    return (
        f"Rules: {rules}. Seeds are fixed in the suite file, all of them appear, failed ones too; the step that is "
        f"judged is the last one of the budget, no run is stopped early, no baseline is tuned again; a failure of L2 "
        f"was found twice, the second time on fresh seeds.\n\nEnvironment: {environment}."
    )


def _plain(value: Any) -> str:
    return "/".join(map(str, value)) if isinstance(value, list) else str(value)


def _safe(rows: list[list[str]]) -> list[list[str]]:
    return [[cell.replace("|", "\\|").replace("\n", " ") for cell in row] for row in rows]


def document(report: Report) -> dict[str, Any]:
    """For a machine."""
    layers = {layer: worst(one for one in report.findings if one.layer == layer) for layer in LAYERS}
    return {
        "suite": report.suite,
        "state": report.state,
        "exit_code": report.exit_code,
        "layers": layers,
        "against": report.against,
        "environment": report.environment,
        "unit": report.unit,
        "notes": report.notes,
        "rules": report.rules,
        "findings": [asdict(finding) for finding in report.findings],
        "seeds": [{**asdict(seed), "difference": seed.difference} for seed in report.seeds],
    }


def junit(report: Report) -> str:
    """A test suite a layer, a test case a rule and arm. What is inconclusive is an error: no test failed, and none
    passed."""
    root = ElementTree.Element("testsuites", name=f"gate of {report.suite}")
    for layer, about in LAYERS.items():
        found = [finding for finding in report.findings if finding.layer == layer]
        if not found:
            continue
        counts = {
            "tests": len(found),
            "failures": sum(one.state == "fail" for one in found),
            "errors": sum(one.state == "inconclusive" for one in found),
            "skipped": sum(one.state == "not judged" for one in found),
        }
        suite = ElementTree.SubElement(root, "testsuite", {"name": f"{layer} {about}", **_text(counts)})
        for one in found:
            _case(suite, one)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _case(suite: ElementTree.Element, one: Finding) -> None:
    case = ElementTree.SubElement(suite, "testcase", classname=f"{one.layer}.{one.rule}", name=one.arm or "all")
    words = _printable(f"{one.measured} (passes: {one.limit})" if one.limit else one.measured)
    tag = {"fail": "failure", "inconclusive": "error", "not judged": "skipped"}.get(one.state)
    if tag is not None:
        ElementTree.SubElement(case, tag, message=words)
    else:
        ElementTree.SubElement(case, "system-out").text = words


def _text(counts: dict[str, int]) -> dict[str, str]:
    return {key: str(value) for key, value in counts.items()}


def _printable(text: str) -> str:
    """XML has no word for most control characters, not even an escaped one."""
    return "".join(letter if letter.isprintable() or letter == "\n" else "?" for letter in text)


def check_writable(names: Iterable[str | None]) -> None:
    """Before anything is run: raises UsageError for a file that could not be written afterwards, or is named twice."""
    paths = [Path(name) for name in names if name is not None]
    for number, path in enumerate(paths):
        if path.resolve() in [other.resolve() for other in paths[:number]]:
            raise UsageError(f"cannot write {path}: two outputs have this name")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=path.parent):
                pass
        except OSError as error:
            raise UsageError(f"cannot write {path}: {error.strerror}") from error
        if path.is_dir():
            raise UsageError(f"cannot write {path}: it is a folder")


def write_outputs(report: Report, *, markdown_file: str | None, json_file: str | None, junit_file: str | None) -> None:
    """The files that were asked for, and GitHub's job summary where there is one. Raises UsageError for one that
    cannot be written."""
    texts = {
        markdown_file: markdown(report) + "\n",
        json_file: json.dumps(document(report), indent=2, allow_nan=False) + "\n",
        junit_file: junit(report),
    }
    for name, text in texts.items():
        if name is not None:
            _write(Path(name), text)
    if summary := os.environ.get("GITHUB_STEP_SUMMARY"):
        try:
            with Path(summary).open("a", encoding="utf-8") as file:
                file.write(markdown(report) + "\n")
        except OSError as error:  # it is for reading; the verdict stands
            print(f"GITHUB_STEP_SUMMARY: cannot write {summary}: {error.strerror}", file=sys.stderr)


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, text.encode())
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from error
