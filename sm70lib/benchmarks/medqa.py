"""MedQA: questions of the US licensing exam with four or five options."""

from pathlib import Path

from sm70lib.benchmarks.benchmark import TABLES, Benchmark
from sm70lib.benchmarks.fields import Found, gold_of, objects, options_of

FOLDER = "medqa_usmle"
US = "data_clean/questions/US/"
FOUR_OPTIONS = (US + "4_options/phrases_no_exclude_{}.jsonl", "phrases_no_exclude_{}.jsonl")
SHOTS = ("train", "dev", "validation")


def medqa(path: Path) -> Found:
    """MedQA: the authors' JSON Lines, GBaker's tables (also of `-hf`) and both of BigBIO's."""
    for number, row in objects(path):
        options = options_of(row)
        fields = {
            "id": f"{number:05}",
            "question": _question(row),
            "options": options,
            "gold": gold_of(row, options),
            "step": row.get("meta_info"),
        }
        yield number, row, fields


def _question(row: dict) -> object:
    if "sent1" not in row:
        return row.get("question")
    sentences = [row["sent1"], row.get("sent2") or ""]
    if not all(isinstance(sentence, str) for sentence in sentences):
        return None
    return " ".join(filter(None, sentences))


FOUR = Benchmark(
    medqa,
    FOLDER,
    "GBaker/MedQA-USMLE-4-options",
    (*FOUR_OPTIONS, *TABLES),
    pools=SHOTS,
)
# For choosing between models. Its shots come from train alone: where train is missing, medqa_4
# takes its shots from dev, which is what is scored here.
FOUR_DEV = Benchmark(
    medqa,
    FOLDER,
    "GBaker/MedQA-USMLE-4-options-hf",
    (*FOUR_OPTIONS, "{}.json", *TABLES),
    scored=("dev", "validation"),
    pools=("train",),
    pool_of="medqa_4",
)
FIVE = Benchmark(
    medqa,
    FOLDER,
    None,
    (US + "{}.jsonl", *(f"5_options/{table}" for table in TABLES)),
    pools=SHOTS,
)
