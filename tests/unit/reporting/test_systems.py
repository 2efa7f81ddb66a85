"""One table of all systems: quoted and measured ones under the same protocol stand together."""

import pandas as pd

from sm70lib import protocols
from sm70lib.analysis import quoted
from sm70lib.reporting import systems
from sm70lib.steps.steps import write_json
from tests import marks

QUOTES = quoted.read()
ACCURACY = {"acc_pct": 50.0, "low_pct": 47.2, "high_pct": 52.8, "n": 1273, "interval": "Wilson"}


def measured(tmp_path) -> pd.DataFrame:
    """A study of Llama-2-70B that was asked MedQA in two ways, beside Clinical Camel."""
    models = {"camel": "wanglab/ClinicalCamel-70B quant=nf4", "mine": "../x/mine"}
    parameters = {"base_model": "meta-llama/Llama-2-70b-hf", "eval_models": models}
    write_json(tmp_path / "s/steps/04_eval/done.json", marks.done(parameters=parameters))
    rows = [
        {"study": "s", "model": model, "benchmark": "medqa_4", "protocol": protocol}
        | {"shots": shots, "subset": subset, **ACCURACY}
        for model in ("base", "base-nf4", "tuned", "camel", "mine")
        for protocol, shots in (("sm70-2023", 5), ("meditron", 5))
        for subset in ("all", "clean")
    ]
    return systems.table(pd.DataFrame(rows), QUOTES, tmp_path)


def test_a_quoted_system_stands_under_the_nearest_protocol_beside_the_measured_one(tmp_path):
    found = measured(tmp_path)
    mine = found[(found["protocol"] == "sm70-2023") & (found["shots"] == "5")]
    at = mine.set_index("system")["medqa_4"]
    assert at["Llama-2-70B"] == at["s: tuned"] == "50.0 [47.2, 52.8] n=1273"
    assert at["Llama-2-70B, NF4"] == at["Clinical Camel 70B, NF4"] == at["mine"]
    assert at["Clinical Camel 70B †"] == "60.7 n~1273"
    names = list(mine["system"])
    assert names.index("Clinical Camel 70B †") == names.index("Clinical Camel 70B, NF4") - 1
    meditron = found[(found["protocol"] == "meditron") & (found["system"] == "Llama-2-70B †")]
    asked = dict(zip(meditron["asked"], meditron["medqa_4"]))
    assert asked["meditron (top token, mean of 3 seeds)"] == "58.4 n=1273"
    assert asked["meditron (top token) (tuned on each benchmark)"] == "61.3 n=1273"


def test_systems_of_all_four_papers_are_there_and_none_twice(tmp_path):
    found = measured(tmp_path)
    sources = set(found["source"])
    for paper in ("SpassMed", "Meditron, arXiv 2311", "Med42-v2, arXiv", "Fully Open Meditron"):
        assert any(paper in source for source in sources), paper
    assert not found.duplicated(systems.KEYS).any() and set(found["protocol"]) >= {
        "sm70-2023",
        "meditron",
        "med42",
        "meditron-fo",
        systems.OTHER,
    }
    fits = QUOTES[(QUOTES["metric"] == "acc") & (QUOTES["status"] == "verified")]
    whole = fits[fits["subset"].isna() | fits["subset"].isin(quoted.WHOLE)]
    cells = found.loc[found["source"] != "study s", [c for c in found if c not in systems.KEYS]]
    assert sum(cell.count("; ") + 1 for cell in cells.to_numpy().ravel() if cell) == len(whole)


def test_nearest_names_what_is_quoted_and_protocols_that_are_there():
    assert set(systems.NEAREST) <= set(QUOTES["protocol"].dropna())
    assert set(systems.NEAREST.values()) <= {each.name for each in protocols.PROTOCOLS}


def test_a_part_has_only_the_benchmarks_that_it_was_asked(tmp_path):
    parts = dict(systems.parts(measured(tmp_path)))
    assert "medxpertqa" in parts["meditron-fo"] and "usmle" not in parts["meditron-fo"]
    assert "toxigen" in parts["med42"] and "medxpertqa" not in parts["med42"]
    assert list(parts)[-1] == systems.OTHER
