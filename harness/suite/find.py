"""Finding suite files, and listing what a suite file may name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness.connections.settings import connection_types
from harness.data.settings import CORPORA, TOKENIZERS
from harness.errors import UsageError, nearest
from harness.evaluation.settings import OURS
from harness.models.presets import SCALES
from harness.models.settings import MODELS
from harness.suite.file import STUDY
from harness.suite.yaml_lines import load

FOLDER = Path("suites")


def find_suite(name: str) -> Path:
    """The file itself, or `suites/<name>.yaml`. Raises UsageError with the nearest name there is."""
    path = Path(name)
    if path.is_file():
        return path
    short = FOLDER / f"{name}.yaml"
    if path.suffix == "" and short.is_file():
        return short
    places = [file.as_posix() for file in _files()]
    raise UsageError(f"{name}: no such suite file{nearest(name, places)}")


def _files() -> list[Path]:
    return sorted(FOLDER.rglob("*.yaml")) if FOLDER.is_dir() else []


def known() -> dict[str, Any]:
    """Suites below `suites/`, connection types with their settings, scales, corpora, tokenizers, tasks."""
    suites: list[dict[str, str]] = []
    studies: list[dict[str, str]] = []
    for path in _files():
        raw, _ = load(path)
        one = {"file": path.as_posix(), "description": str(raw.get("description") or "")}
        (studies if raw.keys() >= STUDY else suites).append(one)
    connections = [
        {
            "type": name,
            "about": (kind.__doc__ or "").split("\n")[0],
            "settings": {key: repr(field.default) for key, field in kind.model_fields.items() if key != "type"},
        }
        for name, kind in connection_types().items()
    ]
    return {
        "suites": suites,
        "studies": studies,
        "connections": connections,
        "models": {name: (kind.__doc__ or "").split("\n")[0] for name, kind in MODELS.items()},
        "scales": SCALES,
        "corpora": {name: (kind.__doc__ or "").split("\n")[0] for name, kind in CORPORA.items()},
        "tokenizers": {name: (kind.__doc__ or "").split("\n")[0] for name, kind in TOKENIZERS.items()},
        "tasks": [*OURS, "and those of lm-eval by name (lm_eval ls tasks)"],
    }


def known_text(found: dict[str, Any]) -> str:
    lines = []
    for kind in ("suites", "studies"):
        lines.append(f"{kind}:")
        lines += [f"  {one['file']}  {one['description']}" for one in found[kind]] or ["  none below suites/"]
    lines.append("connections:")
    for connection in found["connections"]:
        lines.append(f"  {connection['type']}: {connection['about']}")
        lines += [
            f"      {key}" + ("" if default == "PydanticUndefined" else f" = {default}")
            for key, default in connection["settings"].items()
        ]
    lines += ["models:", *(f"  {name}: {about}" for name, about in found["models"].items())]
    lines.append("scales:")
    lines += [
        f"  {name}: " + ", ".join(f"{key} {value}" for section in scale.values() for key, value in section.items())
        for name, scale in found["scales"].items()
    ]
    lines += [f"{what}: {', '.join(found[what])}" for what in ("corpora", "tokenizers", "tasks")]
    return "\n".join(lines)
