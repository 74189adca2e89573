"""What `harness bench` does. Every heavy import is inside, as in `verbs.py`."""

from __future__ import annotations

import argparse
import json
import shlex
from pathlib import Path


def bench(options: argparse.Namespace) -> int:
    from harness.bench.output import make_folder, text, write
    from harness.bench.run import BenchOptions
    from harness.bench.run import bench as measure

    folder = Path(options.output) if options.output else None
    if folder is not None:
        make_folder(folder)
    asked = BenchOptions(
        preset=options.preset,
        arms=options.arms,
        device=options.device,
        peer=options.peer,
        compiled=options.compile,
        kernels=options.kernels,
        rounds=options.rounds,
        threads=options.threads,
    )
    answer = measure(asked)
    if folder is not None:
        write(answer.document, folder, _command(options))
    print(json.dumps(answer.document, indent=2) if options.json else text(answer.document))
    return answer.code


def _command(options: argparse.Namespace) -> str:
    """One line for a shell that asks the same again."""
    words = ["harness", "bench"]
    words += ["--preset", options.preset] if options.preset else []
    words += ["--arms", options.arms] if options.arms else []
    words += [f"--{name}" for name in ("peer", "compile") if getattr(options, name)]
    words += ["--kernels", options.kernels] if options.kernels != "auto" else []
    words += ["--device", options.device] if options.device != "auto" else []
    words += ["--rounds", str(options.rounds)]
    words += ["--threads", str(options.threads)] if options.threads else []
    return shlex.join(words)
