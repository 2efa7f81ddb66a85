"""The tables: every cell recomputed from predictions, quoted values apart, verdicts that follow
intervals.
"""

from types import SimpleNamespace

import pandas as pd
import pytest

from sm70lib import benchmarks
from sm70lib.analysis import accuracies, comparisons, frames, quoted, tables
from sm70lib.benchmarks import Item
from sm70lib.benchmarks.details import Details
from sm70lib.parameters import aggregates
from sm70lib.statistics import differences, stats, verdicts
from tests import synthetic

HOW = stats.How(resamples=300)
P = synthetic.PARAMS
REAL = synthetic.REAL


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    outputs = tmp_path_factory.mktemp("outputs")
    synthetic.study(outputs)
    return frames.load(outputs, ["made"])


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """As many questions as the real sets have, each its own cluster; tuned gets 62 %."""
    outputs = tmp_path_factory.mktemp("outputs")
    synthetic.study(
        outputs, world=False, sizes=REAL, skill={"base": 0.3, "base-nf4": 0.3, "tuned": 0.62}
    )
    return frames.load(outputs, ["made"])


@pytest.fixture(scope="module")
def world_results(world):
    return accuracies.results(world, HOW)


@pytest.fixture(scope="module")
def real_results(real):
    return accuracies.results(real, HOW)


@pytest.fixture(scope="module")
def world_compared(world):
    return comparisons.comparisons(world, P, HOW)


def with_aggregates(answers):
    return frames.named(answers, aggregates.names(answers["benchmark"]))


def test_an_aggregate_is_made_of_its_members_and_only_for_who_asks(world):
    steps = list(aggregates.USMLE_STEPS)
    asked = sorted(set(world["benchmark"]))
    assert asked == ["medqa_4", "pubmedqa", *steps], "answers have no other rows"
    assert aggregates.names(asked) == [*asked, "usmle", "usmle_macro"]
    assert aggregates.names(asked, [aggregates.POOLED]) == [*asked, "usmle"]
    assert aggregates.names(asked, members=False) == [*asked[:2], "usmle", "usmle_macro"]
    shown = ["medqa_4", "usmle", "usmle_macro", "usmle_step1", "xstest_safe"]  # a table's order
    assert aggregates.names(shown, members=False) == [*shown[:3], "xstest_safe"]
    assert aggregates.names(["medqa_4"]) == ["medqa_4"], "nothing is made of what was not asked"
    assert aggregates.complete(steps[:2]) == set(steps[:2])
    assert aggregates.complete(steps) == {*steps, "usmle"}
    pooled = frames.named(world, ["usmle"])
    members = world[world["benchmark"].isin(steps)]
    assert set(pooled["benchmark"]) == {"usmle"} and len(pooled) == len(members) == 150 * 6
    assert pooled["item_id"].tolist() == members["item_id"].tolist()
    assert pooled["step"].tolist() == members["benchmark"].tolist()
    assert len(frames.named(world, ["medqa_5"])) == 0
    both = frames.named(world, ["usmle_macro", "usmle_step3"])
    assert both["benchmark"].value_counts().to_dict() == {"usmle_macro": 900, "usmle_step3": 360}
    tuned = world[(world["model"] == "tuned") & (world["protocol"] == "harness")]
    _, _, weight = frames.scored(frames.named(tuned, ["usmle_macro"]))
    assert sorted(set(weight)) == [1 / 60, 1 / 50, 1 / 40]
    assert frames.scored(frames.named(tuned, ["usmle"]))[2] is None


def test_every_accuracy_is_recomputed_from_its_predictions(world, world_results):
    found, checked = world_results, 0
    world = with_aggregates(world)
    for row in found.to_dict("records"):
        part = world[(world[list(frames.RUN)] == [row[name] for name in frames.RUN]).all(axis=1)]
        kind = part[part["kind"] == row["subset"]]
        part = {"all": part, "clean": part[~part["flagged"]]}.get(row["subset"], kind)
        assert (row["n"], row["correct"]) == (len(part), part["correct"].sum())
        if row["benchmark"] != "usmle_macro":
            assert row["acc_pct"] == round(100 * row["correct"] / row["n"], 1)
        assert row["low_pct"] <= row["acc_pct"] <= row["high_pct"]
        assert row["bound_low_pct"] <= row["low_pct"] and row["high_pct"] <= row["bound_high_pct"]
        guess = benchmarks.best_constant_accuracy(list(part["item"]))
        assert row["best_constant_pct"] == round(100 * guess, 1)
        checked += 1
    assert (
        checked == 3 * 2 * 7 * 5
    )  # models, protocols, benchmarks with usmle and usmle_macro, subsets


