"""A model behind a server: the same scores as on this machine, and errors in one sentence."""

import json
import shutil
from functools import partial

import pytest

from sm70lib.asking import prompts
from sm70lib.evaluation import batches, candidates, one_run, scoring
from sm70lib.models import loading
from sm70lib.models.backend import Local
from sm70lib.serving import connection
from sm70lib.serving.served import FLOOR, Served
from sm70lib.sizes import known
from sm70lib.standins import stand_ins
from sm70lib.standins.server import ModelServer, _Handler
from sm70lib.study.others import Server
from sm70lib.study.params import StudyError
from tests import small
from tests.asked import adding_bos, kept, run_of, study_with_items

KEY = "sk-secret-of-a-test"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("served")
    small.base(folder)
    return folder / "base/model"


@pytest.fixture(scope="module")
def local(folder):
    return Local(loading.load(folder).float(), loading.load_tokenizer(folder))


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(connection, "RETRIES", 0)


def scored(backend, run, path) -> list[float]:
    one_run.evaluate(backend, run, path, model_digest="m")
    found = kept(path)
    return [value for item in run.items for value in found[item.id]["loglikelihoods"]]


@pytest.mark.parametrize("protocol", ["sm70-2023", "harness", "meditron"])
def test_options_score_as_on_this_machine(folder, local, tmp_path, protocol):
    run = run_of(6, protocol)
    with ModelServer({"large": folder}) as there:
        served = Served("large", Server(there.url, "large"), local.tokenizer)
        ours = scored(served, run, tmp_path / "served.jsonl")
    theirs = scored(local, run, tmp_path / "local.jsonl")
    assert len(ours) == 24 and ours == pytest.approx(theirs, abs=1e-4)
    about = json.loads((tmp_path / "served.meta.json").read_text())
    assert about["way"] == "large on sm70 stand-in 1"


def test_texts_are_those_that_the_model_writes_on_this_machine(tmp_path):
    """A stand-in, which writes readable replies."""
    run, folder = run_of(6, "generate"), tmp_path / "model"
    texts = [item.question for item in run.items] * 20
    stand_ins.write(known.MODELS["meta-llama/Llama-2-7b-hf"], texts, folder)
    model = Local(loading.load(folder).float(), loading.load_tokenizer(folder))
    with ModelServer({"large": folder}) as there:
        served = Served("large", Server(there.url, "large"), model.tokenizer)
        for name, backend in (("served", served), ("local", model)):
            one_run.evaluate(backend, run, tmp_path / f"{name}.jsonl", model_digest="m")
    ours, theirs = (kept(tmp_path / f"{name}.jsonl") for name in ("served", "local"))
    assert ours == theirs and len(ours) == 6
    assert any(line["parsed"][0] for line in ours.values())


def test_without_its_tokenizer_a_model_gets_messages(folder, tmp_path):
    run = run_of(3, "generate")
    with ModelServer({"hosted": folder}) as there:
        served = Served("gpt", Server(there.url, "hosted"))
        one_run.evaluate(served, run, tmp_path / "g.jsonl", model_digest="m", chat=True)
    sent = [body["messages"] for path, body in there.asked if "chat" in path]
    assert sent[0] == [{"role": "user", "content": "Hello"}]  # finds out what the server can do
    asked = [message["content"] for (message,) in sent[1:]]
    assert (
        sorted(text.count(item.question) for text in asked for item in run.items)
        == [0] * 6 + [1] * 3
    )
    replies = [body for path, body in there.asked if "chat" in path][1:]
    assert {(body["temperature"], body["max_tokens"]) for body in replies} == {(0.0, 48)}


def test_a_server_without_logprobs_is_refused_where_options_are_scored(folder, local):
    with ModelServer({"m": folder}, scores=False) as there:
        served = Served("m", Server(there.url, "m"), local.tokenizer)
        served.require_scores([])
        with pytest.raises(StudyError, match="gives no log-probabilities.*harness need"):
            served.require_scores(["harness"])


def test_another_tokenizer_than_the_servers_is_found_out(folder, local, tmp_path):
    with ModelServer({"m": folder}) as there:
        served = Served("m", Server(there.url, "m"), adding_bos(local.tokenizer))
        with pytest.raises(StudyError, match="splits a text into other tokens"):
            served.require_scores(["harness"])


def test_a_model_that_the_server_does_not_have_is_named_with_those_it_has(folder):
    with ModelServer({"large": folder}) as there:
        served = Served("m", Server(there.url, "lrage"))
        with pytest.raises(StudyError, match="has no model lrage; its models are large"):
            served.require_scores(["harness"])


def test_a_server_that_is_not_there_is_one_sentence(quick):
    served = Served("m", Server("http://127.0.0.1:9/v1", "m"))
    with pytest.raises(StudyError, match="eval_models: m: the server at .* does not answer"):
        served.require_scores(["harness"])
    with pytest.raises(StudyError, match="does not answer"):
        Served("m", Server("http://127.0.0.1:9/v1", "m")).require_scores([])


def test_a_server_is_not_asked_without_the_key_that_its_line_names(folder, monkeypatch):
    monkeypatch.delenv("MY_KEY", raising=False)
    with ModelServer({"m": folder}) as there:
        served = Served("m", Server(there.url, "m", key="MY_KEY", keyed=True))
        with pytest.raises(StudyError, match="eval_models: m: key=MY_KEY names an .* not set here"):
            served.require_scores([])
    assert not there.asked


