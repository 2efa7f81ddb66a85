"""The tables of what was measured on a GPU, for outputs/reference/speed.md.

They are written from the files that gpu_70b.py and gpu_scoring.py leave in
outputs/reference/benchmarks/. A file that is not there gives no table.
"""

import json
from pathlib import Path

import pandas as pd

from sm70lib.study.params import ROOT

FOLDER = ROOT / "outputs/reference/benchmarks"
SHAPES = {"70b": "Llama-2-70B", "8b": "Llama-3-8B", "7b": "Llama-2-7B"}
RECIPES = {
    "ours": "ours",
    "ours_32_bits": "ours, adapter and Adam in 32 bits",
    "ours_plain_lora": "ours, PEFT's own sum",
    "tutorial": "tutorial",
}
LAYOUTS = {
    "packed": "packed",
    "single": "one row a pass",
    "padded": "one row a pass, padded to the length",
}
TEXTS = ("recipe", "rows", "checkpointing", "what", "work")  # columns that hold no numbers
NO_MEMORY = "out of memory"


def tables(folder: Path = FOLDER) -> str:
    """Everything that was measured on a GPU: training by shape, then scoring."""
    found = {shape: _read(folder / f"gpu_{shape}.json") for shape in SHAPES}
    trained = {shape: measured[0] for shape, measured in found.items() if measured}
    settings = {_key(row) for measured in trained.values() for row in measured["results"]}
    parts = [_training(SHAPES[shape], about, len(settings)) for shape, about in trained.items()]
    if scored := _read(folder / "gpu_scoring.json"):
        parts.append(_scoring(scored))
    return "\n".join(parts) or "(not measured yet)\n"


def _read(path: Path) -> list[dict]:
    return json.loads(path.read_text()) if path.exists() else []


def _key(row: dict) -> tuple:
    """What makes a setting, in the order in which settings are listed."""
    recipe = list(RECIPES).index(row["recipe"])
    return recipe, row["length"], not row["checkpointing"], row["layout"], row["sequences"]


def _training(name: str, measured: dict, settings: int) -> str:
    """One shape: on what it was measured, every setting, and ours beside the tutorial's recipe.

    Args:
        name: The model of that shape.
        measured: What gpu_70b.py wrote.
        settings: How many settings were measured with any shape.
    """
    results = sorted(measured["results"], key=_key)
    table = _markdown([_setting(row) for row in results])
    versions = ", ".join(f"{package} {number}" for package, number in measured["versions"].items())
    commits = ", ".join(sorted({row["commit"] for row in results}))
    rate = measured["matrix_flop_per_second"] / 1e12
    return (
        f"#### Training: the shape of {name}\n\n"
        f"{measured['hardware']['gpu']}; measured matrix rate {rate:.0f} TFLOP/s in bf16. "
        f"Linear layers have {measured['weights'] / 1e9:.1f} billion weights, and the base alone "
        f"takes {measured['base_gib']} GiB. {versions}. Commits {commits}. "
        f"{len(results)} of {settings} settings were measured.\n\n{table}"
        f"{_against_tutorial(measured)}"
    )


def _markdown(rows: list[dict]) -> str:
    numbers = [name for name in rows[0] if name not in TEXTS]
    align = ["right" if name in numbers else "left" for name in rows[0]]
    frame = pd.DataFrame(rows)
    return frame.to_markdown(index=False, disable_numparse=True, colalign=align) + "\n"


def _setting(row: dict) -> dict[str, str]:
    failed = "failed" in row
    return {
        "recipe": RECIPES[row["recipe"]],
        "length (tokens)": str(row["length"]),
        "rows": LAYOUTS[row["layout"]],
        "sequences a pass": str(row["sequences"]),
        "checkpointing": "on" if row["checkpointing"] else "off",
        "peak GiB": NO_MEMORY if failed else f"{row['peak_gib']:.1f}",
        "useful tokens/s": "" if failed else f"{row['useful_tokens_per_second']:,.0f}",
        "share of the matrix rate": "" if failed else f"{row['share_of_matrix_rate']:.0%}",
    }


def _against_tutorial(measured: dict) -> str:
    """Our best setting beside the tutorial's, by length, and what the ratio comes from."""
    rows = []
    for length in map(int, measured["ratios"]):
        of_length = [row for row in measured["results"] if row["length"] == length]
        ours = max(_done(of_length, "ours"), key=lambda row: row["useful_tokens_per_second"])
        [other] = _done(of_length, "tutorial")
        ratio = ours["useful_tokens_per_second"] / other["useful_tokens_per_second"]
        fuller = ours["share_of_matrix_rate"] / other["share_of_matrix_rate"]
        rows.append(
            {
                "length (tokens)": str(length),
                "ours, best setting": f"{ours['useful_tokens_per_second']:,.0f} tokens/s",
                "tutorial": f"{other['useful_tokens_per_second']:,.0f} tokens/s",
                "ratio": f"**{ratio:.2f}**",
                "of it, no padding": f"{ratio / fuller:.2f}",
                "of it, a busier card": f"{fuller:.2f}",
            }
        )
    if not rows:
        return ""
    return "\n" + _markdown(rows)


def _done(rows: list[dict], recipe: str) -> list[dict]:
    return [row for row in rows if row["recipe"] == recipe and "failed" not in row]


def _scoring(measured: list[dict]) -> str:
    """Scoring beside lm-evaluation-harness: items a second, and how far the answers are apart."""
    rows = [
        {
            "what": row["name"].removeprefix("gpu scoring: "),
            "work": row["work"].replace("torch.", ""),
            "ours (items/s)": row["ours"],
            "harness (items/s)": row["theirs"],
            "ratio": f"**{row['ratio']}**",
            "equal choices": f"{row['equal_choices']} of {row['n']}",
            "largest gap (nats)": f"{row['largest_gap_nats']:.2f}",
            "mean gap (nats)": f"{row['mean_gap_nats']:.2f}",
        }
        for row in measured
    ]
    first = measured[0]
    versions = ", ".join(f"{name} {first['versions'][name]}" for name in ("torch", "transformers"))
    return (
        "#### Scoring: beside lm-evaluation-harness\n\n"
        f"{first['gpu']}; {versions}. Commit {first['commit']}.\n\n{_markdown(rows)}"
    )
