"""The pictures: the same bytes twice, provenance inside, titles that the numbers write, labels that
fit.
"""

import base64
import itertools

import matplotlib
import pandas as pd
import pytest
from PIL import Image

from sm70lib.analysis import accuracies, drawing, figures, frames, panels, quoted, slices, tables
from sm70lib.claims import entries
from sm70lib.composition import pictures as data
from sm70lib.composition import tables as composition
from sm70lib.corpus.audit import CHECKS
from sm70lib.measures import curves
from sm70lib.mistakes import coverage
from sm70lib.mistakes import pictures as mistakes
from sm70lib.statistics import stats
from tests import composed, synthetic

HOW = stats.How(resamples=200)
BESIDE = quoted.read()
BESIDE = BESIDE[BESIDE["system"].isin(entries.systems("sm70"))]
LINE = "tables/results.csv of study made; protocol sm70-2023, 0-shot"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    drawing.style()
    return synthetic.study(tmp_path_factory.mktemp("outputs"))


@pytest.fixture(scope="module")
def found(folder):
    return accuracies.results(frames.load(folder.parent, ["made"]), HOW)


@pytest.fixture(scope="module")
def drawings(folder, found):
    """Every picture of 01, 05 and 06, by name: a function that draws it anew."""
    first, answers = found[found["protocol"] == "sm70-2023"], frames.frame(folder)
    flips = slices.flips(frames.paired(answers, "base-nf4", "tuned"), HOW)
    metrics = pd.read_json(folder / "stages" / "1-sft" / "metrics.jsonl", lines=True)
    asked = answers[answers["protocol"] == "sm70-2023"]
    positions = composition.answer_positions(composed.ASKED)
    counts = composition.with_tokens(composed.FUNNEL, composed.LENGTHS, composed.NAMES)
    return {
        "accuracy": lambda: figures.accuracy(first, BESIDE),
        "kinds": lambda: figures.kinds(first),
        "protocols": lambda: figures.protocols(found),
        "training": lambda: curves.training(metrics),
        "loss": lambda: curves.loss_curve(metrics, "Loss"),
        "memory": lambda: figures.memory(pd.read_csv(folder / "memory.csv")),
        "contamination": lambda: figures.contamination(
            pd.read_csv(folder / "data" / "contamination.csv")
        ),
        "errors_flips": lambda: figures.flips(flips),
        "errors_reliability": lambda: panels.reliability(
            slices.reliability(asked), slices.calibration(asked)
        ),
        "pretraining": lambda: curves.pretraining(metrics),
        "contamination_worth": lambda: figures.clean(first),
        "errors_by_position": lambda: mistakes.by_slice(slices.by_slice(asked, HOW), "position"),
        "errors_confusion": lambda: mistakes.confusion(asked[asked["benchmark"] == "pubmedqa"]),
        "errors_coverage": lambda: mistakes.coverage(coverage.coverage(asked, HOW)),
        "holdings": lambda: data.holdings(composed.HELD),
        "answer_positions": lambda: data.answer_positions(positions),
        "funnel": lambda: data.funnel(counts, CHECKS),
        "token_lengths": lambda: data.token_lengths(composed.LENGTHS, 20),
        "source_shares": lambda: data.source_shares(composition.source_shares(counts)),
    }


def test_every_picture_is_the_same_twice_and_carries_its_provenance(drawings, tmp_path):
    for name, draw in drawings.items():
        for folder in ("one", "two"):
            drawing.save(draw(), tmp_path / folder, name, LINE, 80)
        for ending in ("png", "svg"):
            one, two = (tmp_path / folder / f"{name}.{ending}" for folder in ("one", "two"))
            assert one.read_bytes() == two.read_bytes(), one
        about = Image.open(tmp_path / "one" / f"{name}.png").text
        svg = (tmp_path / "one" / f"{name}.svg").read_text()
        assert about["Description"] == LINE and about["Title"] in svg and LINE in svg
        assert (
            "Software" not in about and "<dc:date>" not in svg and matplotlib.__version__ not in svg
        )
    assert len(drawings) == 19 and len(list(tmp_path.glob("*/*"))) == 76


