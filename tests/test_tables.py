"""The tables: every cell recomputed from predictions, quoted values apart, verdicts that follow intervals."""

import json
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import synthetic

from sm70lib import benchmarks, stats, tables
from sm70lib.params import StudyError

HOW = stats.How(resamples=300)
P = synthetic.PARAMS
REAL = {"medqa_4": 1273, "pubmedqa": 1000, "usmle_step1": 94, "usmle_step2": 109, "usmle_step3": 122}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    outputs = tmp_path_factory.mktemp("outputs")
    synthetic.study(outputs)
    return tables.load(outputs, ["made"])


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """As many questions as the real sets have, each its own cluster; tuned gets 62 %."""
    outputs = tmp_path_factory.mktemp("outputs")
    synthetic.study(outputs, world=False, sizes=REAL, skill={"base": 0.3, "base-nf4": 0.3, "tuned": 0.62})
    return tables.load(outputs, ["made"])


def verdicts(answers, p=P):
    found, compared = tables.results(answers, HOW), tables.comparisons(answers, p, HOW)
    return tables.scorecard(answers, found, compared, p, HOW)


def test_every_accuracy_is_recomputed_from_its_predictions(world):
    found, checked = tables.results(world, HOW), 0
    for row in found.to_dict("records"):
        part = world[(world[list(tables.RUN)] == [row[name] for name in tables.RUN]).all(axis=1)]
        kind = part[part["kind"] == row["subset"]]
        part = {"all": part, "clean": part[~part["flagged"]]}.get(row["subset"], kind)
        assert (row["n"], row["correct"]) == (len(part), part["correct"].sum())
        if row["benchmark"] != "usmle_macro":
            assert row["acc_pct"] == round(100 * row["correct"] / row["n"], 1)
        assert row["low_pct"] <= row["acc_pct"] <= row["high_pct"]
        guess = benchmarks.best_constant_accuracy(list(part["item"]))
        assert row["best_constant_pct"] == round(100 * guess, 1)
        checked += 1
    assert checked == 3 * 2 * 7 * 5  # models, protocols, benchmarks with usmle and usmle_macro, subsets


def test_clean_subset_leaves_out_what_the_audit_flagged(world):
    found = tables.results(world, HOW).set_index(["model", "benchmark", "protocol", "subset"])
    assert found.loc[("tuned", "medqa_4", "sm70-2023", "all"), "n"] == 120
    assert found.loc[("tuned", "medqa_4", "sm70-2023", "clean"), "n"] == 110


def test_one_system_under_two_protocols_is_two_rows(real):
    five = tables.results(real[real["protocol"] == "sm70-2023"], HOW).assign(shots=5)
    table = tables.wide(five, ["medqa_4", "pubmedqa"], tables.quoted()).set_index("model")["medqa_4"]
    interim = table[table.index.str.startswith("SM70 interim (PH70_MedAlpaca300), ")]
    assert sorted(interim) == ["58.92 n=1273", "59.54 n=1273"] and interim.index.str.endswith(" †").all()
    assert "Clinical Camel 70B †" in table.index, "a system with one row keeps its plain name"


def test_a_number_that_is_quoted_twice_is_refused(tmp_path):
    lines = Path(tables.__file__).with_name("quoted.csv").read_text().splitlines(keepends=True)
    (tmp_path / "quoted.csv").write_text("".join([*lines, lines[4].replace("56.48", "99.9")]))
    with pytest.raises(StudyError, match=f"quoted.csv, lines 5 and {len(lines) + 1}: both quote SM70 interim"):
        tables.quoted(tmp_path / "quoted.csv")


def test_usmle_micro_pools_and_macro_averages_the_steps(real):
    found = tables.results(real, HOW)
    rows = found.query("subset == 'all' and model == 'tuned' and protocol == 'sm70-2023'")
    rows = rows.set_index("benchmark")
    steps = rows.loc[["usmle_step1", "usmle_step2", "usmle_step3"]]
    assert rows.loc["usmle", "n"] == 325 and rows.loc["usmle", "correct"] == steps["correct"].sum()
    macro = 100 * (steps["correct"] / steps["n"]).mean()
    assert rows.loc["usmle_macro", "acc_pct"] == pytest.approx(macro, abs=0.05)


