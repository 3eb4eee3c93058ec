"""What a language model's reply is worth: the list in it, and which of its sentences may enter a bank."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

from retune.prompts.bank import Polarity
from retune.prompts.negation import ALIKE, fault, folded, likeness, malformed, others

LONGEST_REPLY: Final = 100_000
"""Characters of a reply from which it is refused unread."""


def strings(reply: str) -> list[Any]:
    """The first JSON array in a reply.

    Raises:
        ValueError: If there is none, saying why.
    """
    if len(reply) > LONGEST_REPLY:
        raise ValueError(f"the reply is longer than {LONGEST_REPLY:,} characters")
    if not reply.strip():
        raise ValueError("the reply is empty")
    # A model that thinks aloud does so before it answers.
    answer = reply.rpartition("</think>")[2]
    start, decoder = -1, json.JSONDecoder()
    for _ in range(50):
        start = answer.find("[", start + 1)
        if start < 0:
            break
        try:
            found = decoder.raw_decode(answer, start)[0]
        except RecursionError:
            break
        except ValueError:
            continue
        assert isinstance(found, list)
        return found
    raise ValueError("the reply holds no JSON list of strings")


def judged(
    finding: str, polarity: Polarity, found: Sequence[Any], taken: Sequence[str]
) -> tuple[list[str], list[str]]:
    """What of a reply may enter a bank.

    Args:
        finding: What was asked about.
        polarity: What the sentences should say of it.
        found: What the reply's list holds.
        taken: Sentences that there are already.

    Returns:
        The valid sentences, and what is wrong with each of the others.
    """
    good: list[str] = []
    faults: list[str] = []
    for number, item in enumerate(found, start=1):
        if not isinstance(item, str):
            faults.append(f"element {number} is not a string")
            continue
        text = item.strip()
        wrong = _wrong(finding, polarity, text, [*taken, *good])
        if wrong is None:
            good.append(text)
        else:
            shown = json.dumps(text[:100])
            faults.append(f"sentence {number} {wrong}: {shown}")
    return good, faults


def _wrong(finding: str, polarity: Polarity, text: str, taken: Sequence[str]) -> str | None:
    wrong = malformed(text)
    if wrong is None:
        says = fault(finding, polarity, text)
        wrong = f"{says} {finding}" if says in ("negates", "does not negate") else says
    if wrong is None and (named := others(finding, text)):
        wrong = f"names another finding ({', '.join(named)})"
    if wrong is None and any(folded(text) == folded(t) or likeness(text, t) >= ALIKE for t in taken):
        wrong = "repeats another sentence"
    return wrong
