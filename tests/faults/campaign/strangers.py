"""Models, adapters, checkpoints and templates of strangers that try to run code."""

from __future__ import annotations

import json
import pickle
import random
import shutil
from collections.abc import Callable
from pathlib import Path

from transformers import AutoTokenizer

from sm70lib.corpus import templates
from sm70lib.evaluation import candidates
from sm70lib.inspection import look
from sm70lib.models import loading
from sm70lib.steps.steps import digest
from sm70lib.training import checkpoints
from tests import asked, small
from tests.faults.campaign import kills_trainer
from tests.faults.campaign.places import Place
from tests.faults.campaign.processes import Forked
from tests.faults.campaign.trials import (
    SENTENCE,
    SURVIVED,
    TRACEBACK,
    Trial,
    is_sentence,
    last_words,
)


class Bomb:
    """An object that touches a file when it is unpickled."""

    def __init__(self, canary: Path):
        self.canary = canary

    def __reduce__(self):
        return Path.touch, (self.canary,)


def _pickled(canary: Path) -> bytes:
    return pickle.dumps({"a": Bomb(canary)})


def _code(canary: Path) -> str:
    return (
        "from pathlib import Path\n"
        f"Path({str(canary)!r}).touch()\n"
        "from transformers import LlamaForCausalLM as Own, LlamaConfig as OwnConfig\n"
        "from transformers import PreTrainedTokenizerFast as OwnTokenizer\n"
    )


def _add(path: Path, **values: object) -> None:
    about = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(about | values))


# ---- what a stranger's folder may hold -----------------------------------------------------------


