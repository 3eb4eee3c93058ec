"""A prompt bank written by a language model, every sentence judged before it is kept."""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Final

from filelock import FileLock, Timeout

from retune.data.findings import FINDINGS, canonical
from retune.errors import BadSetting, RetuneError, RunConflict, UnknownName
from retune.files import make_folder, storing, write_whole
from retune.progress import Progress, silent
from retune.prompts.bank import POLARITIES, Polarity, Prompt, PromptBank, Source
from retune.prompts.negation import folded, malformed
from retune.prompts.writer.llm import LanguageModel, LocalModel
from retune.prompts.writer.replies import judged, strings

MOST: Final = 100
"""Prompts of one polarity that can be asked for."""
PATIENCE: Final = 3
"""A model that fails so many times in a row, each time after all attempts, is asked no more."""

_STYLE: Final = (
    "Each reads like a radiology report and is at most 25 words long. Vary the wording, the synonyms, the anatomical "
    "location and the severity; repeat no sentence; give no patient data."
)
_OPENING: Final = "Write {n} sentences that a radiologist would dictate in a chest radiograph report when"
INSTRUCTIONS: Final[dict[Polarity, str]] = {
    "positive": f"{_OPENING} {{finding}} is present. Use no negation and name no other finding. {_STYLE}",
    "negative": f"{_OPENING} {{finding}} is absent. Each clearly negates {{finding}}, or describes the normal state "
    f"that rules it out, and names no other finding. {_STYLE}",
}
"""What is asked for, by polarity."""
OF_NORMAL: Final[dict[Polarity, str]] = {
    "positive": f"{_OPENING} the study is normal. Describe normal structures and name no finding. {_STYLE}",
    "negative": f"{_OPENING} the study is abnormal, whatever the abnormality is: each calls it abnormal and names no "
    f"particular finding. {_STYLE}",
}
"""The same for *No Finding*."""
FORM: Final = 'Answer with a JSON object {"sentences": [...]} that holds {n} strings, and with nothing else.'


class NoValidPrompts(RetuneError):
    """A language model whose replies were no valid prompts after all attempts."""


@dataclass(frozen=True)
class Group:
    """The prompts of one polarity for one finding: written whole or not at all."""

    finding: str
    polarity: Polarity

    def __str__(self) -> str:
        return f"{self.finding} ({self.polarity})"


@dataclass(frozen=True)
class Generated:
    """What came of a generation.

    Args:
        path: The bank.
        written: Groups written now.
        kept: Groups that were there already.
        failed: Groups without valid prompts after all attempts, with what was wrong at last.
        not_asked: Groups that the model was not asked for, because it failed too often in a row.
        replies: How many replies it took.
    """

    path: Path
    written: tuple[Group, ...]
    kept: tuple[Group, ...]
    failed: tuple[tuple[Group, str], ...]
    not_asked: tuple[Group, ...]
    replies: int

    def require_all(self) -> None:
        """See that everything asked for is there.

        Raises:
            NoValidPrompts: If a group is not; names the first, and what was wrong with it.
        """
        if self.failed:
            (group, wrong), more = self.failed[0], len(self.failed) + len(self.not_asked) - 1
            groups = "group" if more == 1 else "groups"
            others = f", and so for {more} other {groups}" if more else ""
            raise NoValidPrompts(
                f"{self.path}: the model gives too few valid prompts for {group}: {wrong}{others}; "
                "complete groups are kept; try more --attempts, another --instruction or another model"
            )


