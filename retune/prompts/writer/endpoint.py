"""A language model behind an endpoint that speaks OpenAI's chat-completions protocol."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from retune.backbones.quiet import gist, quiet
from retune.errors import BadSetting, MissingPackage, RetuneError, UserError
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
        from huggingface_hub import InferenceClient
        from huggingface_hub.errors import InferenceTimeoutError

        # Without any key the client would send the user's own key of the Hugging Face hub.
        # A line's end that came along when it was copied is no part of it.
        found = ((name, os.environ.get(name, "").strip()) for name in KEYS)
        name, key = next(((name, key) for name, key in found if key), ("", "none"))
        if not (key.isascii() and key.isprintable()):
            raise UserError(f"the key in {name} holds characters that no key has", fix="copy it again")
        form: Any = {"type": "json_object"} if self._structured else None
        try:
            with _bounded(self.timeout, key if name else ""):
                answer = InferenceClient(
                    base_url=self.url, api_key=key, timeout=self.timeout
                ).chat_completion(
                    [dict(message) for message in messages],
                    model=self.model,
                    max_tokens=max_tokens,
                    seed=seed,
                    temperature=TEMPERATURE,
                    top_p=TOP_P,
                    response_format=form,
                )
            content = answer.choices[0].message.content
        except (InferenceTimeoutError, TimeoutError):
            raise _Passing(f"gives no answer within {self.timeout:g} s") from None
        except _Refusal as refusal:
            return self._refused(refusal, messages, seed, max_tokens)
        except _TooLarge:
            raise _Passing(f"answers with more than {LARGEST // 1_000_000} MB") from None
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
            raise _Passing(
                "answers, but not with a chat completion in JSON; does the address end in /v1?"
            ) from None
        except RetuneError:
            raise
        except Exception as error:
            # Which errors a broken connection raises depends on the client's version.
            raise _Passing(f"cannot be reached ({_printable(gist(error))})") from None
        return content if isinstance(content, str) else ""

    def _refused(self, refusal: _Refusal, messages: Sequence[Message], seed: int, max_tokens: int) -> str:
        """What to do about an answer that is an error: ask more simply, ask later, or give up."""
        status = refusal.status
        if status in (400, 422) and self._structured:
            # Not every server knows response_format; the instruction asks for JSON anyway.
            self._structured = False
            return self._asked(messages, seed, max_tokens)
        if status in (408, 425, 429) or status >= 500:
            raise _Passing(f"answers with {refusal}", refusal.after)
        if status in (401, 403):
            raise UserError(
                f"refuses the key ({refusal})", where=self.url, fix=f"put a valid key into {KEYS[0]}"
            )
        if status == 404:
            fix = "check the address, which usually ends in /v1, and --model"
            raise UserError(
                f"knows no model '{self.model}' or no such address ({refusal})", where=self.url, fix=fix
            )
        fix = "try another --max-tokens, or another --model"
        raise UserError(f"refuses the request ({refusal})", where=self.url, fix=fix)


class _Refusal(Exception):
    """An answer that is an error: its status and what it says; a Retry-After in seconds where there is one."""

    def __init__(self, status: int, said: str, after: float | None) -> None:
        super().__init__(f"{status}: {said}" if said else str(status))
        self.status, self.after = status, after


class _Passing(Exception):
    """Trouble that may be over soon; ``after`` so many seconds, where the server says so."""

    def __init__(self, what: str, after: float | None = None) -> None:
        super().__init__(what)
        self.after = after


class _TooLarge(Exception):
    """An answer of more than LARGEST bytes."""


@contextmanager
def _bounded(timeout: float, key: str) -> Iterator[None]:
    """Let the hub's client read no answer beyond a size and a time; its own timeout starts anew with each byte.

    Args:
        timeout: Seconds.
        key: Not to be shown, should an answer repeat it.
    """
    import huggingface_hub

    session: Any = huggingface_hub.get_session()
    if not hasattr(session, "event_hooks"):
        what = "endpoints need the package huggingface_hub in version 1 or newer"
        raise MissingPackage(what, fix="pip install -U huggingface_hub transformers")
    end = time.monotonic() + timeout

    def watch(response: Any) -> None:
        read = response.iter_bytes

        def watched(*arguments: Any) -> Iterator[bytes]:
            size = 0
            for chunk in read(*arguments):
                size += len(chunk)
                if size > LARGEST:
                    raise _TooLarge
                if time.monotonic() > end:
                    raise TimeoutError
                yield chunk

        response.iter_bytes = watched
        if response.status_code >= 400:
            # Told here, because the hub's client trusts the body of an error to be what the hub would send.
            said = next(response.iter_bytes(1000), b"").decode("utf-8", "replace")
            told = _printable(said.replace(key, "***") if key else said)[:SHOWN]
            raise _Refusal(response.status_code, told, _seconds(response.headers))

    before = session.event_hooks
    session.event_hooks = {**before, "response": [*before.get("response", []), watch]}
    try:
        with quiet():
            yield
    finally:
        session.event_hooks = before


def _seconds(headers: Mapping[str, str]) -> float | None:
    """A Retry-After in seconds; None for one that is a date, nonsense or not there."""
    text = headers.get("Retry-After", "")
    return float(text) if text.isascii() and text.isdigit() and len(text) < 9 else None


def _printable(text: str) -> str:
    """Text of a stranger without what would steer a terminal."""
    return " ".join("".join(c if c.isprintable() else " " for c in text[:1000]).split())
