"""A hub on this machine: it serves folders as repositories to the huggingface_hub client."""

from __future__ import annotations

import hashlib
import http.server
import json
import re
import threading
from pathlib import Path
from urllib.parse import unquote, urlsplit

# Paths that a client asks for, and the method that answers; a repository is `owner/name`
ROUTES = (
    (re.compile(r"/api/(models|datasets)/([^/]+/[^/]+)/tree/[^/]+(?:/(.*))?"), "_tree"),
    (re.compile(r"/api/(models|datasets)/([^/]+/[^/]+)(?:/revision/[^/]+)?"), "_about"),
    (re.compile(r"/(datasets/)?([^/]+/[^/]+)/resolve/[^/]+/(.*)"), "_file"),
)


def commit(name: str) -> str:
    """The one revision of a repository.

    It differs between repositories, because clients tell two that share a folder apart by it.
    """
    return hashlib.sha1(name.encode()).hexdigest()


class Hub:
    """A context manager that serves a folder as a hub.

    Args:
        folder: holds models/<owner>/<name> and datasets/<owner>/<name>.

    Attributes:
        url: the value that HF_ENDPOINT must have.
        asked: the requests so far, such as `GET /api/models/a/b`.
    """

    def __init__(self, folder: Path):
        self.asked: list[str] = []
        handler = type("Handler", (_Handler,), {"folder": folder, "asked": self.asked})
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def __enter__(self) -> Hub:
        # It ends within so many seconds after `shutdown`.
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()


class _Handler(http.server.BaseHTTPRequestHandler):
    """Answers what a download asks: a repository's revision, its list of files, and its files."""

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
                getattr(self, answer)(body, *match.groups())
                return
        self._send(404, b"", body, {"X-Error-Code": "RepoNotFound"})

    def _repository(self, kind: str, name: str, body: bool) -> Path | None:
        """The folder of a repository; None, after answering 404, if there is no such folder."""
        folder = self.folder / kind / name
        if folder.is_dir():
            return folder
        self._send(404, b"", body, {"X-Error-Code": "RepoNotFound"})
        return None

    def _about(self, body: bool, kind: str, name: str) -> None:
        if self._repository(kind, name, body):
            self._json(body, {"id": name, "sha": commit(name), "siblings": [], "tags": []})

    def _tree(self, body: bool, kind: str, name: str, below: str | None) -> None:
        folder = self._repository(kind, name, body)
        if folder is None:
            return
        root = folder / (below or "")
        paths = sorted(path for path in root.rglob("*") if path.is_file())
        files = [
            {
                "type": "file",
                "path": path.relative_to(folder).as_posix(),
                "oid": "0" * 40,
                "size": path.stat().st_size,
            }
            for path in paths
        ]
        self._json(body, files)

    def _file(self, body: bool, kind: str | None, name: str, relative: str) -> None:
        folder = self._repository("datasets" if kind else "models", name, body)
        if folder is None:
            return
        path = folder / relative
        if not path.is_file():
            headers = {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit(name)}
            self._send(404, b"", body, headers)
            return
        content = path.read_bytes()
        etag = hashlib.sha256(content).hexdigest()[:40]
        headers = {
            "ETag": f'"{etag}"',
            "Content-Type": "application/octet-stream",
            "X-Repo-Commit": commit(name),
        }
        self._send(200, content, body, headers)

    def _json(self, body: bool, value: object) -> None:
        self._send(200, json.dumps(value).encode(), body, {"Content-Type": "application/json"})

    def _send(self, code: int, content: bytes, body: bool, headers: dict[str, str]) -> None:
        self.send_response(code)
        self.send_header("Content-Length", str(len(content)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(content)
