"""A language model behind an endpoint that speaks OpenAI's chat-completions protocol."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any, Final, NoReturn
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from retune.errors import BadSetting, RetuneError, UserError, gist
from retune.prompts.writer.llm import TEMPERATURE, TOP_P, Message

KEYS: Final = ("RETUNE_LLM_KEY", "OPENAI_API_KEY")
"""Environment variables that may hold an endpoint's key, the first one that is set."""
LARGEST: Final = 1_000_000
"""Bytes of an answer of an endpoint from which it is not read on."""
SHOWN: Final = 200
"""Characters that are told of an answer that is an error."""
LONGEST_PAUSE: Final = 60.0
"""Seconds that a Retry-After is obeyed for at most."""


class EndpointError(RetuneError):
    """An endpoint that cannot be reached, or does not answer as the protocol asks."""


@dataclass
class Endpoint:
    """A model behind ``POST {url}/chat/completions``.

    Args:
        url: Where the protocol begins, e.g. ``http://localhost:8000/v1``.
        model: The model's name there.
        timeout: Seconds that one reply may take, from the first byte sent to the last received.
        tries: How often it is asked where it is slow, busy or failing.
        pause: Seconds before it is asked again, doubled each time; a Retry-After goes first.
    """

    url: str
    model: str
    timeout: float = 120.0
    tries: int = 4
    pause: float = 1.0

    def __post_init__(self) -> None:
        try:
            parts = urlsplit(self.url)
            plain = (
                parts.hostname and parts.port != 0 and not (parts.username or parts.password or parts.query)
            )
        except ValueError:
            plain = False
        if not plain:
            fix = f"write http(s)://HOST/v1 and put the key into {KEYS[0]}"
            raise BadSetting("is not a plain address", where="--llm", fix=fix)
        self._structured = True

    @property
    def name(self) -> str:
        """The model's name and its host."""
        return f"{self.model.strip()} at {urlsplit(self.url).hostname}"

    def reply(self, messages: Sequence[Message], *, seed: int, max_tokens: int) -> str:
        """The next turn of the conversation.

        Raises:
            EndpointError: If it gives none after all tries.
            UserError: If it refuses the key or the request.
        """
        trouble = ""
        for attempt in range(self.tries):
            try:
                return self._asked(messages, seed, max_tokens)
            except _Passing as error:
                trouble = str(error)
                if attempt + 1 < self.tries:
                    pause = self.pause * 2.0**attempt if error.after is None else error.after
                    time.sleep(min(pause, LONGEST_PAUSE))
        more = f"; asked {self.tries} times" if self.tries > 1 else ""
        raise EndpointError(
            f"{self.url}: {trouble}{more}; what was finished is kept, and the same command continues"
        )

    def _asked(self, messages: Sequence[Message], seed: int, max_tokens: int) -> str:
        # A line's end that came along when it was copied is no part of the key.
        found = ((name, os.environ.get(name, "").strip()) for name in KEYS)
        name, key = next(((name, key) for name, key in found if key), ("", ""))
        if not (key.isascii() and key.isprintable()):
            raise UserError(f"the key in {name} holds characters that no key has", fix="copy it again")
        asked = {
            "model": self.model,
            "messages": list(map(dict, messages)),
            "max_tokens": max_tokens,
            "seed": seed,
            "temperature": TEMPERATURE,
            "top_p": TOP_P,
            "stream": False,
        }
        if self._structured:
            asked["response_format"] = {"type": "json_object"}
        end = time.monotonic() + self.timeout
        try:
            request = Request(
                self._address,
                json.dumps(asked).encode(),
                {"Content-Type": "application/json", "User-Agent": "retune"},
            )
            if key:
                request.add_header("Authorization", f"Bearer {key}")
            with build_opener(_NoRedirect).open(request, timeout=self.timeout) as answer:
                data = _read(answer, end, LARGEST + 1)
        except HTTPError as error:
            if error.code not in (400, 422) or not self._structured:
                self._refuse(error, end, key)
            # Not every server knows response_format; the instruction asks for JSON anyway.
            self._structured = False
            return self._asked(messages, seed, max_tokens)
        except (OSError, HTTPException, ValueError) as error:
            cause = error.reason if isinstance(error, URLError) else error
            if isinstance(cause, TimeoutError):
                raise _Passing(f"gives no answer within {self.timeout:g} s") from None
            told = gist(cause) if isinstance(cause, Exception) else str(cause)
            raise _Passing(f"cannot be reached ({_printable(told)})") from None
        if len(data) > LARGEST:
            raise _Passing(f"answers with more than {LARGEST // 1_000_000} MB")
        try:
            content = json.loads(data)["choices"][0]["message"]["content"]
        except (ValueError, TypeError, LookupError, RecursionError):
            what = "answers, but not with a chat completion in JSON; does the address end in /v1?"
            raise _Passing(what) from None
        return content if isinstance(content, str) else ""

    @property
    def _address(self) -> str:
        parts = urlsplit(self.url)
        path = parts.path.rstrip("/")
        if not path.endswith("/chat/completions"):
            path += "/chat/completions" if path.endswith("/v1") else "/v1/chat/completions"
        return parts._replace(path=path, fragment="").geturl()

    def _refuse(self, error: HTTPError, end: float, key: str) -> NoReturn:
        """What to say of an answer that is an error; the key is not shown, should the answer repeat it."""
        status = error.code
        try:
            said = _read(error, end, 1000).decode("utf-8", "replace")
        except (OSError, HTTPException):
            said = ""
        if status < 400:
            said = error.headers.get("Location", said)
        said = _printable(said.replace(key, "***") if key else said)[:SHOWN]
        told = f"{status}: {said}" if said else str(status)
        if status in (408, 425, 429) or status >= 500:
            after = error.headers.get("Retry-After", "")
            # It may also be a date, or nonsense.
            seconds = after.isascii() and after.isdigit() and len(after) < 9
            raise _Passing(f"answers with {told}", float(after) if seconds else None)
        what, fix = f"refuses the request ({told})", "try another --max-tokens, or another --model"
        if status < 400:
            what, fix = (
                f"sends its callers elsewhere ({told})",
                "give that address, if you trust it with the key",
            )
        elif status in (401, 403):
            what, fix = f"refuses the key ({told})", f"put a valid key into {KEYS[0]}"
        elif status == 404:
            what = f"knows no model '{self.model}' or no such address ({told})"
            fix = "check the address, which usually ends in /v1, and --model"
        raise UserError(what, where=self.url, fix=fix)


class _NoRedirect(HTTPRedirectHandler):
    """Nobody is followed elsewhere: the key is for the address that the user gave."""

    def redirect_request(self, *_: Any) -> None:
        return None


class _Passing(Exception):
    """Trouble that may be over soon; ``after`` so many seconds, where the server says so."""

    def __init__(self, what: str, after: float | None = None) -> None:
        super().__init__(what)
        self.after = after


def _read(answer: Any, end: float, most: int) -> bytes:
    """At most so many bytes of an answer; the socket's own timeout starts anew with each."""
    data = b""
    while len(data) < most and (more := answer.read1(most - len(data))):
        data += more
        if time.monotonic() > end:
            raise TimeoutError
    return data


def _printable(text: str) -> str:
    """Text of a stranger without what would steer a terminal."""
    return " ".join("".join(c if c.isprintable() else " " for c in text[:1000]).split())
