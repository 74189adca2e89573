"""What the connections cost on a GPU: time and peak memory of a training step, all arms in turn in one process.

    python benchmarks/gpu_costs.py --scale mid --batch 8 --output DIR

Writes `costs-<scale>.json` (as `costs.json`, docs/costs.md) and prints a table. Eager PyTorch, connections not fused;
tokens are bytes, which leave the unembedding out of the price.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

from harness.compare.markdown import grid
from harness.run.costs import documents, machine_name
from harness.run.layout import Layout
from harness.run.measure import measure_costs
from harness.suite.cells import cells
from harness.suite.file import SuiteFile

SUITE = """\
name: gpu-costs
baseline: residual
seeds: 1
scale: {scale}
arms:
  residual: {{connection: residual}}
  shc-n4: {{connection: {{type: hyper, rate: 4, dynamic: false}}}}
  dhc-n2: {{connection: {{type: hyper, rate: 2}}}}
  dhc-n4: {{connection: {{type: hyper, rate: 4}}}}
  sfc-m4: {{connection: {{type: frac, rate: 4, dynamic: false}}}}
  dfc-m4: {{connection: {{type: frac, rate: 4}}}}
  mhc-n4: {{connection: {{type: mhc, rate: 4}}}}
data: {{corpus: stdlib}}
train: {{batch_size: {batch}, micro_batch_size: null, steps: 100, warmup_steps: 10}}
evaluation: {{tasks: []}}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--scale", default="mid")
    parser.add_argument("--batch", type=int, default=16, help="sequences of a step")
    parser.add_argument("--output", type=Path, default=Path())
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "suite.yaml"
        path.write_text(SUITE.format(scale=options.scale, batch=options.batch))
        file = SuiteFile(path, [])
        suite, data, _ = file.fitted(file.resolve())
        layout = Layout(Path(folder) / "results")
        layout.prepare()
        if not measure_costs(layout, suite, cells(suite, data, path.parent), folder, smoke=False, force=True):
            raise SystemExit(1)
        document = documents(layout, suite.name)[-1]
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / f"costs-{options.scale}.json").write_text(json.dumps(document, indent=2) + "\n")
    print(f"{options.scale}, {options.batch} sequences, {machine_name(document)}, {document['rounds']} rounds")
    rows = [["arm", "time ×", "95%", "saved bytes ×", "peak memory ×", "peak GiB"]]
    for arm in (arm for arm in suite.arms if arm in document["arms"]):
        row = document["arms"][arm]
        low, high = row["throughput_ci"] or (None, None)
        rows.append(
            [
                arm,
                f"{1 / row['throughput_ratio']:.3f}",
                f"{1 / high:.3f} to {1 / low:.3f}" if low else "",
                f"{row['saved_bytes_ratio']:.3f}",
                f"{row['peak_bytes_ratio']:.3f}" if row.get("peak_bytes_ratio") else "–",
                f"{row['peak_bytes'] / 2**30:.2f}" if row.get("peak_bytes") else "–",
            ]
        )
    print("\n".join(grid(rows, {1, 2, 3, 4, 5})))


if __name__ == "__main__":
    main()
