"""Names of models and benchmarks as people write them.

Files, parameters and CSV tables use short names such as `medqa_4`. Pages, figures and printed
tables use the names that papers use.
"""

from __future__ import annotations

import re

from sm70lib.parameters.stages import STAGES

BENCHMARKS = {
    "medqa_4": "MedQA",
    "medqa_4_dev": "MedQA (dev)",
    "medqa_5": "MedQA (5 options)",
    "pubmedqa": "PubMedQA",
    "pubmedqa_dev": "PubMedQA (dev)",
    "usmle": "USMLE",
    "usmle_macro": "USMLE (mean of steps)",
    "usmle_step1": "USMLE step 1",
    "usmle_step2": "USMLE step 2",
    "usmle_step3": "USMLE step 3",
    "medmcqa": "MedMCQA",
    "mmlu_medical": "MMLU (medical)",
    "mmlu_medical_9": "MMLU (medical, 9 subjects)",
    "mmlu_pro": "MMLU-Pro",
    "mmlu_pro_health": "MMLU-Pro (health)",
    "medxpertqa": "MedXpertQA (text)",
    "healthbench": "HealthBench",
    "healthbench_hard": "HealthBench Hard",
    "healthbench_consensus": "HealthBench Consensus",
    "medical_rubrics": "medical rubrics",
    "truthfulqa": "TruthfulQA",
    "xstest_safe": "XSTest (safe)",
    "xstest_unsafe": "XSTest (unsafe)",
    "medsafety": "MedSafetyBench",
    "medsafety_held_out": "MedSafetyBench (held out)",
    "medical_twins_safe": "medical twins (safe)",
    "medical_twins_unsafe": "medical twins (unsafe)",
    "toxigen": "ToxiGen",
    "new_facts": "new facts",
    "old_text": "old text",
    "new_text": "new text",
    "senior_health_held_out": "SeniorHealth (held out)",
    "cdc": "CDC",
    "preferred_replies_held_out": "preferred replies (held out)",
    "requests_safe": "clinical requests (safe)",
    "requests_unsafe": "clinical requests (unsafe)",
    "request_pairs": "pairs of clinical requests",
    "medquad_pairs": "pairs from MedQuAD",
    "public_pairs": "public pairs",
}
MODELS = {"base-nf4": "base (NF4)"}
SUBSETS = {
    "all": "all items",
    "clean": "without leaked items",
    "known": "known: asked in tuning",
    "fact": "fact: never asked",
    "condition": "condition: never mentioned",
}
# Short names, the longest first; "base" and "tuned" are words of a sentence as they are
_SHORT = sorted((*BENCHMARKS, *MODELS), key=len, reverse=True)
_IN_TEXT = re.compile(rf"(?<![\w/-])({'|'.join(map(re.escape, _SHORT))})(?![\w/-])")


def benchmark(name: str) -> str:
    """The name of a benchmark or aggregate as papers write it; another name as it is."""
    return BENCHMARKS.get(name, name)


def model(name: str) -> str:
    """The name of a model as a table shows it; another name as it is."""
    stage = re.fullmatch(r"tuned-(\d+)-([a-z]+)(?:-seed(\d+))?", name)
    if stage is None:
        return MODELS.get(name, name)
    number, kind, seed = stage.groups()
    words = f"tuned, stage {number} ({STAGES[kind].words.short if kind in STAGES else kind})"
    return f"{words}, seed {seed}" if seed else words


def subset(name: str) -> str:
    """The name of a subset of items in words."""
    return SUBSETS.get(name, name)


def source(name: str) -> str:
    """The name of a training source without what all of Meadow's names begin with."""
    plain = name.removeprefix("medical_meadow_")
    return plain.replace("_", " ") if plain != name or "/" not in name else name


def text(words: str) -> str:
    """A sentence with the short names of benchmarks and models replaced."""
    return _IN_TEXT.sub(lambda match: model(benchmark(match[1])), words)


def listed(words: list[str]) -> str:
    """Words in a sentence: "a", "a and b", "a, b and c"."""
    if len(words) < 2:
        return "".join(words)
    return f"{', '.join(words[:-1])} and {words[-1]}"


def fits(wording: str, words: str) -> bool:
    """Whether `words` are a wording whose words in braces are filled in."""
    pattern = re.sub(r"\\\{\w+\\\}", ".+", re.escape(wording))
    return re.fullmatch(pattern, words) is not None
