"""Showing a page on this machine: its files, and nothing else."""

from __future__ import annotations

import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import Message
from pathlib import Path

import pytest
from leaderboard.made_entries import (
    CLASS,
    small,
)
from leaderboard.site_pages import built

from retune.cli.main import main
from retune.leaderboard.serve import serving


@contextmanager
def server(folder: Path) -> Iterator[int]:
    with serving(folder, 0) as (address, serve):
        assert address.startswith("http://127.0.0.1:")
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield int(address.rsplit(":", 1)[1].strip("/"))
    # On a closed socket it would go round and round, and take the processor from whatever else the process does.
    thread.join(timeout=10)
    assert not thread.is_alive()


def ask(port: int, path: str, host: str = "127.0.0.1", method: str = "GET") -> tuple[int, Message, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request(method, path, headers={"Host": f"{host}:{port}"})
    answer = connection.getresponse()
    return answer.status, answer.headers, answer.read()


def test_a_site_is_served_with_its_types_and_nothing_else_is(tmp_path: Path) -> None:
    out, _ = built(small(tmp_path / "board"), tmp_path / "site")
    (tmp_path / "secret.html").write_text("secret")
    (out / "link.html").symlink_to(tmp_path / "secret.html")
    (out / "away").symlink_to(tmp_path)
    (out / "notes.txt").write_text("mine")
    (out / ".hidden.html").write_text("secret")
    with server(out) as port:
        status, headers, body = ask(port, "/")
        assert (status, body) == (200, (out / "index.html").read_bytes())
        assert headers["Content-Type"] == "text/html; charset=utf-8"
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert ask(port, "/assets/vega.js")[1]["Content-Type"] == "text/javascript; charset=utf-8"
        assert ask(port, f"/tracks/{CLASS}.html?x=1")[0] == 200
        assert ask(port, "/", method="HEAD")[2] == b""
        for path in ("/assets/", "/assets", "/entries", "/.retune-site", "/nothing.html", "/../secret.html", "/link.html",
                     "/.hidden.html",
                     "/%2e%2e/secret.html", "/..%2fsecret.html", "/away/secret.html", "//secret.html", "/notes.txt",
                     "/assets/..%2f..%2fsecret.html", "/%00", f"/{out}/index.html", "/index.html/"):  # fmt: skip
            status, _, body = ask(port, path)
            assert status == 404, path
            assert b"secret" not in body
        assert ask(port, "/", host="example.org")[0] == 404, "a page elsewhere cannot pretend to be this one"
        assert ask(port, "/", method="POST")[0] == 501


def test_only_a_site_is_served(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["leaderboard", "serve", str(tmp_path)]) == 2
    assert "is no site" in capsys.readouterr().err


def test_a_port_that_is_taken_is_told_in_a_line(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert main(["leaderboard", "serve", str(site), "--port", str(port)]) == 2
    told = capsys.readouterr().err
    assert f"cannot listen on port {port}" in told
    assert told.count("\n") == 1
    assert main(["leaderboard", "serve", str(site), "--port", "99999"]) == 2


def test_serving_a_board_ends_cleanly_with_an_interrupt(tmp_path: Path) -> None:
    board = small(tmp_path / "board")
    command = [
        sys.executable,
        "-m",
        "retune.cli.main",
        "leaderboard",
        "serve",
        "--board",
        str(board),
        "--port",
        "0",
    ]
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    environment = os.environ | {"PYTHONUNBUFFERED": "1", "TMPDIR": str(scratch)}
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        port = int(re.match(r"http://127\.0\.0\.1:(\d+)/", line)[1])  # type: ignore[index]
        assert ask(port, f"/entries/{CLASS}/best-1.html")[0] == 200
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=20)
    finally:
        process.kill()
    assert process.returncode == 0
    assert "Traceback" not in told
    assert list(scratch.iterdir()) == [], "its temporary folder is gone"


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST", "127.0.0.1", "LocalHost:80"])
def test_this_machine_may_be_spelt_in_any_way(site: Path, host: str) -> None:
    with server(site) as port:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        connection.request("GET", "/", headers={"Host": host})
        assert connection.getresponse().status == 200


def test_a_path_that_is_too_long_is_not_there(site: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with server(site) as port:
        for path in ("/" + "a" * 5000 + ".html", "/" + "a/" * 4000 + "x.html"):
            assert ask(port, path)[0] == 404
    assert capfd.readouterr().err == ""


def test_a_connection_that_says_nothing_is_closed(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("retune.leaderboard.serve._Files.timeout", 0.2)
    with server(site) as port, socket.create_connection(("127.0.0.1", port), timeout=10) as silent:
        silent.sendall(b"GET / HT")
        assert silent.recv(1) == b""