def test_clean_subset_leaves_out_what_the_audit_flagged(world_results):
    found = world_results.set_index(["model", "benchmark", "protocol", "subset"])
    assert found.loc[("tuned", "medqa_4", "sm70-2023", "all"), "n"] == 120
    assert found.loc[("tuned", "medqa_4", "sm70-2023", "clean"), "n"] == 110


def test_usmle_micro_pools_and_macro_averages_the_steps(real_results):
    rows = real_results.query("subset == 'all' and model == 'tuned' and protocol == 'sm70-2023'")
    rows = rows.set_index("benchmark")
    steps = rows.loc[["usmle_step1", "usmle_step2", "usmle_step3"]]
    assert rows.loc["usmle", "n"] == 325 and rows.loc["usmle", "correct"] == steps["correct"].sum()
    macro = 100 * (steps["correct"] / steps["n"]).mean()
    assert rows.loc["usmle_macro", "acc_pct"] == pytest.approx(macro, abs=0.05)


def test_primary_family_is_the_declared_one_with_holm(world_compared):
    table = world_compared
    primary, rest = table[table["family"] == "primary"], table[table["family"] != "primary"]
    assert (
        primary["benchmark"].tolist() == P.eval_primary_benchmarks and rest["p_holm"].isna().all()
    )
    assert set(zip(primary["before"], primary["after"])) == {("base-nf4", "tuned")}
    assert primary["p_holm"].tolist() == pytest.approx(stats.holm(primary["p"]), rel=0.01)
    assert (primary["reading"] == "tuned higher").all() and (table["detectable_pts"] > 0).all()
    assert len(table) == 3 * 2 * 6
    open_rows = table[(table["low_pts"] <= 0) & (table["high_pts"] >= 0)]
    assert (
        open_rows["reading"].str.startswith("not distinguishable at n=").all()
        and len(open_rows) > 5
    )


def test_the_declared_intervals_are_at_holms_level(world, world_compared):
    table = world_compared
    primary = table[table["family"] == "primary"]
    assert primary["level_pct"].tolist() == [98.3] * 3, "all three are clear at the first step"
    assert set(table.loc[table["family"] != "primary", "level_pct"]) == {95}
    for row in table.to_dict("records"):
        part = frames.paired(with_aggregates(world), row["before"], row["after"])
        part = part[(part[frames.SET] == [row[name] for name in frames.SET]).all(axis=1)]
        level = 1 - 0.05 / 3 if row["family"] == "primary" else 0.95
        gap = differences.difference(part["correct_a"], part["correct_b"], part["cluster"], level)
        assert [row["low_pts"], row["high_pts"]] == list(gap.row("x", "pts").values())[2:4]
        words = {
            verdicts.SUPPORTED: f"{row['after']} higher",
            verdicts.CONTRADICTED: f"{row['before']} higher",
        }
        assert row["reading"] == words.get(
            verdicts.judged(gap), f"not distinguishable at n={row['n']}"
        )


def test_a_constant_model_gets_no_verdict(world):
    fixed = world.assign(choice=world["choice"].where(world["model"] != "base-nf4", 2))
    table = comparisons.comparisons(fixed, P, HOW)
    asked = (table[["before", "after"]] == "base-nf4").any(axis=1)
    assert (
        table.loc[asked, "reading"] == "no verdict: base-nf4 chose C in 100% of its answers"
    ).all()
    assert asked.sum() == 24 and table.loc[asked, "difference_pts"].notna().all()
    assert not table.loc[~asked, "reading"].str.contains("no verdict").any()
    found = accuracies.results(fixed, HOW).set_index(["model", "subset"])
    assert (found.loc["base-nf4", "commonest_pct"] == 100).all()
    assert found.loc["tuned", "commonest_pct"].max() < 95


def test_few_clusters_give_no_verdict(world):
    few = world.assign(cluster="c" + (world["item_id"].str[-3:].astype(int) % 12).astype(str))
    table = comparisons.comparisons(few, P, HOW)
    assert (table["reading"] == "no verdict: 12 clusters, at least 20 needed").all() and len(
        table
    ) == 36
    assert (table["low_pts"] == -100).all() and (table["high_pts"] == 100).all()
    effect = comparisons.contamination_effect(few, HOW)
    assert (
        effect["interval"].str.match(r"none: \d+ clusters, at least 20 needed").all()
        and len(effect) == 6
    )


