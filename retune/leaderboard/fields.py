"""What may stand in a file that a stranger wrote: text without markup, links that are links, finite numbers."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

MARKUP: Final = re.compile(r"[<>`]|(?:javascript|vbscript)\s*:|data:\S", re.IGNORECASE)
UNSEEN: Final = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
"""Letters and marks that show nothing, though Unicode does not count them among blanks and controls."""
MARKS: Final = 3
"""Accents on one letter; more are written over the lines above and below."""
DEPTH: Final = 5
"""How deep the value of a setting may be nested."""
ITEMS: Final = 500
"""How many values a setting may hold, at any depth."""
LONGEST: Final = 300
"""Letters of a line."""
LARGEST: Final = 1e15
"""More than anything can cost or count."""


class Part(BaseModel):
    """A part of a submission: no field but those that are known, no type but the one that is meant."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        frozen=True,
        allow_inf_nan=False,
        protected_namespaces=(),
    )


def plain_text(text: str) -> str:
    """A line that shows as it is written.

    Raises:
        ValueError: If it holds markup, a script's address, or a character that cannot be seen or turns text around.
    """
    kinds = "".join(unicodedata.category(c)[0] for c in text)
    for c, kind in zip(text, kinds, strict=True):
        if (kind in "CZ" and c != " ") or UNSEEN.match(c):
            raise ValueError(f"holds the unprintable character U+{ord(c):04X}")
    if kinds.startswith("M") or "M" * (MARKS + 1) in kinds:
        raise ValueError("holds accents that are not on a letter of its own")
    found = MARKUP.search(text)
    if found:
        raise ValueError(f"holds '{found[0]}', and text in an entry may hold no markup and no script")
    if text != text.strip():
        raise ValueError("begins or ends with a blank")
    if text != unicodedata.normalize("NFC", text):
        raise ValueError("holds characters that are not composed (Unicode NFC)")
    return text


def written(pattern: str, meaning: str) -> Callable[[str], str]:
    """A check of text as a whole, that says in words what is meant.

    Args:
        pattern: A regular expression.
        meaning: What it matches.
    """

    def check(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError(f"is not {meaning}")
        return text

    return check


def web_address(text: str) -> str:
    """An address that a reader may follow.

    Raises:
        ValueError: If it is not plain http or https to a named host.
    """
    if not re.fullmatch(r"[!-~]+", text) or re.search(r"[\"'<>\\^`{|}]", text):
        raise ValueError("is no web address: it holds a character that none may hold")
    parts = urlsplit(text)
    _ = parts.port
    if parts.scheme not in ("http", "https"):
        raise ValueError(f"is no web address: only http and https links are taken, not '{parts.scheme}:'")
    if not re.fullmatch(r"(?:[A-Za-z0-9-]+\.)+[A-Za-z][A-Za-z0-9-]*", parts.hostname or ""):
        raise ValueError("is no web address: it names no host")
    if parts.username is not None or parts.password is not None:
        raise ValueError("is no web address to publish: it holds a user name")
    return text


def plain_settings(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings whose values are JSON, neither deep nor many, their text plain.

    Raises:
        ValueError: If one is anything else.
    """
    left = ITEMS

    def look(one: Any, depth: int) -> None:
        nonlocal left
        left -= 1
        if depth > DEPTH or left < 0:
            raise ValueError("is nested too deeply or holds too many values")
        texts = [one] if isinstance(one, str) else list(one) if isinstance(one, dict) else []
        for text in texts:
            if len(text) > 500:
                raise ValueError("holds text of more than 500 characters")
            plain_text(text)
        if isinstance(one, dict | list):
            for inner in one.values() if isinstance(one, dict) else one:
                look(inner, depth + 1)
        elif isinstance(one, int | float):
            if not abs(one) < 1e300:
                raise ValueError("holds a number that is not finite")
        elif not (one is None or isinstance(one, str)):
            raise ValueError(f"holds {type(one).__name__}, which is not JSON")

    look(settings, 0)
    return settings


def in_ascii(text: str, length: int = 200) -> str:
    """Text of a stranger's as any terminal may show it: ASCII, on one line, not long."""
    plain = re.sub(r"[^ -~]", "?", text)
    return plain if len(plain) <= length else plain[:length] + "..."


def shortened(text: str) -> str:
    """Text cut to what a line may hold."""
    return text if len(text) <= LONGEST else text[: LONGEST - 3].rstrip() + "..."


def slug(name: str) -> str:
    """A name as a part of a folder's: small letters, digits and dashes; ``der++`` is ``der-plus-plus``."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower().replace("+", "-plus ")).strip("-")


Line = Annotated[str, Field(min_length=1, max_length=LONGEST), AfterValidator(plain_text)]
"""A line of text."""
Name = Annotated[
    str,
    Field(max_length=60),
    AfterValidator(
        written(r"[A-Za-z0-9][A-Za-z0-9 .,:+()/_-]*", "a name of Latin letters, digits and .,:+()/_-")
    ),
    AfterValidator(plain_text),
]
"""A method's name: letters that cannot be mistaken for others."""
Version = Annotated[
    str,
    Field(max_length=20),
    AfterValidator(
        written(r"[0-9]+(\.[0-9]+)*", "a version: write numbers with points between, like 2 or 1.1")
    ),
]
Slug = Annotated[str, Field(max_length=100, pattern=r"^[a-z0-9]+(?:[-.][a-z0-9]+)*$")]
Link = Annotated[str, Field(max_length=300), AfterValidator(web_address)]
Hex = Annotated[str, Field(max_length=64, pattern=r"^[0-9a-f]{8,64}$")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Count = Annotated[int, Field(ge=0, le=int(LARGEST))]
Seconds = Annotated[float, Field(ge=0, le=LARGEST)]
Share = Annotated[float, Field(ge=0, le=1)] | None
"""Between 0 and 1; null where undefined."""
Signed = Annotated[float, Field(ge=-1, le=1)] | None
Settings = Annotated[dict[str, Any], AfterValidator(plain_settings)]
