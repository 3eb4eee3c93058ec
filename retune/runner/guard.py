"""Around every call of a strategy: seeds, a time limit, somewhere to print, and blame told in one line."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from retune.errors import RetuneError, StrategyError
from retune.plugins import is_ours, raised
from retune.runner.time_limit import OutOfTime, limited

if TYPE_CHECKING:
    import torch

    from retune.methods.given import Context, Images, Training
    from retune.methods.strategy import State, Strategy


class TooSlow(StrategyError):
    """A strategy took longer than the time limit."""


@dataclass(frozen=True)
class Guard:
    """A strategy at work: whatever it does wrong is a :class:`StrategyError` of one line that names it.

    Args:
        strategy: Which one.
        seconds: The longest that one call may take; None for no limit.
    """

    strategy: Strategy
    seconds: float | None = None

    def setup(self, context: Context) -> None:
        """Prepare it for scoring."""
        with self._called("setup", context.seed):
            self.strategy.setup(context)

    def fit(self, seen: Training, step: int) -> None:
        """Let it learn from experience number ``step``."""
        with self._called(f"fit of experience {step}", seen.seed):
            self.strategy.fit(seen)

    def score(self, images: Images, labels: Sequence[str], step: int) -> torch.Tensor:
        """Its scores of N images after experience number ``step``, checked: (N, C) on the CPU.

        They are ranked in the precision in which they are given: float64 stays so, whatever is narrower becomes
        float32, exactly.

        Args:
            images: What it may see of them.
            labels: Names of the C labels.
            step: 0 before any training.
        """
        import torch

        when = f"after experience {step}" if step else "before training"
        with torch.no_grad(), self._called(f"score {when}", 0):
            given = self.strategy.score(images)
            if not isinstance(given, torch.Tensor):
                self._fail(f"score returned {type(given).__name__}, not a tensor")
            if given.shape != (len(images), len(labels)) or not given.is_floating_point():
                wanted = f"floating-point numbers of shape {(len(images), len(labels))}"
                self._fail(f"score returned {given.dtype} of shape {tuple(given.shape)}, not {wanted}")
            scores = given.detach().cpu()
            scores = scores if scores.dtype == torch.float64 else scores.float()
            odd = (~torch.isfinite(scores)).any(dim=0).nonzero().flatten().tolist()
            if odd:
                which = ", ".join(labels[c] for c in odd[:3]) + (", ..." if len(odd) > 3 else "")
                self._fail(f"score {when} returned NaN or infinity for {which}")
        return scores

    def dense(self, images: Images, step: int) -> torch.Tensor | None:
        """Its maps of N images after experience number ``step``, checked: float32 (N, D, g, g) on the CPU, or None.

        Args:
            images: What it may see of them.
            step: 0 before any training.
        """
        import torch

        with torch.no_grad(), self._called("dense", 0):
            given = self.strategy.dense(images)
            if given is None:
                return None
            if not isinstance(given, torch.Tensor):
                self._fail(f"dense returned {type(given).__name__}, not a tensor")
            square = given.ndim == 4 and len(given) == len(images) and given.shape[2] == given.shape[3]
            if not square or not given.is_floating_point():
                wanted = f"floating-point numbers of shape ({len(images)}, D, g, g)"
                self._fail(f"dense returned {given.dtype} of shape {tuple(given.shape)}, not {wanted}")
            maps = given.detach().cpu().float()
            if not torch.isfinite(maps).all():
                when = f"after experience {step}" if step else "before training"
                self._fail(f"dense {when} returned NaN or infinity")
        return maps

    def state(self) -> State:
        """Its state, checked: tensors and JSON, and nothing of single images unless it says so."""
        import torch

        from retune.methods.memory import PREFIX

        with self._called("state_dict", 0):
            state = self.strategy.state_dict()
            if not isinstance(state, Mapping) or not all(isinstance(key, str) for key in state):
                self._fail("state_dict returned no dictionary whose keys are text")
            for key, value in state.items():
                if not isinstance(value, torch.Tensor):
                    self._require_json(value, f"'{key}' of state_dict")
            kept = [key for key in state if key.startswith(PREFIX)]
            if kept and not self.strategy.keeps_samples:
                self._fail(f"state_dict holds '{kept[0]}' though keeps_samples is False; set it to True")
        return dict(state)

    def resume(self, state: State) -> None:
        """Take up a state of its own."""
        with self._called("load_state_dict", 0):
            self.strategy.load_state_dict(state)

    def trained(self) -> int:
        """How many parameters it says it trained."""
        with self._called("trainable_parameters", 0):
            given = self.strategy.trainable_parameters()
        if not isinstance(given, int):
            self._fail(f"trainable_parameters returned {type(given).__name__}, not a whole number")
        return given

    def diagnostics(self) -> dict[str, Any]:
        """What it says of itself, checked: JSON."""
        with self._called("diagnostics", 0):
            told = dict(self.strategy.diagnostics())
            self._require_json(told, "diagnostics")
        return told

    @contextmanager
    def _called(self, doing: str, seed: int) -> Iterator[None]:
        # Torch is imported only when there is work to do.
        from retune.methods.training import isolated

        try:
            with stdout_to_stderr(), isolated(seed), attributed(self.strategy, doing), limited(self.seconds):
                yield
        except OutOfTime:
            raise TooSlow(
                f"strategy {self.strategy.name}: {doing} took longer than the time limit of {self.seconds:g} s; "
                "what was finished is kept, and the same command with a larger --time-limit continues"
            ) from None

    def _require_json(self, value: Any, what: str) -> None:
        try:
            same = json.loads(json.dumps(value, allow_nan=False)) == value
        except (TypeError, ValueError) as error:
            self._fail(f"{what} is not JSON ({error})")
        if not same:
            self._fail(f"{what} comes back from JSON as something else: a tuple as a list, the key 1 as '1'")

    def _fail(self, what: str) -> NoReturn:
        raise StrategyError(f"strategy {self.strategy.name}: {what}{_check(self.strategy)}")


@contextmanager
def stdout_to_stderr() -> Iterator[None]:
    """Send what a plugin prints to standard error: standard output is for results."""
    with redirect_stdout(sys.stderr):
        yield


@contextmanager
def attributed(strategy: Strategy | type[Strategy], doing: str) -> Iterator[None]:
    """Say in one line where a strategy failed.

    Args:
        strategy: Which one, or its class.
        doing: What it was asked to do.

    Raises:
        StrategyError: If it raised anything; what retune itself raises on purpose passes.
    """
    name = getattr(strategy, "name", strategy.__class__.__name__)
    try:
        yield
    except StrategyError as error:
        known = str(error).startswith(f"strategy {name}")
        raise StrategyError(str(error) if known else f"strategy {name}, {doing}: {error}") from error
    except RetuneError:
        raise
    except (Exception, SystemExit) as error:
        raise StrategyError(f"strategy {name} failed in {doing}: {raised(error, strategy)}") from error


def _check(strategy: Strategy) -> str:
    """How the author of a strategy's file finds out more."""
    home = type(strategy).__module__
    file = getattr(sys.modules.get(home), "__file__", None)
    if file is None or home == "__main__" or is_ours(strategy):
        return ""
    here = Path.cwd() in Path(file).parents
    return f"; 'retune check {Path(file).relative_to(Path.cwd()) if here else file}' finds such things"