def test_nothing_is_cut_off(drawings):
    for name, draw in drawings.items():
        fig = draw()
        fig.draw_without_rendering()
        box, width, height = fig.get_tightbbox(), fig.get_figwidth(), fig.get_figheight()
        assert box.x0 >= 0 and box.x1 <= width + 0.01 and box.y1 <= height + 0.01, name
        assert box.y0 >= drawing.strip(fig) - 0.06, f"{name} leaves no room for its provenance"
        matplotlib.pyplot.close(fig)


def test_a_long_legend_takes_nothing_from_the_panel(found):
    """One benchmark and five models: the legend is higher than the panel."""
    one = found[(found["protocol"] == "sm70-2023") & (found["benchmark"] == "medqa_4")]
    many = [one.assign(model=f"tuned, stage {n} (preferences)") for n in range(5)]
    fig = figures.accuracy(pd.concat(many, ignore_index=True), BESIDE[:0])
    fig.draw_without_rendering()
    assert len(fig.legends[0].get_texts()) == 6, "five models and the guesser"
    assert fig.axes[0].get_window_extent().height / fig.dpi > 0.5


def test_titles_say_what_the_numbers_say(found):
    tuned = (found["model"] == "tuned") & (found["protocol"] == "sm70-2023")
    first = found["protocol"] == "sm70-2023"
    assert "on 3 of 3 benchmarks" in title(figures.accuracy(found[first], NOBODY))
    weak = found.assign(
        bound_low_pct=found["bound_low_pct"].where(~(tuned & (found["benchmark"] == "pubmedqa")), 0)
    )
    assert "on 2 of 3 benchmarks" in title(figures.accuracy(weak[first], NOBODY))
    assert "on 9 of 9 kinds of question" in title(figures.kinds(found[first]))
    metrics = pd.DataFrame(
        {"step": [1, 2], "loss": [3, 2], "eval_loss": [3.5, 2.25], "learning_rate": 0}
    )
    assert title(curves.training(metrics)) == "Held-out loss: 3.50 to 2.25 nats per token"


def test_titles_of_mistakes_say_where_they_are(found, folder):
    answers = frames.frame(folder)
    first = answers[answers["protocol"] == "sm70-2023"]
    tuned = found.query("model == 'tuned' and protocol == 'sm70-2023'")
    gaps = tuned.pivot(index="benchmark", columns="subset", values="acc_pct").loc[
        ["medqa_4", "usmle"]
    ]
    most = (gaps["clean"] - gaps["all"]).abs().max()
    assert f"tuned changes by at most {most:.1f} points" in title(
        figures.clean(found[found["protocol"] == "sm70-2023"])
    )
    pubmedqa = first[first["benchmark"] == "pubmedqa"]
    right = pubmedqa.query("model == 'tuned'")["correct"].sum()
    assert f"tuned answers {right} of 90 right" in title(mistakes.confusion(pubmedqa))
    yes = pubmedqa.assign(choice=0, correct=pubmedqa["gold"] == 0)
    assert title(mistakes.confusion(yes)).endswith("30 of 90 right, and never says no or maybe")
    same = slices.by_slice(first, HOW)
    assert title(mistakes.by_slice(same, "subject")).endswith("all questions are alike")
    few = same[same["slice"] == "position"].assign(acc_pct=float("nan"))
    assert title(mistakes.by_slice(few, "position")).endswith("no group has 10 items")
    assert "written replies have no confidence" in title(
        mistakes.coverage(coverage.coverage(first.assign(confidence=float("nan")), HOW))
    )


def test_resolution_is_that_of_the_study(folder):
    drawing.style("muted", 220)
    assert matplotlib.pyplot.figure().get_dpi() == 220
    drawing.style()


NOBODY = quoted.read().head(0)


def title(fig):
    matplotlib.pyplot.close(fig)
    return drawing.title_of(fig)