def test_rank_of_the_right_option_follows_from_the_loglikelihoods(world, world_results):
    found, checked = world_results, 0
    world = with_aggregates(world)
    for row in found[found["subset"] == "all"].to_dict("records"):
        part = world[(world[list(frames.RUN)] == [row[name] for name in frames.RUN]).all(axis=1)]
        ranks = [
            sorted(x, reverse=True).index(x[g]) + 1
            for x, g in zip(part["loglikelihoods"], part["gold"])
        ]
        assert row["right_rank"] == round(sum(ranks) / len(ranks), 2)
        checked += 1
    assert checked == 42


def test_printed_p_values_are_never_zero(world, tmp_path):
    table = comparisons.comparisons(world, P, stats.How(resamples=2000))
    assert pd.api.types.is_numeric_dtype(table["p"]) and (table["p"] > 0).all()
    one = table.head(3).assign(p=[1e-300, 0.0009995, 0.04321], p_holm=[3e-300, 0.003, float("nan")])
    shown = tables.write(one, tmp_path, "t", "P.")
    assert (
        shown["p"].tolist() == ["< 0.001", "< 0.001", "0.0432"]
        and shown["p_holm"].tolist()[2] == ""
    )
    csv = pd.read_csv(tmp_path / "t.csv", dtype=str, keep_default_na=False)
    assert csv["p"].tolist() == shown["p"].tolist() and csv["p_holm"].tolist() == [
        "< 0.001",
        "0.003",
        "",
    ]
    assert (
        "| < 0.001 |" in (tmp_path / "t.md").read_text()
        and "& $<$ 0.001" in (tmp_path / "t.tex").read_text()
    )


def test_contamination_effect_is_the_difference_of_gains(world):
    table = comparisons.contamination_effect(world, HOW)
    assert len(table) == 6 and set(table["benchmark"]) == {"medqa_4", "usmle", "usmle_step3"}
    gap = table["gain_flagged_pts"] - table["gain_clean_pts"]
    assert table["effect_pts"].tolist() == pytest.approx(gap.tolist(), abs=0.11)
    assert (
        (table["low_pts"] <= table["effect_pts"]) & (table["effect_pts"] <= table["high_pts"])
    ).all()


def test_what_a_few_leaked_or_clean_items_are_worth_is_not_judged(world):
    medqa = world[world["benchmark"] == "medqa_4"]
    ids = sorted(medqa["item_id"].unique())
    for flagged, which in ((ids[:9], "leaked"), (ids[9:], "clean")):
        table = comparisons.contamination_effect(
            medqa.assign(flagged=medqa["item_id"].isin(flagged)), HOW
        )
        assert len(table) == 2 and table["effect_pts"].isna().all()
        assert set(table["interval"]) == {f"fewer than 10 {which} items"}


def test_a_study_without_leaks_or_quantisation_has_its_tables(tmp_path):
    folder = synthetic.study(
        tmp_path, world=False, skill={"base": 0.3, "tuned": 0.8}, sizes={"medqa_4": 40}
    )
    (folder / "data" / "contaminated_items.csv").write_text("source,benchmark,item_id\n")
    answers = frames.load(tmp_path, ["made"])
    effect = comparisons.contamination_effect(answers, HOW)
    assert len(effect) == 0 and "effect_pts" in effect
    compared = comparisons.comparisons(answers, P, HOW)
    assert compared["family"].tolist() == ["primary", "exploratory"] and set(
        compared["before"]
    ) == {"base"}
    elsewhere = SimpleNamespace(**vars(P) | {"eval_primary_protocol": "meditron"})
    assert comparisons.comparisons(answers, elsewhere, HOW)["p_holm"].isna().all()


def test_several_studies_stand_in_one_table(tmp_path):
    for name in ("made", "second"):
        synthetic.study(tmp_path, name, sizes={"medqa_4": 20})
    answers = frames.load(tmp_path, ["made", "second"])
    assert set(accuracies.results(answers, HOW)["study"]) == {"made", "second"}
    p = SimpleNamespace(**vars(P) | {"eval_primary_benchmarks": ["medqa_4"]})
    primary = comparisons.comparisons(answers, p, HOW).query("family == 'primary'")
    assert primary["study"].tolist() == ["made"]


