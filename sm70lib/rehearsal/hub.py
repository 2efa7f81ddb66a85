"""A hub on this machine: it serves folders as repositories, in the words that huggingface_hub
understands."""

from __future__ import annotations

import hashlib
import http.server
import json
import re
import threading
from pathlib import Path
from urllib.parse import unquote, urlsplit

ROUTES = (  # paths that a client asks for; a repository is `owner/name`
    (re.compile(r"/api/(models|datasets)/([^/]+/[^/]+)/tree/[^/]+(?:/(.*))?"), "_tree"),
    (re.compile(r"/api/(models|datasets)/([^/]+/[^/]+)(?:/revision/[^/]+)?"), "_about"),
    (re.compile(r"/(datasets/)?([^/]+/[^/]+)/resolve/[^/]+/(.*)"), "_file"),
)


def commit(name: str) -> str:
    """The one revision that a repository has; another for each, as clients tell repositories that
    share a folder apart by it."""
    return hashlib.sha1(name.encode()).hexdigest()


class Hub:
    """Serves `folder`/models/<owner>/<name> and `folder`/datasets/<owner>/<name> while it is
    entered.

    `url` is what HF_ENDPOINT has to be; `asked` lists the requests so far, such as `GET
    /api/models/a/b`.
    """

    def __init__(self, folder: Path):
        self.asked: list[str] = []
        handler = type("Handler", (_Handler,), {"folder": folder, "asked": self.asked})
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def __enter__(self) -> Hub:
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()


class _Handler(http.server.BaseHTTPRequestHandler):
    """As much of the hub as downloads need: what a repository is, its list of files, its files."""

    folder: Path
    asked: list[str]

    def log_message(self, *_: object) -> None:
        self.asked.append(f"{self.command} {self.path}")

    def do_HEAD(self) -> None:
        self.do_GET(body=False)

    def do_GET(self, body: bool = True) -> None:
        path = unquote(urlsplit(self.path).path)
        for pattern, answer in ROUTES:
            if match := pattern.fullmatch(path):
                return getattr(self, answer)(body, *match.groups())
        return self._send(404, b"", body, {"X-Error-Code": "RepoNotFound"})

    def _repository(self, kind: str, name: str, body: bool) -> Path | None:
        """The folder of a repository; where there is none, the client has been told so."""
        folder = self.folder / kind / name
        if folder.is_dir():
            return folder
        self._send(404, b"", body, {"X-Error-Code": "RepoNotFound"})
        return None

    def _about(self, body: bool, kind: str, name: str) -> None:
        if self._repository(kind, name, body):
            self._json(body, {"id": name, "sha": commit(name), "siblings": [], "tags": []})

    def _tree(self, body: bool, kind: str, name: str, below: str | None) -> None:
        if folder := self._repository(kind, name, body):
            paths = sorted(path for path in (folder / (below or "")).rglob("*") if path.is_file())
            self._json(
                body,
                [
                    {
                        "type": "file",
                        "path": path.relative_to(folder).as_posix(),
                        "oid": "0" * 40,
                        "size": path.stat().st_size,
                    }
                    for path in paths
                ],
            )

    def _file(self, body: bool, kind: str | None, name: str, relative: str) -> None:
        if folder := self._repository("datasets" if kind else "models", name, body):
            path = folder / relative
            if not path.is_file():
                lacks = {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit(name)}
                return self._send(404, b"", body, lacks)
            content = path.read_bytes()
            etag = hashlib.sha256(content).hexdigest()[:40]
            return self._send(
                200,
                content,
                body,
                {
                    "ETag": f'"{etag}"',
                    "Content-Type": "application/octet-stream",
                    "X-Repo-Commit": commit(name),
                },
            )
        return None

    def _json(self, body: bool, value: object) -> None:
        self._send(200, json.dumps(value).encode(), body, {"Content-Type": "application/json"})

    def _send(self, code: int, content: bytes, body: bool, headers: dict[str, str]) -> None:
        self.send_response(code)
        for name, value in {
            "Content-Length": str(len(content)),
            **headers,
        }.items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(content)