@dataclass(frozen=True)
class Request:
    """What is asked of a language model.

    Args:
        findings: Findings to write about, by canonical or own name.
        per_polarity: Prompts of each polarity.
        seed: What everything drawn depends on.
        attempts: Replies that a group may take.
        instruction: The user's own, with ``{finding}`` and ``{state}`` (present or absent), and ``{n}`` if wanted.
        max_tokens: Longest reply.

    Raises:
        BadSetting: If a value is impossible.
        UnknownName: If a finding is nearly, but not quite, a canonical one.
    """

    findings: tuple[str, ...]
    per_polarity: int = 10
    seed: int = 0
    attempts: int = 3
    instruction: str | None = None
    max_tokens: int = 2048

    def __post_init__(self) -> None:
        object.__setattr__(self, "findings", tuple(dict.fromkeys(map(_finding, self.findings))))
        if not self.findings:
            raise BadSetting("no finding is named", where="--finding", fix="name one, or give --all")
        for name, most in (("per_polarity", MOST), ("attempts", 100), ("max_tokens", 10**6)):
            if not 1 <= getattr(self, name) <= most:
                raise BadSetting(f"must be 1 to {most}", where="--" + name.replace("_", "-"))
        if self.seed < 0:
            raise BadSetting("must not be negative", where="--seed")
        lacks = [
            p for p in ("{finding}", "{state}") if self.instruction is not None and p not in self.instruction
        ]
        if lacks:
            fix = "write {finding} for its name and {state} for present or absent"
            raise BadSetting(f"has no {' and no '.join(lacks)}", where="--instruction", fix=fix)

    @property
    def groups(self) -> tuple[Group, ...]:
        """What there is to write, in order."""
        return tuple(Group(finding, polarity) for finding in self.findings for polarity in POLARITIES)

    def text(self, group: Group) -> str:
        """The whole instruction for a group, as it is sent and recorded."""
        own = OF_NORMAL if group.finding == "No Finding" else INSTRUCTIONS
        template = self.instruction or own[group.polarity]
        state = "present" if group.polarity == "positive" else "absent"
        filled = f"{template.strip()} {FORM}".replace("{n}", str(self.per_polarity)).replace("{state}", state)
        return filled.replace("{finding}", group.finding)


def generate(
    out: str | Path,
    llm: LanguageModel,
    request: Request,
    *,
    today: str | None = None,
    progress: Progress = silent,
) -> Generated:
    """Ask a language model for prompts and add them to a bank, whole groups at a time.

    Groups that are there already, of the same model, instruction and seed, are not asked for again, so the
    same call continues an interrupted one. What a group is asked with depends on no other group.

    Args:
        out: The bank, ``.jsonl``; made if it is not there.
        llm: Who writes.
        request: What to write.
        today: The date to record; by default that of the day.
        progress: Told how many groups are done.

    Raises:
        RunConflict: If a group is there already, but of another source, or another process writes to the bank.
        RetuneError: If the model cannot be asked; what was written is kept.
    """
    path = Path(out).expanduser()
    if path.suffix != ".jsonl":
        raise BadSetting(f"'{out}' does not end in .jsonl", where="--out", fix="write --out BANK.jsonl")
    make_folder(path.parent)
    with _alone(path):
        bank = list(PromptBank.read(path).prompts) if path.exists() else []
        kept = _kept(path, bank, llm, request)
        todo = [group for group in request.groups if group not in kept]
        written: list[Group] = []
        failed: list[tuple[Group, str]] = []
        replies, in_a_row = 0, 0
        for i, group in enumerate(todo):
            if in_a_row == PATIENCE:
                break
            progress("asking", i, len(todo))
            texts, wrong, asked = _ask(llm, group, request, [p for p in bank if p.finding == group.finding])
            replies += asked
            in_a_row = in_a_row + 1 if wrong else 0
            if wrong:
                failed.append((group, wrong))
                continue
            day = today or date.today().isoformat()
            source = Source(llm.name, request.text(group), day, "language-model", request.seed)
            new = [Prompt(group.finding, group.polarity, text, source) for text in texts]
            _append(path, new)
            bank += new
            written.append(group)
        progress("asking", len(todo), max(len(todo), 1))
    rest = todo[len(written) + len(failed) :]
    return Generated(path, tuple(written), tuple(kept), tuple(failed), tuple(rest), replies)


def _ask(
    llm: LanguageModel, group: Group, request: Request, there: Sequence[Prompt]
) -> tuple[list[str], str, int]:
    """Valid sentences as many as wanted, or what was wrong at last; and the replies that it took."""
    n, good = request.per_polarity, list[str]()
    # Only the same sentence is a fault across polarities: one word may make the difference there.
    opposite = {folded(prompt.text) for prompt in there}
    wrong = ""
    instruction = request.text(group)
    for attempt in range(request.attempts):
        ask = instruction if not attempt else f"{instruction}\n\n{_again(wrong, good, n)}"
        seed = _seed(request.seed, group, attempt)
        reply = llm.reply([{"role": "user", "content": ask}], seed=seed, max_tokens=request.max_tokens)
        try:
            valid, faults = judged(group.finding, group.polarity, strings(reply), good)
        except ValueError as error:
            wrong = str(error)
            continue
        good += [text for text in valid if folded(text) not in opposite]
        if len(good) >= n:
            return good[:n], "", attempt + 1
        wrong = "; ".join(faults[:10]) or f"the reply holds {len(valid)} valid sentences"
    return [], f"{len(good)} of {n} sentences are valid; {wrong}", request.attempts


