"""A small server on loopback that speaks the chat-completions protocol, well or badly."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from retune.prompts import load
from retune.prompts.writer.endpoint import Endpoint

Answer = tuple[int, dict[str, str], bytes]
Script = Callable[[int, dict[str, Any]], Answer]

BANK = load("language-model")
DAY = "2026-11-21"


def chat(content: Any, status: int = 200, **headers: str) -> Answer:
    message = {"role": "assistant", "content": content}
    body = {
        "id": "1",
        "object": "chat.completion",
        "created": 0,
        "model": "tiny",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
    }
    return status, {"Content-Type": "application/json", **headers}, json.dumps(body).encode()


def asked(request: dict[str, Any]) -> str:
    return str(request["messages"][-1]["content"])


def wanted(request: dict[str, Any]) -> tuple[str, str, int]:
    """Finding, polarity and number that an instruction asks for."""
    found = re.search(r"Write (\d+) sentences .*? when (.+?) is (present|absent)", asked(request))
    assert found, asked(request)
    return found[2], "positive" if found[3] == "present" else "negative", int(found[1])


def good(number: int, request: dict[str, Any]) -> Answer:
    finding, polarity, n = wanted(request)
    return chat(json.dumps({"sentences": list(BANK.texts(finding, polarity)[:n])}))  # type: ignore[arg-type]


class Server:
    """A chat-completions endpoint that answers by a script and remembers what it was asked."""

    def __init__(self) -> None:
        self.script: Script = good
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                assert self.path == "/v1/chat/completions"
                request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                server.requests.append(request)
                server.headers.append({k.lower(): v for k, v in self.headers.items()})
                status, headers, body = server.script(len(server.requests), request)
                try:
                    if status:
                        self.send_response(status)
                        for key, value in headers.items():
                            self.send_header(key, value)
                        self.send_header("Content-Length", str(len(body)))
                        self.end_headers()
                        self.wfile.write(body)
                except OSError:
                    # A client that gave up.
                    pass

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/v1"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def model(self, timeout: float = 20.0, tries: int = 3) -> Endpoint:
        return Endpoint(self.url, "tiny", timeout=timeout, tries=tries, pause=0.01)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