def code_of_a_model(folder: Path, canary: Path) -> str:
    """A model whose configuration names Python files of its own."""
    (folder / "model/own.py").write_text(_code(canary))
    classes = {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.Own"}
    _add(folder / "model/config.json", auto_map=classes, model_type="own")
    return str(folder / "model")


def code_of_a_known_family(folder: Path, canary: Path) -> str:
    """The same under the name of a family that transformers has."""
    (folder / "model/own.py").write_text(_code(canary))
    _add(folder / "model/config.json", auto_map={"AutoModelForCausalLM": "own.Own"})
    return str(folder / "model")


def code_of_a_tokenizer(folder: Path, canary: Path) -> str:
    """A tokenizer whose configuration names Python files of its own."""
    (folder / "model/own.py").write_text(_code(canary))
    classes = {"AutoTokenizer": [None, "own.OwnTokenizer"]}
    _add(folder / "model/tokenizer_config.json", auto_map=classes, tokenizer_class="OwnTokenizer")
    return str(folder / "model")


def pickled_model(folder: Path, canary: Path) -> str:
    """A model whose weights are a pickle."""
    for file in (folder / "model").glob("*.safetensors"):
        file.unlink()
    (folder / "model/pytorch_model.bin").write_bytes(_pickled(canary))
    return str(folder / "model")


def pickled_adapter(folder: Path, canary: Path) -> str:
    """An adapter whose weights are a pickle."""
    (folder / "adapter/adapter_model.safetensors").unlink()
    (folder / "adapter/adapter_model.bin").write_bytes(_pickled(canary))
    return f"{folder / 'model'} adapter={folder / 'adapter'}"


def pickled_beside_an_adapter(folder: Path, canary: Path) -> str:
    """A pickle beside an adapter's safetensors."""
    (folder / "adapter/adapter_model.bin").write_bytes(_pickled(canary))
    return f"{folder / 'model'} adapter={folder / 'adapter'}"


def template_that_reaches_out(folder: Path, canary: Path) -> str:
    """A chat template that looks for a way out of its sandbox."""
    text = (
        "{{ cycler.__init__.__globals__.os.system('touch CANARY') }}"
        "{{ messages.__class__.__mro__[1].__subclasses__() }}"
    )
    _set_template(folder, text.replace("CANARY", str(canary)))
    return f"{folder / 'model'} chat=yes"


def template_without_an_end(folder: Path, canary: Path) -> str:
    """A chat template that does not end."""
    _set_template(
        folder, "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
    )
    return f"{folder / 'model'} chat=yes"


def _set_template(folder: Path, text: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder / "model", trust_remote_code=False)
    tokenizer.chat_template = text
    tokenizer.save_pretrained(folder / "model")


FOLDERS: tuple[Callable[[Path, Path], str], ...] = (
    *(code_of_a_model, code_of_a_known_family, code_of_a_tokenizer, pickled_model),
    *(pickled_adapter, pickled_beside_an_adapter, template_that_reaches_out),
    template_without_an_end,
)


def _make(folder: Path) -> None:
    ended = Forked(_base_and_adapter, folder, log=folder / "0.txt").end()
    assert ended.code == 0, ended.said


def _base_and_adapter(folder: Path) -> None:
    small.base(folder)
    shutil.copytree(folder / "base/model", folder / "model")
    small.with_adapter(loading.load(folder / "model")).save_pretrained(folder / "adapter")


def _scored(folder: Path, line: str) -> None:
    """Looks at a stranger's model, and loads it with tokenizer and adapter, as 04 does."""
    _, p = asked.study_with_items(folder / "study")
    p.eval_models = {"other": line}
    model = candidates.other("other", line)
    print(look.look(model, p))
    tokenizer = loading.load_tokenizer(model.words)
    if model.chat:
        templates.in_chat(tokenizer, [{"role": "user", "content": "Who?"}])
    loading.load(model.source, p if model.quantised else None, model.adapter)


def folders(draw: random.Random, place: Place) -> Trial:
    """Scores a model of a stranger."""
    kept = place.kept("strangers", _make)
    shutil.copytree(kept, place.folder / "theirs")
    attack = draw.choice(FOLDERS)
    line = attack(place.folder / "theirs", place.canary)
    log = place.folder / "log.txt"
    ended = Forked(_scored, place.folder, line, log=log).end(120)
    note = f"{attack.__name__}: {last_words(ended)}"[:300]
    if is_sentence(ended):
        return Trial(SENTENCE, ended.seconds, note=note)
    return Trial(SURVIVED if ended.code == 0 else TRACEBACK, ended.seconds, note=note)


CHECKPOINT = ("optimizer.pt", "rng_state.pth", "scheduler.pt", "training_args.bin")


def checkpoint(draw: random.Random, place: Place) -> Trial:
    """Puts a pickle into a checkpoint and seals it anew, as one could who shares a study."""

    def make(folder: Path) -> None:
        ended = Forked(_trained, folder, log=folder / "0.txt").end()
        assert ended.code == 0, ended.said

    kept = place.kept("a checkpoint", make)
    study = place.folder / "study"
    shutil.copytree(kept, study)
    stage = study / "stages/1-sft"
    for name in ("done.json", "adapter"):
        path = stage / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    newest, last = checkpoints.checkpoints_of(stage)
    shutil.rmtree(newest)  # so that there are steps left
    name = draw.choice(CHECKPOINT)
    (last / name).write_bytes(_pickled(place.canary))
    sealed = {path.name: digest(path) for path in last.iterdir() if path.name != checkpoints.SEAL}
    (last / checkpoints.SEAL).write_text(json.dumps(sealed))
    log = place.folder / "log.txt"
    ended = Forked(kills_trainer.train_as_notebook, study, kills_trainer.ADAPTER, log=log).end()
    note = f"{name}: {last_words(ended)}"[:300]
    if is_sentence(ended):
        return Trial(SENTENCE, ended.seconds, note=note)
    return Trial(SURVIVED if ended.code == 0 else TRACEBACK, ended.seconds, note=note)


def _trained(folder: Path) -> None:
    from tests import tuning

    tuning.study(folder, **kills_trainer.ADAPTER)
    kills_trainer.train_here(folder, kills_trainer.ADAPTER, "sft")