def _again(wrong: str, good: Sequence[str], n: int) -> str:
    """What is said to a model whose last reply was not good enough."""
    said = f"Your last answer was refused: {wrong}."
    if good:
        said += f" Do not repeat these, which are good: {json.dumps(list(good), ensure_ascii=False)}."
        said += f" Write {n - len(good)} more."
    return said


def _seed(seed: int, group: Group, attempt: int) -> int:
    """A seed of 31 bits of each attempt's own."""
    about = f"{seed}\n{group.finding}\n{group.polarity}\n{attempt}"
    return int.from_bytes(hashlib.sha256(about.encode()).digest()[:4], "big") >> 1


def _finding(name: str) -> str:
    given = name.strip()
    if wrong := malformed(given):
        raise BadSetting(
            f"the name of a finding {wrong}", where="--finding", fix="write a name, e.g. 'Edema'"
        )
    known = canonical(given)
    if known is None and difflib.get_close_matches(
        given.casefold(), map(str.casefold, FINDINGS), cutoff=0.85
    ):
        raise UnknownName("finding", given, FINDINGS, where="--finding")
    return known or given


def _kept(path: Path, bank: Sequence[Prompt], llm: LanguageModel, request: Request) -> list[Group]:
    """Groups that are in the bank; they must come of the same request."""
    wanted = set(request.groups)
    kept: dict[Group, None] = {}
    for prompt in bank:
        group = Group(prompt.finding, prompt.polarity)
        if group not in wanted:
            continue
        for what, there, here in (
            ("model", prompt.source.model, llm.name),
            ("seed", prompt.source.seed, request.seed),
            ("instruction", prompt.source.instruction, request.text(group)),
        ):
            if there != here:
                told = f" ({json.dumps(there)}, not {json.dumps(here)})" if what != "instruction" else ""
                raise RunConflict(
                    f"holds {group} of another {what}{told}",
                    where=str(path),
                    fix="choose another --out, or repeat the command that began it",
                )
        kept[group] = None
    return list(kept)


def _append(path: Path, prompts: Sequence[Prompt]) -> None:
    before = path.read_bytes() if path.exists() else b""
    if before and not before.endswith(b"\n"):
        before += b"\n"
    write_whole(path, [before, *(prompt.line for prompt in prompts)])


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Keep other processes from writing to the same bank."""
    lock = FileLock(path.with_name(f".{path.name}.lock"))
    with storing(path):
        try:
            lock.acquire(timeout=0)
        except Timeout:
            fix = "wait for it, or choose another --out"
            raise RunConflict("another process is writing to it", where=str(path), fix=fix) from None
    try:
        yield
    finally:
        lock.release()
        Path(lock.lock_file).unlink(missing_ok=True)


def open_llm(
    spec: str, *, model: str | None = None, timeout: float = 120.0, device: str = "auto"
) -> LanguageModel:
    """Make a language model; nothing is loaded or asked yet.

    Args:
        spec: ``local-dir:PATH``, ``hf-hub:ORG/REPO`` or ``http(s)://HOST/v1``.
        model: The model's name at an endpoint.
        timeout: Seconds that an endpoint may take for one reply.
        device: Where a local model works.

    Raises:
        BadSetting: If the name is none of these, or the endpoint's model is not named.
    """
    if spec.startswith(("http://", "https://")):
        if not model:
            raise BadSetting("an endpoint may serve many models", where="--llm", fix="name one with --model")
        from retune.prompts.writer.endpoint import Endpoint

        return Endpoint(spec, model, timeout=timeout)
    scheme, _, rest = spec.partition(":")
    if scheme not in ("local-dir", "hf-hub") or not rest:
        fix = "write local-dir:PATH, hf-hub:ORG/REPO or http(s)://HOST/v1"
        raise BadSetting(f"'{spec}' names no language model", where="--llm", fix=fix)
    if model is not None:
        raise BadSetting("only an endpoint needs it", where="--model", fix="leave it out")
    return LocalModel(spec, device)