def test_the_papers_table_keeps_quoted_rows_apart(real):
    found = tables.results(real, HOW)
    found = found[found["protocol"] == "sm70-2023"]
    table = tables.wide(found, ["medqa_4", "pubmedqa", "usmle_macro"], tables.quoted())
    own, quoted = table[table["source"] == "study made"], table[table["source"] != "study made"]
    assert own["model"].tolist() == ["base", "base-nf4", "tuned", "best constant guesser"]
    assert quoted["model"].str.endswith("†").all() and len(quoted) > 5
    assert own["medqa_4"].iloc[2].endswith("n=1273") and "[" in own["medqa_4"].iloc[2]
    camel = quoted[quoted["model"] == "Clinical Camel 70B †"]
    assert camel["medqa_4"].tolist() == ["53.4 n=1273"]  # zero-shot; 74.3 on PubMedQA is not verified
    assert not quoted.astype(str).map(lambda cell: "74.3" in cell).any(axis=None)


def test_primary_family_is_the_declared_one_with_holm(world):
    table = tables.comparisons(world, P, HOW)
    primary, rest = table[table["family"] == "primary"], table[table["family"] != "primary"]
    assert primary["benchmark"].tolist() == P.eval_primary_benchmarks and rest["p_holm"].isna().all()
    assert set(zip(primary["before"], primary["after"])) == {("base-nf4", "tuned")}
    assert primary["p_holm"].tolist() == pytest.approx(stats.holm(primary["p"]), rel=0.01)
    assert (primary["reading"] == "tuned higher").all() and (table["detectable_pts"] > 0).all()
    assert len(table) == 3 * 2 * 6
    open_rows = table[(table["low_pts"] <= 0) & (table["high_pts"] >= 0)]
    assert open_rows["reading"].str.startswith("not distinguishable at n=").all() and len(open_rows) > 5


def test_contamination_effect_is_the_difference_of_gains(world):
    table = tables.contamination_effect(world, HOW)
    assert len(table) == 6 and set(table["benchmark"]) == {"medqa_4", "usmle", "usmle_step3"}
    gap = table["gain_flagged_pts"] - table["gain_clean_pts"]
    assert table["effect_pts"].tolist() == pytest.approx(gap.tolist(), abs=0.11)
    assert ((table["low_pts"] <= table["effect_pts"]) & (table["effect_pts"] <= table["high_pts"])).all()


def test_a_study_without_leaks_or_quantisation_has_its_tables(tmp_path):
    folder = synthetic.study(tmp_path, world=False, skill={"base": 0.3, "tuned": 0.8}, sizes={"medqa_4": 40})
    (folder / "data" / "contaminated_items.csv").write_text("source,benchmark,item_id\n")
    answers = tables.load(tmp_path, ["made"])
    effect = tables.contamination_effect(answers, HOW)
    assert len(effect) == 0 and "effect_pts" in effect
    compared = tables.comparisons(answers, P, HOW)
    assert compared["family"].tolist() == ["primary", "exploratory"] and set(compared["before"]) == {"base"}
    card = verdicts(answers)
    assert "tuned above base" in set(card["claim"]) and not card["claim"].str.contains("NF4|letters").any()
    elsewhere = SimpleNamespace(**vars(P) | {"eval_primary_protocol": "meditron"})
    assert tables.comparisons(answers, elsewhere, HOW)["p_holm"].isna().all()


def test_scorecard_of_an_invented_world_judges_itself_alone(world):
    card = verdicts(world)
    paper = card[card["source"] == tables.PAPER]
    assert len(paper) == 7 and set(paper["verdict"]) == {"not comparable"} and paper["ours"].isna().all()
    own = card[card["source"] == "this study"]
    claims = own.groupby("claim", sort=False).size().to_dict()
    assert claims == {"tuned above base-nf4": 3,
                      "tuned at least 10 points above the best constant guesser": 12,
                      "letters less than 10 points above the best constant guesser": 2,
                      "base in NF4 at most 5 points below base": 3}
    assert (own[own["claim"] == "tuned above base-nf4"]["verdict"] == "supported").all()


