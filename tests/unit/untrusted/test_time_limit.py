"""Templates and patterns of others end, whatever they say."""

import signal
import threading
import time

import pytest

from sm70lib.asking.prompts import _as_chat
from sm70lib.corpus import chat, templates
from sm70lib.inspection import tokenizers
from sm70lib.models import writing
from sm70lib.study.params import StudyError
from sm70lib.untrusted import time_limit

NUMBERS = "range(99999)"
ENDLESS = (
    f"{{% for a in {NUMBERS} %}}{{% for b in {NUMBERS} %}}{{% if b < 0 %}}x{{% endif %}}"
    "{% endfor %}{% endfor %}"
)
QUESTION = [{"role": "user", "content": "Which?"}]


@pytest.fixture
def endless(tokenizer, monkeypatch):
    monkeypatch.setattr(tokenizer, "chat_template", ENDLESS, raising=False)
    monkeypatch.setattr(templates, "SECONDS", 0.1)
    return tokenizer


def test_an_endless_chat_template_is_stopped_wherever_it_is_used(endless):
    for use in (
        lambda: templates.in_chat(endless, QUESTION),
        lambda: chat.Chat(endless),
        lambda: _as_chat(endless, QUESTION, "Which?"),
        lambda: writing._end_of_turn(endless),
        lambda: tokenizers._rendered(endless, "model", "base_model"),
    ):
        with pytest.raises(StudyError, match="the chat template of .* was stopped after"):
            use()


def test_a_limit_leaves_everything_as_it_was():
    before = signal.getsignal(signal.SIGPROF)
    with time_limit.time_limit(60):
        assert signal.getitimer(signal.ITIMER_PROF)[0] > 50
    with pytest.raises(TimeoutError), time_limit.time_limit(0.05):
        while True:
            pass
    assert signal.getsignal(signal.SIGPROF) == before
    assert signal.getitimer(signal.ITIMER_PROF)[0] == 0


def test_another_thread_may_use_a_template_too():
    done = []

    def work():
        with time_limit.time_limit(60):
            done.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == [True]


@pytest.mark.parametrize("pattern", [r"(\w+\.?)+!", r"(\w+|\.)*!"])
def test_a_pattern_that_takes_for_ever_is_refused(pattern):
    begun = time.process_time()
    with pytest.raises(ValueError, match="take out repeats inside of repeats"):
        time_limit.matches(pattern, "model.layers.31.block_sparse_moe.experts.7.w1")
    assert time.process_time() - begun < 1


def test_patterns_of_layers_are_read_as_python_reads_them():
    assert time_limit.matches(r".*\.(q|v)_proj", "model.layers.0.self_attn.q_proj")
    assert not time_limit.matches(r"(q|v)_proj", "model.layers.0.self_attn.q_proj")
