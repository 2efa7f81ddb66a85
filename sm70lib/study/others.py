"""The lines of `eval_models`: other models that a study scores, on this machine or by a server.

llama-2-70b: meta-llama/Llama-2-70b-hf quant=nf4
mine:        ../models/mine adapter=../adapters/mine chat=yes
large:       served=http://node7:8000/v1 model=large tokenizer=meta-llama/Llama-2-70b-hf
gpt:         served=https://api.openai.com/v1 model=gpt-4o
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sm70lib.study.params import StudyError

SERVED = "served="
MOST_AT_ONCE = 512  # requests
OF_WEIGHTS = ("quant", "adapter", "chat")  # what a line of a folder or hub name may add
OF_A_SERVER = ("served", "model", "tokenizer", "chat", "key", "at_once")
CHOICES = {"quant": ("nf4", "none"), "chat": ("yes", "no")}
HELP = (
    "allowed are FOLDER_OR_HUB_NAME [quant=nf4] [adapter=FOLDER] [chat=yes], and served=URL "
    "model=NAME [tokenizer=FOLDER_OR_HUB_NAME] [chat=yes] [key=ENVIRONMENT_VARIABLE] [at_once=16]"
)


@dataclass(frozen=True)
class Server:
    """An OpenAI-compatible server, and one of its models.

    Attributes:
        url: its address, which mostly ends in /v1.
        model: the model's name there.
        key: the environment variable that holds the API key; a server may need none.
        at_once: requests that are sent at the same time.
        keyed: whether the line names that variable, which has to be set then.
    """

    url: str
    model: str
    key: str = "OPENAI_API_KEY"
    at_once: int = 16
    keyed: bool = False


@dataclass(frozen=True)
class Other:
    """One entry of `eval_models`.

    Attributes:
        source: folder or hub name of the weights; for a server's model, that of its tokenizer, or
            "" if only the server has it.
        quantised: whether it is loaded in NF4.
        adapter: the folder of its adapter, or None.
        chat: whether it is asked in its chat template.
        server: who runs it; None for this machine.
    """

    source: str
    quantised: bool = False
    adapter: str | None = None
    chat: bool = False
    server: Server | None = None

    @property
    def known_as(self) -> str:
        """The name that the world has for the model: the server's, or that of the weights."""
        return self.server.model if self.server else self.source


def read(name: str, line: str) -> Other:
    """Reads one entry of `eval_models`.

    Args:
        name: the model's name in the study.
        line: what the entry says.

    Raises:
        StudyError: the line is not understood.
    """
    first, *words = line.split() or [""]
    if not first:
        raise StudyError(f"eval_models: {name}: {line.strip()!r} is not understood; {HELP}")
    if first.startswith(SERVED):
        return _served(name, _given(name, [first, *words], OF_A_SERVER))
    given = _given(name, words, OF_WEIGHTS)
    quantised = given.get("quant") == "nf4"
    return Other(first, quantised, given.get("adapter"), given.get("chat") == "yes")


def all_of(p) -> dict[str, Other]:
    """The entries of a study's `eval_models`, by name.

    Raises:
        StudyError: a line is not understood.
    """
    return {name: read(name, line) for name, line in p.eval_models.items()}


def downloads(p) -> Iterator[tuple[str, str]]:
    """What a study loads from the hub or a folder, and the parameter that names it.

    Yields:
        Name of the model, or of a served model's tokenizer, and e.g. `base_model`.
    """
    if p.base_model:
        yield p.base_model, "base_model"
    for name, other in all_of(p).items():
        if other.source:
            yield other.source, f"eval_models, {name}"


def _given(name: str, words: list[str], keys: tuple[str, ...]) -> dict[str, str]:
    """The words `key=value` of a line; refuses other keys and values."""
    given = {}
    for word in words:
        key, _, value = word.partition("=")
        if key not in keys or not value or value not in CHOICES.get(key, (value,)):
            raise StudyError(f"eval_models: {name}: {word} is not understood; {HELP}")
        given[key] = value
    return given


def _served(name: str, given: dict[str, str]) -> Other:
    server = server_in(given, f"eval_models: {name}")
    source = given.get("tokenizer", "")
    # Without its tokenizer a model can only be asked in messages, which the server turns into text.
    chat = not source or given.get("chat") == "yes"
    return Other(source, chat=chat, server=server)


def server_in(given: dict[str, str], where: str) -> Server:
    """The server that the words of a line name.

    Args:
        given: The line's words `key=value`, among them `served`.
        where: Parameter and name of the line; an error begins with them.

    Raises:
        StudyError: The address is none, the model's name is missing, `at_once` is out of range, or
            `key` is not the name of a variable.
    """
    if not given["served"].startswith(("http://", "https://")):
        raise StudyError(
            f"{where}: {given['served']} is not an http(s) address; give one such as "
            "served=http://localhost:8000/v1"
        )
    if "model" not in given:
        raise StudyError(f"{where} lacks model=NAME, the model's name on the server")
    at_once = given.get("at_once", str(Server.at_once))
    if not at_once.isdecimal() or not 1 <= int(at_once) <= MOST_AT_ONCE:
        raise StudyError(
            f"{where}: at_once={at_once} is not a whole number from 1 to {MOST_AT_ONCE}"
        )
    key = given.get("key", Server.key)
    if not key.isidentifier():  # it may be the key itself, which nobody shall read in a log
        raise StudyError(
            f"{where}: key= takes the name of an environment variable, such as {Server.key}, and "
            "not the key itself"
        )
    url = given["served"].rstrip("/")
    return Server(url, given["model"], key, int(at_once), keyed="key" in given)
