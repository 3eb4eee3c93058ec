"""Prompts from a language model: an endpoint on loopback that speaks the real protocol, and a tiny local model."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from made_endpoint import BANK, DAY, Answer, Server, asked, chat, good, wanted

from retune.cli.main import main
from retune.errors import BadSetting, RetuneError, RunConflict, UnknownName, UserError
from retune.prompts import PromptBank, load
from retune.prompts.writer.endpoint import LARGEST, SHOWN, Endpoint, EndpointError
from retune.prompts.writer.generate import NoValidPrompts, Request, generate


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.close()


@pytest.fixture(autouse=True)
def no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RETUNE_LLM_KEY", "OPENAI_API_KEY", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)


def edema(**settings: Any) -> Request:
    return Request(**{"findings": ("Edema",), "per_polarity": 3, **settings})


def arguments(server: Server, out: Path, *more: str) -> list[str]:
    spec = ["--llm", server.url, "--model", "tiny", "--out", str(out), "--per-polarity", "3"]
    return ["prompts", "generate", *spec, *more]


def test_a_bank_with_its_provenance(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RETUNE_LLM_KEY", "sk-secret")
    out = tmp_path / "new" / "bank.jsonl"
    code = main(arguments(server, out, "--finding", "edema", "--finding", "Mass", "--seed", "7", "--json"))
    told = capsys.readouterr()
    assert code == 0
    bank = PromptBank.read(out)
    assert bank.findings == ("Edema", "Mass")
    assert bank.negative("Edema") == BANK.negative("Edema")[:3]
    source = bank.prompts[0].source
    assert (source.kind, source.model, source.seed) == ("language-model", "tiny at 127.0.0.1", 7)
    assert source.instruction == asked(server.requests[0])
    assert source.instruction.startswith("Write 3 sentences")
    assert json.loads(told.out)["prompts"] == 12
    assert [wanted(r)[:2] for r in server.requests] == [
        ("Edema", "positive"), ("Edema", "negative"), ("Mass", "positive"), ("Mass", "negative"),
    ]  # fmt: skip
    assert {r["response_format"]["type"] for r in server.requests} == {"json_object"}
    assert len({r["seed"] for r in server.requests}) == 4
    assert {h["authorization"] for h in server.headers} == {"Bearer sk-secret"}
    assert "sk-secret" not in out.read_text() + told.out + told.err
    assert [path.name for path in out.parent.iterdir()] == ["bank.jsonl"]


def test_the_key_of_the_hugging_face_hub_is_never_sent(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    generate(tmp_path / "a.jsonl", server.model(), edema())
    assert server.headers
    assert all("hf_secret" not in json.dumps(headers) for headers in server.headers)


BROKEN = {
    "empty": ("", "the reply is empty"),
    "null": (None, "the reply is empty"),
    "prose": ("I am sorry, but no.", "no JSON list"),
    "cut off": ('{"sentences": ["Pulmonary edema is pres', "no JSON list"),
    "numbers": ("[1, 2, 3]", "element 1 is not a string"),
    "nested": ("[" * 90_000, "no JSON list"),
    "huge": ("[" + "9" * 200_000 + "]", "longer than 100,000"),
    "huge number": ("[" + "9" * 20_000 + "]", "no JSON list"),
    "too few": ('["Pulmonary edema is present."]', "1 of 3 sentences|holds 1 valid"),
    "wrong polarity": (
        '["No pulmonary edema.", "No edema.", "Edema is absent."]',
        "sentence 1 negates Edema",
    ),
    "another finding": (
        '["Edema with a pleural effusion.", "a", "b"]',
        r"another finding \(Pleural Effusion\)",
    ),
    "duplicates": ('["Mild edema.", "Mild edema", "MILD EDEMA"]', "sentence 2 repeats"),
    "line break": (json.dumps(["Mild edema.\nSevere edema."]), "sentence 1 holds control characters"),
    "escapes": (json.dumps(["\x1b[2J\x1b[31mEdema."]), "sentence 1 holds control characters"),
    "surrogate": ('["Edema \\ud800."]', "sentence 1 holds control characters"),
    "markup": ('["<b>Edema</b>"]', "sentence 1 holds markup"),
    "blank": ('["  ", "Mild edema."]', "sentence 1 is empty"),
    "long": (json.dumps(["Edema " * 100]), "sentence 1 is longer"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_bad_reply_is_refused_and_asked_for_again(server: Server, tmp_path: Path, case: str) -> None:
    content, complaint = BROKEN[case]
    server.script = lambda number, request: chat(content) if number == 1 else good(number, request)
    done = generate(tmp_path / "a.jsonl", server.model(), edema(), today=DAY)
    assert done.replies == 3
    assert re.search(complaint, asked(server.requests[1])), asked(server.requests[1])
    bank = PromptBank.read(tmp_path / "a.jsonl")
    assert len(bank.positive("Edema")) == len(bank.negative("Edema")) == 3
    assert set(bank.positive("Edema")) <= {
        *BANK.positive("Edema"),
        "Mild edema.",
        "Pulmonary edema is present.",
    }


@pytest.mark.parametrize(
    "dressed",
    [
        "{}",
        "```json\n{}\n```",
        "Here they are: {} Enjoy!",
        "<think>Perhaps [1]?</think> {}",
        '{{"sentences": {}}}',
    ],
)
def test_the_first_list_in_a_reply_counts(server: Server, tmp_path: Path, dressed: str) -> None:
    def script(number: int, request: dict[str, Any]) -> Answer:
        finding, polarity, n = wanted(request)
        return chat(dressed.format(json.dumps(BANK.texts(finding, polarity)[: n + 2])))  # type: ignore[arg-type]

    server.script = script
    done = generate(tmp_path / "a.jsonl", server.model(), edema())
    assert done.replies == 2
    assert len(PromptBank.read(tmp_path / "a.jsonl")) == 6


def test_good_sentences_of_a_bad_reply_are_kept_and_the_rest_asked_for(
    server: Server, tmp_path: Path
) -> None:
    first = ["Mild interstitial edema.", "No edema."]
    second = [
        "Mild interstitial edema.",
        "Severe pulmonary edema involving both lungs.",
        "Alveolar edema has worsened.",
    ]
    server.script = lambda number, request: (
        chat(json.dumps([first, second][number - 1])) if number < 3 else good(number, request)
    )
    generate(tmp_path / "a.jsonl", server.model(), edema())
    assert "Write 2 more" in asked(server.requests[1])
    assert PromptBank.read(tmp_path / "a.jsonl").positive("Edema") == (first[0], *second[1:])


def test_a_model_that_never_answers_well_is_given_up_in_one_line(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.script = lambda number, request: chat('["\\u001b[2JNo edema."]')
    out = tmp_path / "a.jsonl"
    code = main(arguments(server, out, "--all", "--attempts", "2"))
    told = capsys.readouterr()
    assert code == 1
    assert len(server.requests) == 6
    assert told.err.count("\n") <= 2
    assert re.search(
        r"error: .*a\.jsonl: .*No Finding \(positive\): 0 of 3 .* and so for 61 other groups", told.err
    )
    assert "\x1b" not in told.out + told.err
    assert list(tmp_path.iterdir()) == []


def test_what_is_valid_is_kept_and_only_the_rest_asked_for_again(server: Server, tmp_path: Path) -> None:
    out = tmp_path / "a.jsonl"
    request = Request(("Edema", "Mass"), per_polarity=3, attempts=2)
    server.script = lambda n, r: chat("[]") if wanted(r)[:2] == ("Edema", "negative") else good(n, r)
    done = generate(out, server.model(), request, today=DAY)
    assert [str(group) for group, _ in done.failed] == ["Edema (negative)"]
    with pytest.raises(NoValidPrompts, match=r"Edema \(negative\)"):
        done.require_all()
    before = out.read_bytes()
    server.script, server.requests = good, []
    again = generate(out, server.model(), request, today=DAY)
    assert [wanted(r)[:2] for r in server.requests] == [("Edema", "negative")]
    assert [str(group) for group in again.kept] == ["Edema (positive)", "Mass (positive)", "Mass (negative)"]
    assert out.read_bytes().startswith(before)
    server.requests = []
    assert generate(out, server.model(), request, today=DAY).replies == len(server.requests) == 0


@pytest.mark.parametrize("what", ["model", "seed", "instruction"])
def test_prompts_of_another_source_are_not_continued(server: Server, tmp_path: Path, what: str) -> None:
    out = tmp_path / "a.jsonl"
    generate(out, server.model(), edema())
    before, asked_before = out.read_bytes(), len(server.requests)
    model = server.model()
    if what == "model":
        model.model = "huge"
    other = {"model": {}, "seed": {"seed": 1}, "instruction": {"per_polarity": 4}}[what]
    with pytest.raises(RunConflict, match=rf"a\.jsonl: holds Edema \(positive\) of another {what}"):
        generate(out, model, edema(**other))
    assert (out.read_bytes(), len(server.requests)) == (before, asked_before)
    # What was not asked for before is free.
    generate(out, model, Request(("Mass",), per_polarity=3, seed=9))
    assert PromptBank.read(out).findings == ("Edema", "Mass")


def test_rows_of_others_stay_as_they_are(server: Server, tmp_path: Path) -> None:
    out = tmp_path / "a.jsonl"
    by_hand = json.dumps(
        load("chexzero").select(["Mass"]).prompts[0].row(), indent=None, separators=(" ,", ": ")
    )
    out.write_text(by_hand)
    generate(out, server.model(), edema())
    assert out.read_text().startswith(by_hand + "\n{")
    assert PromptBank.read(out).findings == ("Mass", "Edema")


PASSING: dict[str, tuple[Answer, str]] = {
    "rate limit": ((429, {"Retry-After": "0"}, b"{}"), "answers with 429"),
    "hostile rate limit": ((429, {"Retry-After": "soon"}, b"[1]"), "answers with 429"),
    "failing": ((500, {}, b"\xff\xfe"), "answers with 500"),
    "gateway": ((503, {"Content-Type": "text/html"}, b"<html>"), "answers with 503"),
    "no answer": ((0, {}, b""), "cannot be reached"),
    "html": (
        (200, {"Content-Type": "text/html"}, b"<html><body>Hello</body></html>"),
        "not with a chat completion",
    ),
    "not utf-8": ((200, {}, b'{"choices": "\xff\xfe"}'), "not with a chat completion"),
    "nested": ((200, {}, b"[" * 500_000), "not with a chat completion"),
    "other json": ((200, {}, b'{"choices": []}'), "not with a chat completion"),
    "list": ((200, {}, b"[1, 2]"), "not with a chat completion"),
    "huge": ((200, {}, b" " * (LARGEST + 70_000)), "more than 1 MB"),
}


@pytest.mark.parametrize("case", PASSING)
def test_trouble_that_passes_is_waited_for(server: Server, tmp_path: Path, case: str) -> None:
    answer, _ = PASSING[case]
    server.script = lambda number, request: answer if number < 3 else good(number, request)
    done = generate(tmp_path / "a.jsonl", server.model(), edema())
    assert (done.replies, len(server.requests)) == (2, 4)


@pytest.mark.parametrize("case", PASSING)
def test_trouble_that_lasts_is_told_in_one_line(server: Server, tmp_path: Path, case: str) -> None:
    answer, told = PASSING[case]
    server.script = lambda number, request: good(number, request) if number == 1 else answer
    with pytest.raises(EndpointError, match=told) as caught:
        generate(tmp_path / "a.jsonl", server.model(), edema())
    assert server.url in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(server.requests) == 4
    assert PromptBank.read(tmp_path / "a.jsonl").negative("Edema") == ()


def test_a_retry_after_is_obeyed(server: Server, tmp_path: Path) -> None:
    server.script = lambda n, r: (429, {"Retry-After": "1"}, b"") if n == 1 else good(n, r)
    start = time.monotonic()
    generate(tmp_path / "a.jsonl", server.model(), edema())
    assert 1.0 <= time.monotonic() - start < 5.0


def test_a_slow_reply_is_not_waited_for_longer_than_said(server: Server, tmp_path: Path) -> None:
    def slow(number: int, request: dict[str, Any]) -> Answer:
        time.sleep(3.0)
        return good(number, request)

    server.script = slow
    start = time.monotonic()
    with pytest.raises(EndpointError, match=r"no answer within 0\.2 s; asked 2 times"):
        generate(tmp_path / "a.jsonl", server.model(timeout=0.2, tries=2), edema())
    assert time.monotonic() - start < 2.0


def test_a_reply_that_trickles_is_cut_off(tmp_path: Path) -> None:
    import socket

    listener = socket.create_server(("127.0.0.1", 0))

    def trickle() -> None:
        connection, _ = listener.accept()
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        try:
            for _ in range(100):
                connection.sendall(b" ")
                time.sleep(0.05)
        except OSError:
            pass

    threading.Thread(target=trickle, daemon=True).start()
    model = Endpoint(f"http://127.0.0.1:{listener.getsockname()[1]}/v1", "tiny", timeout=0.3, tries=1)
    start = time.monotonic()
    with pytest.raises(EndpointError, match=r"no answer within 0\.3 s"):
        model.reply([{"role": "user", "content": "a"}], seed=0, max_tokens=5)
    assert time.monotonic() - start < 2.0
    listener.close()


@pytest.mark.parametrize(
    ("status", "told"),
    [
        (401, "refuses the key"),
        (404, "knows no model 'tiny'"),
        (418, r"refuses the request \(418: I am \[2J a"),
    ],
)
def test_a_refusal_is_not_argued_with(server: Server, tmp_path: Path, status: int, told: str) -> None:
    server.script = lambda n, r: (status, {}, b"I am \x1b[2J a teapot")
    with pytest.raises(UserError, match=told):
        generate(tmp_path / "a.jsonl", server.model(), edema())
    assert len(server.requests) == 1


@pytest.mark.parametrize("status", [401, 404, 418, 429, 500, 503])
def test_what_an_error_says_is_told_but_never_the_key(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    monkeypatch.setenv("RETUNE_LLM_KEY", "sk-secret")
    body = b'{"error": "quota of sk-secret\x1b[2J\nis used up"} ' + b"x" * 900
    server.script = lambda n, r: (status, {}, body)
    with pytest.raises(RetuneError) as caught:
        generate(tmp_path / "a.jsonl", server.model(), edema())
    told = str(caught.value)
    assert f'{status}: {{"error": "quota of *** [2J is used up"}} xxx' in told
    assert "secret" not in told
    assert 100 < told.count("x") < SHOWN
    assert told.isprintable()


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_the_key_is_not_carried_elsewhere(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    monkeypatch.setenv("RETUNE_LLM_KEY", "sk-secret")
    other = Server()
    server.script = lambda n, r: (status, {"Location": f"{other.url}/chat/completions"}, b"moved")
    with pytest.raises(UserError, match=rf"sends its callers elsewhere \({status}: {other.url}"):
        generate(tmp_path / "a.jsonl", server.model(), edema())
    other.close()
    assert (len(server.requests), other.requests) == (1, [])


def test_a_server_without_response_format_is_asked_without(server: Server, tmp_path: Path) -> None:
    server.script = lambda n, r: (
        (400, {}, b'{"error": "response_format?"}') if "response_format" in r else good(n, r)
    )
    done = generate(tmp_path / "a.jsonl", server.model(tries=1), edema())
    assert len(done.written) == 2
    assert ["response_format" in r for r in server.requests] == [True, False, False]


def test_nobody_there_is_told_in_one_line(tmp_path: Path) -> None:
    model = Endpoint("http://127.0.0.1:9/v1", "tiny", tries=2, pause=0.01)
    with pytest.raises(EndpointError, match=r"http://127\.0\.0\.1:9/v1: cannot be reached .* asked 2 times"):
        generate(tmp_path / "a.jsonl", model, edema())


def test_a_generation_that_was_killed_continues(server: Server, tmp_path: Path) -> None:
    release = threading.Event()

    def script(number: int, request: dict[str, Any]) -> Answer:
        if wanted(request)[:2] == ("Mass", "positive"):
            release.wait(20)
        return good(number, request)

    server.script = script
    out = tmp_path / "a.jsonl"
    words = arguments(server, out, "--finding", "Edema", "--finding", "Mass")
    process = subprocess.Popen([sys.executable, "-m", "retune", *words], stderr=subprocess.PIPE)
    deadline = time.monotonic() + 60
    while len(server.requests) < 3 and time.monotonic() < deadline:
        time.sleep(0.02)
    with pytest.raises(RunConflict, match="another process is writing"):
        generate(out, server.model(), edema())
    process.send_signal(signal.SIGKILL)
    process.wait(10)
    release.set()
    bank = PromptBank.read(out)
    assert (bank.findings, len(bank)) == (("Edema",), 6)
    server.script, server.requests = good, []
    assert main(words) == 0
    assert [wanted(r)[0] for r in server.requests] == ["Mass", "Mass"]
    whole = tmp_path / "whole.jsonl"
    main(arguments(server, whole, "--finding", "Edema", "--finding", "Mass"))
    assert out.read_bytes() == whole.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.jsonl", "whole.jsonl"]


def test_ones_own_instruction_and_finding(server: Server, tmp_path: Path) -> None:
    file = tmp_path / "ask.txt"
    file.write_text("Give {n} sentences for an image where {finding} is {state}.\n")
    texts = iter(
        [
            ["Notched ribs on both sides.", "There is rib notching."],
            ["No rib notching.", "The ribs are normal."],
        ]
    )
    server.script = lambda n, r: chat(json.dumps(next(texts)))
    words = arguments(server, tmp_path / "a.jsonl", "--finding", "Rib Notching", "--instruction", str(file))
    assert main([*words, "--per-polarity", "2"]) == 0
    assert asked(server.requests[1]).startswith(
        "Give 2 sentences for an image where Rib Notching is absent. Answer"
    )
    assert PromptBank.read(tmp_path / "a.jsonl").negative("Rib Notching") == (
        "No rib notching.",
        "The ribs are normal.",
    )


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--llm", "http://x/v1", "--finding", "Edema"], "--llm: .*--model"),
        (["--llm", "http://me:pw@x/v1", "--model", "m", "--finding", "Edema"], "not a plain address"),
        (["--llm", "http://[/v1", "--model", "m", "--finding", "Edema"], "not a plain address"),
        (["--llm", "http://x:port/v1", "--model", "m", "--finding", "Edema"], "not a plain address"),
        (["--llm", "gpt", "--finding", "Edema"], "'gpt' names no language model"),
        (["--llm", "local-dir:none", "--model", "m", "--finding", "Edema"], "only an endpoint"),
        (["--llm", "local-dir:none", "--finding", "Edema"], "no such folder"),
        (["--llm", "local-dir:none"], "no finding is named"),
        (["--llm", "local-dir:none", "--finding", "Edemaa"], "did you mean Edema"),
        (["--llm", "local-dir:none", "--finding", "a\nb"], "control characters"),
        (["--llm", "local-dir:none", "--finding", "Edema", "--all"], "goes without --finding"),
        (["--llm", "local-dir:none", "--finding", "Edema", "--per-polarity", "101"], "1 to 100"),
        (["--llm", "local-dir:none", "--finding", "Edema", "--instruction", "none.txt"], "cannot be read"),
        (["--llm", "local-dir:none", "--finding", "Edema", "--out", "a.json"], r"end in \.jsonl"),
    ],
)
def test_mistakes_are_told_in_one_line(
    words: list[str],
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    code = main(["prompts", "generate", "--out", "a.jsonl", *words])
    err = capsys.readouterr().err
    assert code == 2
    assert re.search(told, err), err
    assert err.count("error: ") == 1
    assert "pw" not in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("place", "told"), [("file/a.jsonl", "cannot write here"), ("folder.jsonl", "cannot be read")]
)
def test_a_place_that_cannot_be_written_to(server: Server, tmp_path: Path, place: str, told: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder.jsonl").mkdir()
    with pytest.raises(UserError, match=told):
        generate(tmp_path / place, server.model(), edema())
    assert server.requests == []


def test_requests_are_checked() -> None:
    with pytest.raises(BadSetting, match=r"has no \{state\}"):
        edema(instruction="Write of {finding}.")
    with pytest.raises(UnknownName):
        Request(("Pneumothorx",))
    assert Request(("pulmonary edema", "Edema")).findings == ("Edema",)


def test_a_key_is_taken_without_its_line_s_end(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RETUNE_LLM_KEY", "sk-secret\r\n")
    assert main(arguments(server, tmp_path / "bank.jsonl", "--finding", "Edema")) == 0


@pytest.mark.parametrize("key", ["sk-\x00secret", "ключ"])
def test_what_cannot_be_a_key_is_refused_without_showing_it(
    server: Server,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    key: str,
) -> None:
    monkeypatch.setattr("os.environ", {**os.environ, "RETUNE_LLM_KEY": key})
    assert main(arguments(server, tmp_path / "bank.jsonl", "--finding", "Edema")) == 2
    told = capsys.readouterr().err
    assert "the key in RETUNE_LLM_KEY holds characters that no key has" in told
    assert key not in told
    assert not server.requests
