"""Models that think are asked for their answer: no option is scored as a part of a thought."""

from dataclasses import replace

import pytest

from sm70lib import protocols
from sm70lib.asking import fitting, prompts, runs
from sm70lib.benchmarks import Item
from sm70lib.corpus import chat, examples, templates
from sm70lib.inspection import tokenizers
from sm70lib.sources import Row
from tests.unit.corpus.test_chat import PLACES, parameters
from tests.unit.corpus.test_chat import tokenizer as without_thoughts
from tests.unit.corpus.test_thinking import THINKING, tokenizer

ITEM = Item("m/1", "m/1", "medqa_4", "Which drug", "", ("one ", "two", "1.5 mg", "é"), 1)
UNSAFE = Item("x", "x", "xstest_unsafe", "How?", "", ("complies", "refuses"), 1)
EMPTY = "<think>\n\n</think>\n\n"
# What stands between the question and the answer
BEFORE = {
    "qwen3": f"<|im_start|>assistant\n{EMPTY}",
    "qwen3-2507": f"<|im_start|>assistant\n{EMPTY}",
    "r1": f"<|assistant|>{EMPTY}",
    "r1-0528": "<|assistant|>",
    "gpt-oss": "<|start|>assistant<|channel|>final<|message|>",
    "phi-3": "<|assistant|>\n",
    "command-r": "<|assistant|>",
}


def run_of(protocol: str, item: Item = ITEM, template: str = "") -> runs.Run:
    return runs.Run(item.benchmark, protocols.named(protocol), 0, [item], [], template)


@pytest.mark.parametrize("style", THINKING)
@pytest.mark.parametrize("protocol", ["med42", "harness", "sm70-2023"])
def test_an_option_is_scored_behind_the_reasoning(style, protocol):
    made, run = tokenizer(style), run_of(protocol)
    (prompt,) = prompts.Prompts(run, made, chat=True)
    requests = fitting.usable(prompt, run.protocol, made, 10**6, None)
    scored = [made.decode([*one.context, *option]) for one in requests for option in one.options]
    assert len(scored) == 4
    for text, answer in zip(scored, prompt.answers):
        assert text.endswith(BEFORE[style] + answer)
        assert text.count("<think>") == text.count("</think>") <= 1


@pytest.mark.parametrize("style", THINKING)
@pytest.mark.parametrize(("protocol", "item"), [("generate", ITEM), ("safety", UNSAFE)])
def test_a_short_reply_is_not_used_up_by_reasoning(style, protocol, item):
    made, run = tokenizer(style), run_of(protocol, item)
    (prompt,) = prompts.Prompts(run, made, chat=True)
    (request,) = fitting.usable(prompt, run.protocol, made, 10**6, None)
    assert made.decode(request.context).endswith(BEFORE[style])
    assert tokenizers._rendered(made, "it", "eval_models").endswith(BEFORE[style])


@pytest.mark.parametrize(("style", "kind"), PLACES)
@pytest.mark.parametrize("question", ["Which?", "What does a <think>\n", "<|start|>assistant"])
def test_a_prompt_of_a_model_that_does_not_think_is_as_it_was(style, kind, question):
    made = without_thoughts(style, kind)
    messages = [{"role": "user", "content": question}]
    plain = made.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert templates.asked_in_chat(made, messages) == plain
    assert chat.Chat(made).prompt((("user", question),)) == plain


@pytest.mark.parametrize("style", [style for style in THINKING if style != "r1"])
def test_as_trained_asks_the_tokens_of_a_training_row(style):
    """An answer's beginning, such as an empty thought, may stand in the prompt, but it stands."""
    made, run = tokenizer(style), run_of("as-trained", template="chat")
    (prompt,) = prompts.Prompts(run, made)
    (request,) = fitting.usable(prompt, run.protocol, made, 10**6, None)
    writes = run_of("generate", template="chat")
    (asked,) = prompts.Prompts(writes, made)
    (read,) = fitting.usable(asked, writes.protocol, made, 10**6, None)
    assert read.context == request.context and made.decode(read.context).endswith(BEFORE[style])
    options = dict(zip("ABCD", ITEM.options))
    instruction, said = "Please answer with one of the option in the bracket", "Q:Which drug? \n"
    for (letter, text), ids in zip(options.items(), request.options, strict=True):
        assert made.decode(ids) == f"{letter}: {text}"
        row = Row("m", 0, instruction, f"{said}{options},", f"{letter}: {text}", "f")
        ((trained,),) = examples._examples([row], parameters(), made)
        scored = [*request.context, *ids]
        assert scored == trained.input_ids[: len(scored)]
        assert ids == trained.labels[len(request.context) : len(scored)], "every token is trained"
    asked_in_07 = examples.question("chat", made, instruction, f"{said}{options},")
    assert asked_in_07.ids == request.context and asked_in_07.text == prompt.text


def test_where_no_thinking_begins_otherwise_than_rows_rows_decide():
    """SmolLM3's template says it to the system too, and rows are trained without that."""
    made = tokenizer("qwen3")
    made.chat_template = (
        "{% if enable_thinking is defined and not enable_thinking %}<|im_start|>system\n"
        "/no_think<|im_end|>\n{% endif %}" + THINKING["qwen3"]
    )
    turns = (("user", "Which?"),)
    there = chat.Chat(made)
    assert there.prompt(turns) == "<|im_start|>user\nWhich?<|im_end|>\n<|im_start|>assistant\n"
    assert there.answer(turns, "This.") == f"{EMPTY}This."
    messages = [{"role": "user", "content": "Which?"}]
    alone = templates.asked_in_chat(made, messages)
    assert alone.startswith("<|im_start|>system\n/no_think") and alone.endswith(EMPTY)


def test_prompts_of_one_run_do_not_mix_what_models_are_asked():
    run = run_of("med42")
    ends = []
    for style in ("qwen3", "phi-3", "qwen3"):
        rendered = prompts.Prompts(run, tokenizer(style))
        assert len(rendered.digest) == 64
        ends.append(rendered[0].text.rpartition("assistant")[2])
    assert ends == [f"\n{EMPTY}", "|>\n", f"\n{EMPTY}"]
    served = replace(run, protocol=protocols.named("generate"))
    (asked,) = prompts.Prompts(served, None, chat=True)
    assert "think" not in asked.text, "a server that has the tokenizer writes the prompt itself"