def test_verdicts_follow_the_interval(world):
    card = verdicts(world)
    own, checked = card[card["source"] == "this study"], 0
    for row in own.to_dict("records"):
        low, high = row["low"] - row["reference"], row["high"] - row["reference"]
        if row["claim"].startswith("letters"):
            low, high = -high, -low
        expected = "supported" if low >= 0 else "contradicted" if high < 0 else "undecidable at this n"
        assert row["verdict"] == expected, row
        checked += 1
    assert checked == 20


def test_an_untuned_model_is_reported_as_such(tmp_path):
    synthetic.study(tmp_path, skill={"base": 0.25, "base-nf4": 0.25, "tuned": 0.25})
    card = verdicts(tables.load(tmp_path, ["made"]))
    floor = card[card["claim"].str.contains("at least 10 points") & (card["subset"] == "all")]
    assert len(floor) == 3 and set(floor["verdict"]) <= {"contradicted", "undecidable at this n"}
    assert "supported" not in set(card[card["claim"] == "tuned above base-nf4"]["verdict"])


def test_quoted_values_are_compared_only_on_the_same_n_and_shots(real):
    card = verdicts(real).set_index(["claim", "benchmark"])
    camel = card.loc[("tuned above Clinical Camel 70B", "medqa_4")]
    assert (camel["verdict"], camel["reference"]) == ("supported", 53.4)
    ours = stats.Estimate(*(camel[name] / 100 for name in ("ours", "low", "high")), 1273, "")
    assert stats.minus(ours, stats.wilson(0.534 * 1273, 1273)).low > 0
    assert card.loc[("tuned below GPT-4", "medqa_4"), "verdict"] == "supported"
    llama = card.loc[("tuned above Llama-2-70B", "medqa_4")]
    assert llama["verdict"] == "not comparable" and "5-shot" in llama["why"]
    assert card.loc[("tuned above GPT-3.5", "usmle_macro"), "why"].startswith("quoted: 0-shot, n not stated")


def test_several_studies_stand_in_one_table(tmp_path):
    for name in ("made", "second"):
        synthetic.study(tmp_path, name, sizes={"medqa_4": 20})
    answers = tables.load(tmp_path, ["made", "second"])
    assert set(tables.results(answers, HOW)["study"]) == {"made", "second"}
    p = SimpleNamespace(**vars(P) | {"eval_primary_benchmarks": ["medqa_4"]})
    primary = tables.comparisons(answers, p, HOW).query("family == 'primary'")
    assert primary["study"].tolist() == ["made"]


def test_the_same_predictions_give_the_same_bytes(world, tmp_path):
    for folder in ("one", "two"):
        tables.write(tables.results(world, HOW), tmp_path / folder, "results", tables.caption("All.", world))
    files = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert files == ["results.csv", "results.md", "results.tex"]
    for name in files:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_tables_are_escaped_and_quoted_rows_italic(tmp_path):
    notes = ["50 % | x", "<b>x</b>\nnext"]
    table = pd.DataFrame({"model": ["a_b", "GPT-4 †"], "note": notes, "n": [1, None]})
    tables.write(table, tmp_path, "t", "100 % of a_b.")
    markdown, tex = (tmp_path / "t.md").read_text(), (tmp_path / "t.tex").read_text()
    for line in ("| a_b | 50 % \\| x | 1.0 |", "| *GPT-4 †* | *<b>x</b> next* |  |"):
        assert line in markdown
    for text in ("a\\_b & 50 \\% | x", "\\textit{GPT-4 †}", "\\caption{100 \\% of a\\_b.}"):
        assert text in tex
    assert pd.read_csv(tmp_path / "t.csv")["note"].tolist() == notes
    tables.write(table.head(0), tmp_path, "empty", "Nothing.")
    assert (tmp_path / "empty.md").read_text() == "Nothing.\n\n| model | note | n |\n| --- | --- | --- |\n"


def test_quoted_values_have_sources_and_the_unreadable_ones_are_empty():
    rows = tables.quoted()
    assert len(rows) == 348 and rows["source"].notna().all()
    assert set(rows["status"]) == {"verified", "unverified"}
    own = rows[rows["system"] == "SM70"]
    assert len(own) == 3 and own["value_pct"].isna().all() and own["note"].notna().all()
    assert rows.loc[rows["system"] != "SM70", "value_pct"].between(0, 100).all()
    interim = rows[rows["system"].str.startswith("SM70 interim")]
    assert len(interim) == 12 and interim["note"].str.contains("not the published model").all()
    assert not rows.duplicated(list(rows.columns[:6]) + ["source"]).any()
    assert set(tables.CLAIMS) <= set(rows["system"])


