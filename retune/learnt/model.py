"""The folder of an exported model: what it says, and how it is read though anyone may have made it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import Field, StringConstraints, ValidationError, model_validator

from retune.errors import UserError, mistake
from retune.leaderboard.untrusted import parse, plain_content
from retune.methods.strategy import State
from retune.prompts import PromptBank
from retune.results.result import (
    MODEL_FILE,
    PROMPTS_FILE,
    BackboneRecord,
    Number,
    PromptsRecord,
    Record,
    StrategyRecord,
)
from retune.runner.kept import unpack
from retune.sealed import Untrusted, unsealed

ABOUT_FILE: Final = "retune.json"
SCHEMA: Final = "retune.model/1"
USE: Final = "research use only"
NO_DEVICE: Final = "Research use only: no medical device, not for decisions on patients."
MOST: Final = {ABOUT_FILE: 2**24, PROMPTS_FILE: 2**26, MODEL_FILE: 2**33}
"""Bytes that each file may have."""
AGAIN: Final = "export it again, or fetch it again"

Text = Annotated[str, StringConstraints(min_length=1, max_length=200)]


class RunPart(Record):
    """Which run it is of."""

    id: Text
    created: Text
    seed: int
    steps: Annotated[int, Field(ge=1)]
    versions: dict[str, str]
    threads: Annotated[int, Field(ge=1, le=4096)] | None


class DataPart(Record):
    """What it learnt from: no image, no patient and no folder is named."""

    name: Text
    fingerprint: Text
    synthetic: bool
    scenario: Text
    views: list[Text]
    """Projections that it saw in training, as :mod:`retune.data.views` spells them; none where nobody said."""


class Exported(Record):
    """What ``retune.json`` says."""

    schema_name: Literal["retune.model/1"] = Field(default=SCHEMA, alias="schema")
    use: Literal["research use only"] = USE
    run: RunPart
    data: DataPart
    labels: Annotated[list[Text], Field(min_length=1, max_length=1000)]
    thresholds: list[Number]
    """Of each label, frozen when it was first learnt: what scores as much or more is called; null where it never was."""
    strategy: StrategyRecord
    backbone: BackboneRecord
    prompts: PromptsRecord
    cautions: list[str]
    model_digest: Text

    @model_validator(mode="after")
    def _in_step(self) -> Self:
        if len(set(self.labels)) < len(self.labels):
            raise ValueError("a label stands twice")
        if len(self.thresholds) != len(self.labels):
            raise ValueError(f"{len(self.thresholds)} thresholds for {len(self.labels)} labels")
        return self


@dataclass(frozen=True)
class Taken:
    """An exported model, read and checked; nothing of it has been run.

    Args:
        folder: Where it is.
        about: What it says of itself.
        state: What its strategy learnt.
        bank: Its prompts.
    """

    folder: Path
    about: Exported
    state: State
    bank: PromptBank

    @classmethod
    def read(cls, folder: str | Path) -> Taken:
        """Read an exported model.

        Nothing is followed, imported or unpickled; that what it names fits is for :mod:`retune.learnt.predict` to see.

        Raises:
            UserError: If it is not there, not as it was written, or larger than any honest one.
        """
        folder = Path(folder)
        if folder.is_file():
            raise UserError(
                "is a file", where=str(folder), fix=f"give the folder of an exported model: {folder.parent}"
            )
        path = folder / ABOUT_FILE
        document = parse(_content(path), str(path), most=MOST[ABOUT_FILE])
        if isinstance(document, dict) and document.get("schema") != SCHEMA:
            raise UserError(f"is not of the schema {SCHEMA}", where=str(path), fix=AGAIN)
        try:
            about = Exported.model_validate(unsealed(document, path, fix=AGAIN))
        except ValidationError as error:
            raise UserError(f"is no exported model: {mistake(error)}", where=str(path), fix=AGAIN) from None
        weights, prompts = folder / MODEL_FILE, folder / PROMPTS_FILE
        kept = unpack(_content(weights), weights, "exported model", fix=AGAIN)
        _content(prompts)
        bank = PromptBank.read(prompts, about.prompts.name)
        for file, found, told in (
            (weights, kept.digest, about.model_digest),
            (prompts, bank.fingerprint, about.prompts.fingerprint),
        ):
            if found != told:
                raise Untrusted(f"is not the file that {ABOUT_FILE} tells of", where=str(file), fix=AGAIN)
        return cls(folder, about, kept.state, bank)


def _content(file: Path) -> bytes:
    found = plain_content(file, str(file), most=MOST[file.name])
    if found is None:
        raise UserError(
            "is not there", where=str(file), fix="give a folder that 'retune export RUN --out DIR' wrote"
        )
    return found