def test_a_key_comes_from_the_environment_and_stays_there(folder, quick, monkeypatch, capsys):
    monkeypatch.setenv("MY_KEY", KEY)
    with ModelServer({"m": folder}) as there:
        refuse = (401, {"error": {"message": f"wrong key {KEY}"}})
        there.server.RequestHandlerClass = partial(_Handler, lambda *_: refuse)
        served = Served("m", Server(there.url, "m", key="MY_KEY"))
        with pytest.raises(StudyError, match=r"answered 401.*wrong key \.\.\..*MY_KEY") as told:
            served.require_scores(["harness"])
    assert KEY not in str(told.value) and KEY not in capsys.readouterr().out


def test_a_server_without_a_key_is_quoted_as_it_said(folder, quick, monkeypatch):
    """The client is given the key "none" then, and words that hold it were cut."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with ModelServer({"m": folder}) as there:
        refuse = (404, {"error": {"message": "nonexistent model"}})
        there.server.RequestHandlerClass = partial(_Handler, lambda *_: refuse)
        with pytest.raises(StudyError, match="answered 404: .*nonexistent model"):
            Served("m", Server(there.url, "m")).require_scores(["harness"])


@pytest.mark.parametrize("value", [FLOOR, float("nan"), None])
def test_what_is_no_log_probability_is_refused(folder, local, value, monkeypatch, tmp_path):
    def spoiled(self, prompt):
        entry = {"logprob": value} if value is not None else {}
        return [None, *({str(token): entry} for token in prompt[1:])]

    with ModelServer({"m": folder}) as there:
        served = Served("m", Server(there.url, "m"), local.tokenizer)
        served.require_scores(["harness"])
        monkeypatch.setattr(connection.Connection, "prompt_logprobs", spoiled)
        with pytest.raises(StudyError, match="minus infinity|left out log-probabilities"):
            scored(served, run_of(2, "harness"), tmp_path / "p.jsonl")


def test_a_study_with_served_models_is_finished_without_its_server(folder, tmp_path, capsys):
    """04 of a study with its own base, the base behind a server, and a hosted model."""
    study, p = study_with_items(tmp_path)
    p.eval_protocols, p.eval_limit = ["sm70-2023", "generate"], 8
    (study / "adapter").mkdir()
    with ModelServer({"large": folder}) as there:
        p.eval_models = {
            "served": f"served={there.url} model=large tokenizer={folder}",
            "hosted": f"served={there.url} model=large",
        }
        asked = scoring.runs(p, study / "data/benchmarks")
        models = [model for model in scoring.models(p, study) if model.server]
        for which in models:
            scoring.require_server(which, asked, study)
            scoring.score_model(which, p, scoring.askable(which, asked), study)
    names = {path.parent.name: path.name for path in study.glob("predictions/*/*.jsonl")}
    assert "hosted is not asked under sm70-2023" in capsys.readouterr().out
    assert names.keys() == {"served", "hosted"}
    assert len(list(study.glob("predictions/served/*.jsonl"))) == 2
    assert len(list(study.glob("predictions/hosted/*.jsonl"))) == 1
    again = json.loads((study / "predictions/served" / scoring.predictions.RESCORED).read_text())
    assert again["items"] >= 1 and again["flips"] == 0 and "by a server" in again["scored"]
    for which in models:  # the server is gone, and nobody asks it
        scoring.require_server(which, asked, study)
        scoring.score_model(which, p, scoring.askable(which, asked), study)


def test_a_run_that_was_killed_goes_on_with_what_is_left(folder, local, tmp_path):
    run = run_of(9, "harness")
    with ModelServer({"m": folder}) as there:
        served = Served("m", Server(there.url, "m"), local.tokenizer)
        whole = scored(served, run, tmp_path / "whole.jsonl")
        lines = (tmp_path / "whole.jsonl").read_text().splitlines(True)
        broken = tmp_path / "broken.jsonl"
        broken.write_text("".join(lines[:4]) + lines[4][:20])
        (tmp_path / "broken.meta.json").write_text((tmp_path / "whole.meta.json").read_text())
        before = len(there.asked)
        assert scored(served, run, broken) == whole
    assert len(there.asked) - before <= 9 * 4
    assert len(broken.read_text().splitlines()) == 9


def test_another_version_of_the_server_does_not_go_on(folder, local, tmp_path, monkeypatch):
    run = run_of(4, "harness")
    path = tmp_path / "p.jsonl"
    with ModelServer({"m": folder}) as there:
        scored(Served("m", Server(there.url, "m"), local.tokenizer), run, path)
        path.write_text("".join(path.read_text().splitlines(True)[:2]))
        monkeypatch.setattr("sm70lib.standins.server.VERSION", "stand-in 2")
        later = Served("m", Server(there.url, "m"), local.tokenizer)
        with pytest.raises(StudyError, match="begun m on sm70 stand-in 1.*continued m on sm70"):
            scored(later, run, path)


def test_a_kill_costs_a_hosted_model_few_replies(folder):
    """One batch is lost at most; here as many requests as three rounds of all connections."""
    run = run_of(400, "generate")
    tokens = Server.at_once * scoring.PER_REQUEST
    rendered = prompts.Prompts(run, None, chat=True)
    sizes = [len(batch.asked) for batch in batches.batched(rendered, None, 4096, tokens, {})]
    assert sum(sizes) == 400 and max(sizes) <= 12 * Server.at_once and min(sizes[:-1]) > 16


def test_the_identity_of_a_served_model_does_not_depend_on_where_its_tokenizer_lies(
    folder, tmp_path
):
    shutil.copytree(folder, tmp_path / "copy")
    lines = [f"served=http://a/v1 model=m tokenizer={each}" for each in (folder, tmp_path / "copy")]
    same = {candidates.described("m", line).identity() for line in lines}
    other = candidates.described("m", "served=http://b/v1 model=m tokenizer=someone/else")
    assert len(same) == 1 and other.identity() not in same
