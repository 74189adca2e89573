"""Write golden.json: per-step losses of every connection, by the environment they were made in.

python tests/training/make_golden.py --reason "why the numbers change"
python tests/training/make_golden.py --reason "what joins" --add     # keeps what other environments have
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from training_support import CONNECTIONS, MODELS, RELATIVES, MemoryJournal, fixed_corpus

GOLDEN = Path(__file__).with_name("golden.json")
CASES = [
    *[("decoder", name, precision) for name in CONNECTIONS for precision in ("fp32", "bf16")],
    *[("decoder", name, "fp32") for name in RELATIVES],
    *[(model, name, "fp32") for model in list(MODELS)[1:] for name in ("residual", "dhc-n4")],
]


def case_name(model: str, name: str, precision: str) -> str:
    return f"{name}/{precision}" if model == "decoder" else f"{model}:{name}/{precision}"


def environment_key() -> str:
    """What bit-equality depends on: torch, instruction set, CPU model, threads (always one here)."""
    import torch

    from harness.run.environment import cpu_model

    return f"torch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}, {cpu_model()}"


def losses(model: str, name: str, precision: str, kernels: str = "plain") -> list[float]:
    """Of the plain path, which is the same code on every machine, unless another is asked for."""
    from pydantic import TypeAdapter

    from harness.connections.settings import AnyConnection
    from harness.data.load import inputs_of, load_data
    from harness.data.settings import data_settings
    from harness.models.settings import AnyModel
    from harness.training.fit import fit
    from harness.training.recipe import Recipe
    from harness.training.settings import TrainSettings

    shape = TypeAdapter(AnyModel).validate_python(
        {"layers": 4, "width": 32, "heads": 2, "dropout": 0.1, **MODELS[model]}
    )
    images = data_settings(corpus="digits", valid_share=0.2)
    data = fixed_corpus() if "text" in shape.DATA else load_data(images)
    recipe = Recipe(
        connection=TypeAdapter(AnyConnection).validate_python({**CONNECTIONS, **RELATIVES}[name]),
        model=shape,
        train=TrainSettings(steps=20, batch_size=4, lr=2e-3, warmup_steps=4, log_every=1, validate_every=20,
                            validation_tokens=256, precision=precision, device="cpu", kernels=kernels),
        inputs=inputs_of(data),
        data=data_settings() if "text" in shape.DATA else images,
        streams={"backbone": 1, "connection": 2, "data": 3, "dropout": 4},
    )  # fmt: skip
    journal = MemoryJournal()
    with tempfile.TemporaryDirectory() as folder:
        fit(recipe, data, journal, Path(folder))
    return journal.losses()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--reason", required=True)
    parser.add_argument("--add", action="store_true", help="no number that was there changes")
    options = parser.parse_args()
    others = json.loads(GOLDEN.read_text())["losses"] if options.add else {}
    cases = {case_name(*case): losses(*case) for case in CASES}
    golden = {"reason": options.reason, "losses": {**others, environment_key(): cases}}
    GOLDEN.write_text(json.dumps(golden, indent=1) + "\n")


if __name__ == "__main__":
    main()