def test_a_quoted_count_of_right_answers_is_possible():
    """Where n is given and the note says nothing else, value x n is within rounding of a whole number."""
    rows = tables.quoted()
    text = rows[["benchmark", "subset", "protocol", "note"]].fillna("").agg(" ".join, axis=1)
    rows = rows[rows["n"].notna() & ~text.str.contains("no k of|mean|macro|top token|thought")]
    step = 100 / rows["n"].astype(float)
    nearest = (rows["value_pct"] / step).round() * step
    off = rows[(nearest - rows["value_pct"]).abs() > 0.06]  # rounded, or cut off after one digit
    assert len(rows) > 80 and len(off) == 0, off


def test_only_a_study_on_llama_2_70b_is_held_against_the_papers_claims(tmp_path):
    """A model trained here, or another base, says nothing about SM70, and its captions and reasons say so."""
    for base, why in (({"model": "base/model", "weights": 1_840_000}, "has 1.8 million weights"),
                      ({"model": "meta-llama/Llama-2-7b-hf"}, "is meta-llama/Llama-2-7b-hf")):
        folder = synthetic.study(tmp_path, base["model"].replace("/", "-"), world=False, sizes={"medqa_4": 90})
        (folder / "base/base.json").write_text(json.dumps(base))
        answers = tables.load(tmp_path, [folder.name])
        card = verdicts(answers, SimpleNamespace(**vars(P) | {"study": folder.name}))
        paper = card[card["claim"].str.startswith("SM70 ")]
        assert set(paper["verdict"]) == {tables.NOT} and len(paper) == 7 and paper["why"].str.contains(why).all()
        assert not card["claim"].str.contains("tuned (?:above|below) (?:Llama|Clinical|GPT)").any()
        assert ("no evidence" in tables.caption("All.", answers)) == ("weights" in base)


def test_a_gain_below_the_constant_guesser_is_named_so(tmp_path):
    skill = {"base": 0.02, "base-nf4": 0.02, "tuned": 0.2}
    synthetic.study(tmp_path, world=False, sizes={"medqa_4": 400}, skill=skill)
    card = verdicts(tables.load(tmp_path, ["made"]))
    row = card[card["claim"] == "tuned above base-nf4"].iloc[0]
    assert row["verdict"] == tables.SUPPORTED and "no better than the best constant guesser" in row["why"]


def test_several_seeds_are_one_score_with_its_spread_and_mc2_shows_its_mass(world):
    run = world[(world[["model", "benchmark", "protocol"]] == ["tuned", "medqa_4", "sm70-2023"]).all(axis=1)]
    other = run.assign(seed=1, correct=False)
    seeds = tables.results(pd.concat([run.assign(mass=0.25), other.assign(mass=0.75)]), HOW).set_index("subset").loc["all"]
    alone = tables.results(run, HOW).set_index("subset")
    assert (seeds["n"], seeds["seeds"], seeds["mass_pct"]) == (len(run), 2, 50.0)
    assert seeds["acc_pct"] == pytest.approx(alone.loc["all", "acc_pct"] / 2, abs=0.1)
    assert seeds["spread_pts"] == pytest.approx(100 * pd.Series([run["correct"].mean(), 0]).std(), abs=0.1)
    assert not {"seeds", "spread_pts", "mass_pct"} & set(alone), "columns that only such runs need"


def test_refusals_are_rows_of_the_scorecard(world):
    asked = world[(world["benchmark"] == "medqa_4") & (world["protocol"] == "sm70-2023")].assign(protocol="safety")
    eroded = asked["correct"].where(asked["model"] != "tuned", False)
    card = verdicts(pd.concat([world, asked.assign(benchmark="xstest_safe"),
                               asked.assign(benchmark="medsafety", correct=eroded)])).set_index("benchmark")
    safe, medical = card.loc["xstest_safe"], card.loc["medsafety"]
    assert safe["claim"] == "tuned at most 5 points worse at answering safe requests" and safe["verdict"] == "supported"
    assert medical["claim"].endswith("refusing harmful medical requests") and medical["verdict"] == "contradicted"
