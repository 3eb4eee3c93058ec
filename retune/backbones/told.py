"""What goes wrong over a model's files, in whatever library, is told in one line."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property, wraps
from pathlib import Path
from typing import Any, Final, TypeVar

from retune.errors import RetuneError, UserError, gist

_PICTURES: Final = "cannot encode pictures", "configuration and its image processor's settings"
_TEXTS: Final = "cannot encode texts", "configuration and its tokenizer's files"
_ITSELF: Final = "does not say what it is", "configuration"
_ASKED: Final = {
    "card": _ITSELF,
    "capabilities": _ITSELF,
    "parameters": _ITSELF,
    "fingerprint": _ITSELF,
    "preprocess": _PICTURES,
    "encode_images": _PICTURES,
    "encode_tokens": _PICTURES,
    "image_tower": _PICTURES,
    "encode_texts": _TEXTS,
    "encode_words": _TEXTS,
    "text_path": _TEXTS,
}
"""What a backbone is asked; what to say where it fails, and which files to look at."""
_GIVEN: Final = {
    "card": ("BackboneCard",),
    "capabilities": ("frozenset", "set"),
    "parameters": ("int",),
    "fingerprint": ("str",),
    "preprocess": ("Tensor",),
    "encode_images": ("Tensor",),
    "encode_texts": ("Tensor",),
}
"""Of what class the answers are, by name: torch is not imported for it."""

Made = TypeVar("Made", bound=type[Any])


@contextmanager
def told(what: str, where: str, fix: str | None = None, *, behind: Path | None = None) -> Iterator[None]:
    """Tell in one line whatever is raised.

    Args:
        what: What does not work.
        where: The model, or the file.
        fix: What to do about it.
        behind: A folder that stands for ``where`` and that nobody knows.

    Raises:
        UserError: With ``what`` and the gist of the error.
    """
    try:
        yield
    except RetuneError:
        raise
    except BaseException as error:
        # A panic of tokenizers is no Exception.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        said = gist(error)
        if behind is not None:
            said = said.replace(str(behind), where)
        raise UserError(f"{what} ({said})", where=where, fix=None if "memory" in said else fix) from error


def in_one_line(backbone: Made, called: str = "") -> Made:
    """Let a backbone tell what goes wrong in it, whatever it is asked: once for a class, however often it is asked for.

    Files that contradict each other are found out at the last moment, by whichever library stumbles first.

    Args:
        backbone: The class; of one that is made of a model's files, its ``source`` is named in messages.
        called: Of a plugin, its name, which is named instead.
    """
    if "told_in_one_line" in vars(backbone):
        return backbone
    for name, (what, files) in _ASKED.items():
        found = backbone.__dict__.get(name)
        fix = f"see that its {files} are those that came with its weights"
        fix = f"retune check backbone {called}" if called else fix
        if isinstance(found, cached_property):
            made: Any = cached_property(_guarded(found.func, what, fix, called))
            made.__set_name__(backbone, name)
        elif isinstance(found, property):
            made = property(_guarded(found.fget, what, fix, called))
        elif callable(found):
            made = _guarded(found, what, fix, called)
        else:
            if called and name in backbone.__dict__:
                with told(what, f"backbone {called}", fix):
                    _require_kind(name, found)
            continue
        setattr(backbone, name, made)
    backbone.told_in_one_line = True
    return backbone


def _guarded(method: Any, what: str, fix: str, called: str) -> Callable[..., Any]:
    @wraps(method)
    def guarded(self: Any, *args: Any, **options: Any) -> Any:
        with told(what, f"backbone {called}" if called else self.source, fix):
            try:
                found = method(self, *args, **options)
            except NotImplementedError as error:
                lacks = error
            else:
                _require_kind(method.__name__, found)
                return found
        # What a backbone does not declare is the caller's mistake, and no file's.
        raise lacks

    return guarded


def _require_kind(name: str, found: object) -> None:
    wanted = _GIVEN.get(name, ())
    if wanted and not {cls.__name__ for cls in type(found).__mro__}.intersection(wanted):
        raise TypeError(f"{name} gave {type(found).__name__}, not {' or '.join(wanted)}")