def test_quoted_values_are_open_marks_and_of_the_same_shots(found):
    """USMLE's have a line of their own, as they are means over the steps."""
    fig = figures.accuracy(found[found["protocol"] == "sm70-2023"], BESIDE)
    ax = fig.axes[0]
    marks = [line for line in ax.lines if "(quoted)" in str(line.get_label())]
    assert sorted(line.get_label() for line in marks) == [
        "Clinical Camel 70B (quoted)",
        "GPT-3.5 (quoted)",
        "GPT-4 (quoted)",
        "Med-PaLM 2 (quoted)",
    ]
    assert all(line.get_markerfacecolor() == "white" for line in marks)
    lines = [label.get_text().split("\n")[0] for label in ax.get_yticklabels()]
    assert lines == ["MedQA", "PubMedQA", "USMLE", "USMLE (mean of steps)"]
    camel = next(line for line in marks if "Camel" in line.get_label())
    at = sorted((lines[round(y - 0.41)], x) for x, y in zip(*camel.get_data()))
    assert at == [("MedQA", 53.4), ("USMLE (mean of steps)", 54.3)], "zero-shot, not five-shot"
    matplotlib.pyplot.close(fig)
    fig = figures.accuracy(found[found["protocol"] == "sm70-2023"], NOBODY)
    assert len(fig.axes[0].get_yticklabels()) == 3, "no line for what nobody else reports"
    matplotlib.pyplot.close(fig)


def test_a_preference_round_shows_its_pairs_and_their_margin():
    drawing.style()
    dpo = pd.DataFrame(
        {
            "step": [0, 2, 4, 4],
            "loss": [None, 0.69, 0.5, None],
            "eval_loss": [0.693, None, None, 0.55],
            "rewards/accuracies": [None, 0.5, 0.75, None],
            "rewards/margins": [None, 0.1, 0.6, None],
            "eval_rewards/accuracies": [0.0, None, None, 0.625],
            "eval_rewards/margins": [0.0, None, None, 0.4321],
            "learning_rate": [None, 1e-6, 0, None],
        }
    )
    figure = curves.training(dpo)
    labels = [ax.get_ylabel() for ax in figure.axes]
    assert labels == [
        "loss (nats per pair)",
        "pairs in the right order",
        "margin (nats)",
        "learning rate",
    ]
    assert title(figure) == "At the end 62% of the held-out pairs are in the right order"
    assert len(curves.loss_curve(dpo, "3-dpo").axes) == 3
    matplotlib.pyplot.close(figure)
    sft = dpo[["step", "loss"]]
    table = tables.preferences({"2-sft": sft, "3-dpo": dpo, "4-dpo": dpo.iloc[1:3, [0, 1, 3, 4]]})
    assert table.to_dict("index") == {
        "3-dpo": {"pairs": "held out", "right_pct": 62.5, "margin": 0.432},
        "4-dpo": {"pairs": "trained on", "right_pct": 75.0, "margin": 0.6},
    }


def test_models_differ_in_colour_and_in_mark():
    looks = drawing.looks(["base", "base-nf4", "tuned", "tuned-1-sft", "tuned-2-dpo"])
    colours, marks = zip(*looks.values())
    assert len(set(colours)) == len(set(marks)) == 5


def test_what_was_not_done_is_said(found, folder):
    assert title(curves.pretraining(pd.DataFrame())) == "The base was not trained here"
    nobody = slices.reliability(frames.frame(folder)).head(0)
    assert "no confidence" in title(panels.reliability(nobody, nobody))
    without = found[~((found["benchmark"] == "pubmedqa") & (found["protocol"] == "harness"))]
    fig = figures.protocols(without)
    assert title(fig).startswith("The same questions, asked in several ways: scores of one model")
    assert "not asked" not in [text.get_text() for ax in fig.axes for text in ax.texts]
    three = pd.concat([without, found[found["benchmark"] == "medqa_4"].assign(shots=5)])
    fig = figures.protocols(three)
    said = [text.get_text() for ax in fig.axes for text in ax.texts]
    assert said.count("not asked") >= 2, "USMLE was not asked with five shots"
    matplotlib.pyplot.close(fig)


def test_every_allowed_palette_is_there():
    palettes = ["colorblind", "deep", "muted", "bright", "dark", "pastel"]
    for palette in palettes:
        drawing.style(palette)
        assert len(matplotlib.rcParams["axes.prop_cycle"]) >= 6
        assert matplotlib.rcParams["svg.hashsalt"] == "sm70"
    assert len(palettes) == 6
    drawing.style()


def test_the_notebook_gets_the_picture_that_lies_on_disk(tmp_path):
    figure = curves.loss_curve(pd.DataFrame({"step": [1, 2], "loss": [3, 2]}), "Loss")
    data, about = drawing.save(figure, tmp_path, "loss", LINE)._repr_mimebundle_()
    assert base64.b64decode(data["image/png"]) == (tmp_path / "loss.png").read_bytes()
    assert about["image/png"]["alt"] == "Loss"