def test_the_same_predictions_give_the_same_bytes(world, world_results, tmp_path):
    for folder, found in (("one", world_results), ("two", accuracies.results(world, HOW))):
        tables.write(found, tmp_path / folder, "results", tables.caption("All.", world))
    files = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert files == ["results.csv", "results.md", "results.tex"]
    for name in files:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_tables_are_escaped_and_quoted_rows_italic(tmp_path):
    notes = ["50 % | x", "<b>x</b>\nnext"]
    table = pd.DataFrame({"model": ["a_b", "GPT-4 †"], "note": notes, "n": [1, None]})
    tables.write(table, tmp_path, "t", "100 % of a_b.")
    markdown, tex = (tmp_path / "t.md").read_text(), (tmp_path / "t.tex").read_text()
    for line in ("| a_b | 50 % \\| x | 1 |", "| *GPT-4 †* | *&lt;b>x&lt;/b> next* | *–* |"):
        assert line in markdown
    for text in ("a\\_b & 50 \\% | x", "\\textit{GPT-4 †}", "\\caption{100 \\% of a\\_b.}"):
        assert text in tex
    assert pd.read_csv(tmp_path / "t.csv")["note"].tolist() == notes
    tables.write(table.head(0), tmp_path, "empty", "Nothing.")
    assert (
        tmp_path / "empty.md"
    ).read_text() == "Nothing.\n\n| Model | Note | n |\n| --- | --- | --- |\n"


def test_several_seeds_are_one_score_with_its_spread_and_mc2_shows_its_mass(world, world_compared):
    run = world[
        (world[["model", "benchmark", "protocol"]] == ["tuned", "medqa_4", "sm70-2023"]).all(axis=1)
    ]
    other = run.assign(seed=1, correct=False)
    seeds = (
        accuracies.results(pd.concat([run.assign(mass=0.25), other.assign(mass=0.75)]), HOW)
        .set_index("subset")
        .loc["all"]
    )
    alone = accuracies.results(run, HOW).set_index("subset")
    assert (seeds["n"], seeds["seeds"], seeds["mass_pct"]) == (len(run), 2, 50.0)
    compared = comparisons.comparisons(pd.concat([world, world.assign(seed=1)]), P, HOW)
    numbers = ["n", "difference_pts", "low_pts", "high_pts", "detectable_pts"]
    pd.testing.assert_frame_equal(compared[numbers], world_compared[numbers])
    assert seeds["acc_pct"] == pytest.approx(alone.loc["all", "acc_pct"] / 2, abs=0.1)
    assert seeds["spread_pts"] == pytest.approx(
        100 * pd.Series([run["correct"].mean(), 0]).std(), abs=0.1
    )
    assert not {"seeds", "spread_pts", "mass_pct"} & set(alone), "columns that only such runs need"


def test_one_system_under_two_protocols_is_two_rows(real_results):
    """Ours too: no row of the paper's table mixes two ways of asking, or two numbers of shots."""
    found = real_results
    several = pd.concat([found[found["protocol"] == "sm70-2023"].assign(shots=5), found])
    table = accuracies.wide(several, ["medqa_4", "pubmedqa"], quoted.read())
    keys = ["model", "protocol", "shots", "source"]
    assert not table.duplicated(keys).any() and list(table) == [
        *keys[:3],
        "medqa_4",
        "pubmedqa",
        "source",
    ]
    ours = table[table["model"] == "tuned"]
    assert sorted(zip(ours["protocol"], ours["shots"])) == [
        ("harness", "0"),
        ("sm70-2023", "0"),
        ("sm70-2023", "5"),
    ]
    interim = table[table["model"] == "SM70 interim (PH70_MedAlpaca300) †"]
    assert sorted(interim["medqa_4"]) == ["58.92 n=1273", "59.54 n=1273"]
    camel = table[table["model"] == "Clinical Camel 70B †"].set_index("shots")["medqa_4"]
    assert camel.to_dict() == {"0": "53.4 n~1273", "5": "60.7 n~1273"}


