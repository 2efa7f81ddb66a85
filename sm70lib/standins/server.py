"""An OpenAI-compatible server on this machine, as vLLM is one; it stands in for every server."""

from __future__ import annotations

import hashlib
import http.server
import json
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from sm70lib.models import loading

VERSION = "stand-in 1"


class ModelServer:
    """A context manager that serves models on this machine.

    It writes greedily, whatever temperature it is asked for.

    Args:
        models: the folder of each model, by the name that clients ask for.
        scores: whether it gives log-probabilities of a prompt's tokens, as vLLM does.
        judges: what a judge says to a prompt, by the name that clients ask for.

    Attributes:
        url: its address, which ends in /v1.
        asked: path and body of every request so far.
    """

    def __init__(
        self,
        models: dict[str, Path],
        scores: bool = True,
        judges: dict[str, Callable[[str], str]] | None = None,
    ):
        self._judges = judges or {}
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self._lock = threading.Lock()
        self._folders = models
        self._loaded: dict[str, tuple[Any, Any]] = {}
        self._scores = scores
        handler = partial(_Handler, self.answer)
        self.server = _Server(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"

    def __enter__(self) -> ModelServer:
        # It ends within so many seconds after `shutdown`.
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()

    def answer(self, path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """Answers a request.

        Args:
            path: such as /v1/models.
            body: the request's JSON; {} if it has none.

        Returns:
            The HTTP status, and the answer's JSON.
        """
        with self._lock:  # the models answer one request at a time
            self.asked.append((path, body))
            if path == "/version":
                return 200, {"version": VERSION}
            if path == "/v1/models":
                return 200, {"object": "list", "data": [_card(name) for name in self._names()]}
            if body.get("model") in self._judges and path == "/v1/chat/completions":
                return 200, self._judgement(body)
            if body.get("model") not in self._folders:
                return 404, {"error": {"message": f"no model {body.get('model')}"}}
            if path == "/v1/completions":
                return 200, self._completion(body)
            if path == "/v1/chat/completions":
                return 200, self._reply(body)
        return 404, {"error": {"message": f"no {path}"}}

    def _names(self) -> list[str]:
        return [*self._folders, *(name for name in self._judges if name not in self._folders)]

    def _judgement(self, body: dict[str, Any]) -> dict[str, Any]:
        said = self._judges[body["model"]](body["messages"][-1]["content"])
        message = {"role": "assistant", "content": said}
        choice = {"index": 0, "finish_reason": "stop", "message": message}
        return _answer("chat.completion", body, choice)

    def _model(self, body: dict[str, Any]) -> tuple[Any, Any]:
        """The model that a request names, and its tokenizer; loaded when it is first asked."""
        name = body["model"]
        if name not in self._loaded:
            folder = self._folders[name]
            self._loaded[name] = loading.load(folder).float(), loading.load_tokenizer(folder)
        return self._loaded[name]

    def _completion(self, body: dict[str, Any]) -> dict[str, Any]:
        model, tokenizer = self._model(body)
        prompt = body["prompt"]
        ids = tokenizer(prompt)["input_ids"] if isinstance(prompt, str) else prompt
        choice: dict[str, Any] = {"index": 0, "finish_reason": "length", "logprobs": None}
        choice["text"] = _written(model, tokenizer, ids, body["max_tokens"])
        if self._scores and body.get("prompt_logprobs") is not None:
            choice["prompt_logprobs"] = _prompt_logprobs(model, ids)
        return _answer("text_completion", body, choice)

    def _reply(self, body: dict[str, Any]) -> dict[str, Any]:
        model, tokenizer = self._model(body)
        text = "\n".join(message["content"] for message in body["messages"]) + "\n"
        if tokenizer.chat_template:
            text = tokenizer.apply_chat_template(
                body["messages"], tokenize=False, add_generation_prompt=True
            )
        ids = tokenizer(text, add_special_tokens=not tokenizer.chat_template)["input_ids"]
        reply = _written(model, tokenizer, ids, body["max_tokens"])
        message = {"role": "assistant", "content": reply}
        choice = {"index": 0, "finish_reason": "stop", "message": message}
        return _answer("chat.completion", body, choice)


def verdict(judge: str, prompt: str) -> str:
    """What a judge says that knows nothing: yes, no or no JSON, as a digest of both texts falls."""
    fallen = hashlib.sha256(f"{judge} {prompt}".encode()).digest()[0] % 8
    if fallen == 0:
        return "I would say that it does."
    return json.dumps({"why": "This judge is a stand-in.", "met": fallen % 2 == 1})


def _card(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "sm70"}


def _answer(kind: str, body: dict[str, Any], choice: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": "answer",
        "object": kind,
        "created": 0,
        "model": body["model"],
        "choices": [choice],
    }


@torch.inference_mode()
def _written(model: Any, tokenizer: Any, ids: list[int], count: int) -> str:
    prompt = torch.tensor([ids])
    whole = model.generate(
        prompt,
        attention_mask=torch.ones_like(prompt),
        max_new_tokens=count,
        do_sample=False,
        use_cache=True,
        pad_token_id=tokenizer.pad_token_id,
    )
    return tokenizer.decode(whole[0, len(ids) :], skip_special_tokens=True)


@torch.inference_mode()
def _prompt_logprobs(model: Any, ids: list[int]) -> list[dict[str, Any] | None]:
    """What vLLM gives: for each token but the first its log-probability (nats), by its id."""
    logits = model(torch.tensor([ids])).logits[0, :-1].float()
    values = logits.log_softmax(-1)[range(len(ids) - 1), ids[1:]].tolist()
    return [None, *({str(token): {"logprob": value}} for token, value in zip(ids[1:], values))]


class _Server(http.server.ThreadingHTTPServer):
    """A server at which as many requests may wait as a client sends at once."""

    request_queue_size = 128


class _Handler(http.server.BaseHTTPRequestHandler):
    """Reads requests as JSON, and writes answers as JSON."""

    def __init__(self, answer: Callable, *args: Any):
        self._answer = answer
        super().__init__(*args)

    def log_message(self, *_: object) -> None:
        """Prints nothing."""

    def do_GET(self) -> None:
        self._send({})

    def do_POST(self) -> None:
        self._send(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

    def _send(self, body: dict[str, Any]) -> None:
        status, answer = self._answer(self.path, body)
        content = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