def wide(models: int, exams: int) -> pd.DataFrame:
    """Results of many models on many exams, some of the study's own models among them."""
    every = ["base", "base-nf4", "tuned", *(f"other-{number}" for number in range(models - 3))]
    rows = []
    for place, (model, exam, way) in enumerate(itertools.product(every, range(exams), "ab")):
        score = 20 + place * 7919 % 70
        about = {"study": "made", "model": model, "benchmark": f"exam-{exam}", "protocol": way}
        numbers = {"shots": 0, "subset": "all", "n": 100, "best_constant_pct": 25.0}
        intervals = {"acc_pct": score, "low_pct": score - 5, "high_pct": score + 5}
        intervals |= {"bound_low_pct": score - 5}
        rows.append(about | numbers | intervals | {"interval": "Wilson"})
    return pd.DataFrame(rows)


def test_many_models_benchmarks_and_sources_are_drawn_and_what_is_left_out_is_said():
    drawing.style()
    found = wide(50, 30)
    tenths = found.rename(columns={"n": "of"}).assign(confidence_pct=50, n=50, bin=5)
    errors = tenths.drop_duplicates(["model", "benchmark"]).assign(ece_pts=1.0)
    pairs = list(itertools.product(range(50), range(30)))
    overlap = pd.DataFrame(pairs, columns=["source", "benchmark"]).astype(str)
    overlap = overlap.assign(items=100, any=range(len(overlap)))
    gains = pd.DataFrame({"benchmark": range(200), "kind": "all", "n": 9, "gained": 2, "lost": 1})
    gains = gains.assign(p=0.5, benchmark=gains["benchmark"].map("exam-{}".format))
    said = {
        figures.accuracy(found[found["protocol"] == "a"], BESIDE): "10 of 50 models and 8 of 30",
        figures.protocols(found): "10 of 50 models and 12 of 30 benchmarks",
        panels.reliability(tenths, errors): "6 of 49 models and 12 of 30 benchmarks",
        figures.contamination(overlap): "shown are 40 by 24 of 50 by 30, those with most",
        figures.flips(gains): "shown are the first 40 of 200 rows",
    }
    for fig, words in said.items():
        assert words in drawing.title_of(fig)
        assert fig.get_figheight() < 22, "inches: it can be looked at"
        fig.draw_without_rendering()  # finds room for everything, or warns
    assert len(said) == 5


def test_the_studys_own_models_are_shown_first_then_the_best():
    found = wide(50, 30)
    shown, _ = panels.fit(found.assign(panel=""), "panel", "benchmark")
    means = found.groupby("model")["acc_pct"].mean()
    others = means.drop(["base", "base-nf4", "tuned"]).nlargest(7).index
    assert set(shown["model"]) == {"base", "base-nf4", "tuned", *others}
    assert len(set(drawing.looks(shown["model"]).values())) == 10, "each has a look of its own"
    few = wide(5, 6)
    assert panels.fit(few.assign(panel=""), "panel", "benchmark")[1] == ""


def test_more_than_three_models_of_confidence_do_not_share_a_panel():
    drawing.style()
    models = ["base-nf4", "tuned", "one", "two"]
    rows = [
        {"model": model, "benchmark": name, "bin": 5, "n": 20, "acc_pct": 50.0, "ece_pts": place}
        for place, model in enumerate(models)
        for name in ("medqa_4", "pubmedqa")
    ]
    bins = pd.DataFrame(rows).assign(confidence_pct=55.0, low_pct=20.0, high_pct=70.0)
    few = bins[bins["model"].isin(models[:3])]
    shown = {True: panels.reliability(bins, bins), False: panels.reliability(few, few)}
    drawn = {many: [ax for ax in fig.axes if ax.get_visible()] for many, fig in shown.items()}
    assert [len(axes) for axes in drawn.values()] == [2 * 4, 2]
    for many, axes in drawn.items():
        assert {len(ax.get_legend_handles_labels()[1]) for ax in axes} == {1 if many else 3}
    drawn_ends = drawn[False][0].collections[0].get_segments()[0][:, 1]
    assert drawn_ends.tolist() == [20, 70], "the table's interval, which allows for clusters"
    assert "errors of 0 (base (NF4) on MedQA) to 3 (two on MedQA) points" in title(shown[True])
