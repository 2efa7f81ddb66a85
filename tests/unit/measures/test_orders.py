"""The order probes: other orders of the same options, and how often the chosen text changes."""

import pandas as pd
import pytest

from sm70lib import benchmarks, protocols
from sm70lib.asking.prompts import Prompts
from sm70lib.asking.runs import Run
from sm70lib.benchmarks import Item
from sm70lib.measures import orders
from sm70lib.protocols.order import LISTED, SEEDS, may_be_reordered, reordered
from sm70lib.statistics import stats

OPTIONS = ("aspirin", "heparin", "ibuprofen", "warfarin")


def item(number: int, options=OPTIONS, answer: int = 1) -> Item:
    return Item(f"m/{number}", f"m/{number}", "medqa_4", f"Case {number}?", "", options, answer)


def answers(choose, count: int = 40) -> pd.DataFrame:
    """What a model answers that chooses a position by the options that it is shown."""
    rows = []
    for number in range(count):
        for seed in SEEDS:
            asked = reordered(item(number), seed)
            choice = choose(asked, number, seed)
            row = {"study": "s", "model": "m", "benchmark": "medqa_4", "protocol": "order"}
            row |= {"shots": 0, "item_id": asked.id, "cluster": asked.cluster, "seed": seed}
            rows.append(row | {"item": asked, "choice": choice, "correct": choice == asked.answer})
    return pd.DataFrame(rows)


def test_another_order_keeps_the_options_and_follows_the_right_one():
    for number in range(50):
        plain = item(number)
        assert reordered(plain, 0) == plain
        for seed in SEEDS[1:]:
            asked = reordered(plain, seed)
            assert asked.options != OPTIONS and sorted(asked.options) == sorted(OPTIONS)
            assert asked.options[asked.answer] == "heparin" and asked == reordered(plain, seed)
    orders_of_one = {reordered(item(number), 1).options for number in range(200)}
    assert len(orders_of_one) == 23, "all orders but that of the file"


def test_options_that_speak_of_others_by_their_place_stay_out():
    for option in ("All of the above", "None of these", "Both A and C", "A, B and D", "(a) or (c)"):
        assert not may_be_reordered(item(1, (*OPTIONS[:3], option))), option
    for option in ("Vitamins A and D", "Above the knee", "Hepatitis B", "None", "A and E waves"):
        assert may_be_reordered(item(1, (*OPTIONS[:3], option))), option


def test_the_probe_asks_as_the_harness_does_and_in_every_order():
    probe, harness = (protocols.named(name) for name in ("order", "harness"))
    assert probe.prompt(item(1)) == harness.prompt(item(1))
    assert probe.answers(item(1)) == harness.answers(item(1))
    run = Run("medqa_4", probe, 0, [item(1), item(2)], [])
    texts = [prompt.text for prompt in Prompts(run, None)]
    assert len(texts) == 2 * len(SEEDS) == len(set(texts))
    written = protocols.named("order-generate")
    assert written.reads and written.samples == 1
    assert set(probe.layouts) == set(written.layouts) == set(LISTED)
    assert not probe.covers("pubmedqa", 0), "its verdicts are not listed"
    assert not probe.covers("medqa_4", 3)


def test_a_model_that_reads_the_texts_is_not_moved_and_one_that_takes_a_letter_is():
    how = stats.How()
    [reads] = orders.table(answers(lambda asked, *_: asked.options.index("heparin")), how).iloc
    assert (reads.n, reads.orders, reads.moved_pct, reads.unread) == (40, 3, 0.0, 0)
    assert reads.low_pct == 0.0 < reads.high_pct < 15, "no change in 40 items proves no zero"
    [letter] = orders.table(answers(lambda *_: 0), how).iloc
    stays = sum(
        reordered(item(n), seed).options[0] == "aspirin" for n in range(40) for seed in (1, 2, 3)
    )
    assert letter.moved_pct == pytest.approx(100 * (1 - stays / 120), abs=0.05)
    assert letter.low_pct < letter.moved_pct < letter.high_pct
    assert letter.acc_file_pct == 0.0 == letter.acc_least_pct < letter.acc_most_pct


def test_unread_replies_are_counted_and_never_a_change():
    def some(asked, number, seed):
        return None if number % 4 == 0 and seed == 2 else asked.options.index("warfarin")

    [row] = orders.table(answers(some), stats.How()).iloc
    assert (row.n, row.moved_pct, row.unread) == (40, 0.0, 10)
    [none] = orders.table(answers(lambda *_: None), stats.How()).iloc
    assert "no score" in none.interval and pd.isna(none.moved_pct)


def test_real_items_are_asked_in_other_orders(shared_data):
    for name in ("medqa_4", "medmcqa", "mmlu_medical"):
        items = benchmarks.read(name, shared_data)
        kept = [each for each in items if may_be_reordered(each)]
        assert 0.9 < len(kept) / len(items) <= 1, name
        print(f"{name}: {len(kept)} of {len(items)}")
