"""The README's table: every built-in variant on every scenario, five seeds, on synthetic data.

    python tests/benchmarks/compare_strategies.py --seeds 5 --out runs/comparison

Finished runs are read, so that the command can be stopped and issued again.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from statistics import mean, stdev

import retune

SCENARIOS = ("class-incremental", "label-incremental", "data-incremental")
VARIANTS: dict[str, tuple[str, dict[str, str]]] = {
    "zero-shot, difference": ("zero-shot", {}),
    "zero-shot, positive only": ("zero-shot", {"scoring": "positive"}),
    "linear-probe": ("linear-probe", {}),
    "re-tune, per-step, difference": ("re-tune", {}),
    "re-tune, per-step, positive only": ("re-tune", {"scoring": "positive"}),
    "re-tune, shared, difference": ("re-tune", {"adaptors": "shared"}),
    "re-tune, shared, positive only": ("re-tune", {"adaptors": "shared", "scoring": "positive"}),
    "adaptor, prompts": ("adaptor", {}),
    "adaptor, head": ("adaptor", {"scores": "head"}),
    "cleft, shared context": ("cleft", {}),
    "cleft, per-step context": ("cleft", {"contexts": "per-step"}),
    "m-flag": ("m-flag", {}),
    "m-flag, no orthogonality": ("m-flag", {"orthogonality": "0"}),
    "joint (upper bound)": ("joint", {}),
}
METRICS = ("final_auc", "average_auc", "forgetting", "final_f1", "f1_forgetting")
HEADS = ("final AUC", "average AUC", "forgetting", "final F1", "F1 forgetting", "trained", "fit")


def cell(results: list[retune.Result], metric: str) -> str:
    """Mean and standard deviation over seeds."""
    values = [v for r in results if (v := r.metrics[metric].value) is not None]
    spread = f" ± {stdev(values):.3f}" if len(values) > 1 else ""
    return f"{mean(values):.3f}{spread}".replace("0.", ".") if values else "-"


def main() -> None:
    """Run what is not finished and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("runs/comparison"))
    given = parser.parse_args()
    print(f"| scenario | strategy | {' | '.join(HEADS)} |")
    print("|---" * (len(HEADS) + 2) + "|")
    for scenario in SCENARIOS:
        for name, (strategy, settings) in VARIANTS.items():
            results = [
                retune.run(
                    scenario=scenario,
                    strategy=strategy,
                    settings=settings,
                    seed=seed,
                    out=given.out / scenario / name.replace(", ", "-").replace(" ", "-") / f"seed-{seed}",
                )
                for seed in range(given.seeds)
            ]
            costs = f"{results[0].cost.trainable_parameters:,} | {mean(r.cost.fit_seconds for r in results):.1f} s"
            cells = " | ".join(cell(results, m) for m in METRICS)
            print(f"| {scenario} | {name} | {cells} | {costs} |", flush=True)


if __name__ == "__main__":
    main()
