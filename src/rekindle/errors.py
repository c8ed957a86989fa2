"""What can go wrong, in words that help: what / got / wanted / why / what to do.

Every error that a user can cause or mend is a `RekindleError`; the command line prints it without a
traceback and exits with its `exit_code`. Each also inherits the standard type that it stands for,
so library callers may catch either.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

EXIT_USER_ERROR = 2  # a RekindleError reached the command line
# SIGTERM, SIGINT, or a server that is away: what is done is kept, `--resume` goes on (EX_TEMPFAIL)
EXIT_RESUMABLE = 75


class RekindleError(Exception):
    """An expected failure, told in up to five parts.

    Args:
        what: the subject and what is wrong with it, e.g. `"grpo.group_size is too small"`.
        got: the offending value, as it was found (shown shortened).
        wanted: what would have been accepted.
        why: the reason for the rule.
        fix: what to do now.

    Attributes:
        exit_code: the command line's where this error ends it.
    """

    exit_code = EXIT_USER_ERROR

    def __init__(
        self,
        what: str,
        *,
        got: object = None,
        wanted: object = None,
        why: str | None = None,
        fix: str | None = None,
    ) -> None:
        self.what, self.got, self.wanted, self.why, self.fix = what, got, wanted, why, fix
        shown = None if got is None else _shorten(got)
        parts = {"got": shown, "wanted": wanted, "why": why, "do": fix}
        lines = [f"  {f'{name}:':<7} {part}" for name, part in parts.items() if part is not None]
        super().__init__("\n".join([what, *lines]))


class ConfigError(RekindleError, ValueError):
    """A recipe, option or combination of options that is not valid."""


class DataError(RekindleError, ValueError):
    """A file, row, prompt or answer that cannot be used; names the file and line or the problem."""


class PromptTooLongError(DataError):
    """A prompt that fills the model's context."""


class ModelError(RekindleError, ValueError):
    """A model or tokenizer that cannot be loaded or cannot do what is asked."""


class TrainingError(RekindleError, RuntimeError):
    """A run that had to stop: non-finite step, too many missing scores, ..."""


class MemoryExhaustedError(TrainingError):
    """A step that does not fit into the memory; weights and optimizer are as before it."""


class RewardFunctionError(RekindleError, ValueError):
    """A reward in Python that raised, or returned something else than one score an answer."""


class ServerError(RekindleError, ConnectionError):
    """A reward model, judge or other server that gave no usable answer."""


class ServerUnavailableError(ServerError):
    """A server that cannot be reached now; the run pauses and can be resumed."""

    exit_code = EXIT_RESUMABLE


class ServerRefusedError(ServerError):
    """A server that takes the request, its key or its account for a wrong one: no retry helps."""


class RunDirectoryError(RekindleError, OSError):
    """A run directory that exists, is locked, does not match, or cannot be written."""


class CheckpointError(RekindleError, OSError):
    """A checkpoint that is torn, altered or of another run."""


class MissingExtraError(RekindleError, ImportError):
    """An optional dependency is needed; the message has the exact pip command."""


def missing_extra(package: str, *, extra: str, needed_for: str) -> MissingExtraError:
    """The error for an optional dependency that is not installed."""
    return MissingExtraError(
        f"{needed_for} needs the package '{package}', which is not installed",
        fix=f"pip install 'rekindle[{extra}]'",
    )


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The list of what exists, after `"Did you mean 'x'?"` for a near miss."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    near = f"Did you mean '{close[0]}'? " if close else ""
    return f"{near}What exists: {', '.join(names)}."


def _shorten(value: object, limit: int = 300) -> str:
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"