def test_the_papers_table_keeps_quoted_rows_apart(real_results):
    found = real_results[real_results["protocol"] == "sm70-2023"]
    names = ["medqa_4", "pubmedqa", "usmle", "usmle_macro"]
    table = accuracies.wide(found, names, quoted.read())
    own, theirs = table[table["source"] == "study made"], table[table["source"] != "study made"]
    assert own["model"].tolist() == [
        "base",
        "base-nf4",
        "tuned",
        accuracies.CLEANED,
        accuracies.GUESSER,
    ]
    assert theirs["model"].str.endswith("†").all() and len(theirs) > 5
    assert own["medqa_4"].iloc[2].endswith("n=1273") and "[" in own["medqa_4"].iloc[2]
    camel = theirs[theirs["model"] == "Clinical Camel 70B †"]
    assert camel["medqa_4"].tolist() == [
        "53.4 n~1273"
    ]  # zero-shot; 74.3 on PubMedQA is not verified
    assert camel["usmle_macro"].tolist() == ["54.3 n~324"] and (camel["usmle"] == "").all()
    assert not theirs.astype(str).map(lambda cell: "74.3" in cell).any(axis=None)
    five = accuracies.wide(found.assign(shots=5), names, quoted.read()).set_index("model")
    assert five.loc["Clinical Camel 70B †", "usmle_macro"] == "64.3 n~324"
    assert five.loc["GPT-4 †", "usmle_macro"].tolist().count("86.6 n~324") == 1


def test_the_main_usmle_score_stands_without_leaked_items_too(real, real_results):
    found = real_results[real_results["protocol"] == "sm70-2023"]
    table = accuracies.wide(found, ["medqa_4", "pubmedqa", "usmle", "usmle_macro"], quoted.read())
    row = table.set_index("model").loc[accuracies.CLEANED]
    run = real[(real["model"] == "tuned") & (real["protocol"] == "sm70-2023")]
    clean = frames.named(run[~run["flagged"]], ["usmle"])
    assert row["usmle"].startswith(f"{100 * clean['correct'].mean():.1f} [")
    assert row["usmle"].endswith("n=315") and row["usmle_macro"].endswith("n=315"), "10 of 325 leak"
    assert row["pubmedqa"] == "", "where nothing leaks, there is nothing to leave out"


def test_the_two_sets_of_usmle_items_are_told_apart(real):
    assert "325 items of Clinical Camel" in accuracies.usmle_set(
        real
    ) and "94 / 109 / 122" in accuracies.usmle_set(real)
    step1 = real["benchmark"] == "usmle_step1"
    fewer = step1 & real["item_id"].isin(["usmle_step1/000", "usmle_step1/001"])
    step2 = real["benchmark"] == "usmle_step2"
    more = real[step2].drop_duplicates("item_id").head(1).assign(item_id="usmle_step2/more")
    hub = pd.concat([real[~fewer], more])
    assert "324 items of medical_meadow" in accuracies.usmle_set(
        hub
    ) and "92 / 110 / 122" in accuracies.usmle_set(hub)
    assert "neither" in accuracies.usmle_set(real[~step1])


def test_truthfulqa_has_its_four_categories_and_their_mean_beside_the_printed_ones():
    right = {"Health": [1, 1, 1, 0], "Nutrition": [1, 0], "Psychology": [0, 0], "Science": [1]}
    rows = []
    for category, answered in right.items():
        for n, good in enumerate(answered):
            about = Details(category=category)
            key = f"{category}/{n}"
            item = Item(key, key, "truthfulqa", "?", "", ("right", "wrong"), 0, about)
            rows.append(
                {"study": "meditron-7b", "model": "tuned", "benchmark": "truthfulqa"}
                | {"protocol": "meditron", "shots": 1, "seed": 1234, "flagged": False}
                | {"item": item, "item_id": item.id, "cluster": item.cluster, "kind": None}
                | {"choice": 1 - good, "gold": 0, "correct": bool(good), "correct_norm": bool(good)}
                | {"loglikelihoods": [-1.0, -2.0], "step": None}
            )
    answers = pd.DataFrame([*rows, rows[0] | {"protocol": "harness"}])
    found = accuracies.results(accuracies.medical(answers), HOW).set_index("benchmark")
    whole = found[found["subset"] == "all"]
    assert whole["n"].to_dict() == {
        "Health": 4,
        "Nutrition": 2,
        "Psychology": 2,
        "Science": 1,
        aggregates.MEDICAL_MEAN: 9,
    }
    mean = whole.loc[aggregates.MEDICAL_MEAN]
    assert mean["acc_pct"] == pytest.approx((75 + 50 + 0 + 100) / 4, abs=0.1), "not 5 of 9"
    names = [*aggregates.MEDICAL, aggregates.MEDICAL_MEAN]
    cited = quoted.by_category(quoted.read())
    table = accuracies.wide(whole.reset_index(), names, cited).set_index("model")
    assert table.loc["Meditron-7B †", [*names]].tolist() == [
        "27.3 n~55",
        "31.3 n~16",
        "21.1 n~19",
        "33.3 n~9",
        "28.3 n~99",
    ]
    assert "Meditron-70B †" not in table.index, "printed without an example"
