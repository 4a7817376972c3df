"""Refusals of a model: every error of a library while a model is loaded becomes one sentence with place, cause and remedy."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from lab.errors import LabError
from lab.policy.memory import out_of_memory

LONGEST = 300
"""Characters of a library's own message that are quoted."""


class ModelError(LabError):
    """A model that cannot be loaded or used, in one sentence."""


@contextmanager
def model_errors(subject: str, remedy: str) -> Iterator[None]:
    """Inside, any exception becomes `ModelError("<subject> cannot be loaded (<cause>); <remedy>")`.

    A ModelError passes unchanged, and so does an error that says that memory ran out: the caller has its own remedies for that.
    """
    try:
        yield
    except ModelError:
        raise
    except Exception as error:
        if out_of_memory(error):
            raise
        raise ModelError(f"{subject} cannot be loaded ({cause(error)}); {_remedy(error) or remedy}.") from error


def cause(error: BaseException) -> str:
    """Return the first paragraph of an exception on one line, with the file of an operating system's error, the missing entry of a
    KeyError."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    text = str(error.args[0] if isinstance(error, KeyError) and error.args else error).strip()
    if isinstance(error, KeyError) and text and " " not in text:
        return f"there is no {text!r}"
    first = " ".join(text.split("\n\n")[0].split()).rstrip(".:;")
    if len(first) > LONGEST:
        first = f"{first[:LONGEST].rstrip()} ..."
    named = isinstance(error, ValueError | RuntimeError | OSError | ImportError | KeyError) and first
    return first if named else f"{type(error).__name__}: {first}" if first else type(error).__name__


def _remedy(error: BaseException) -> str | None:
    """What to do about errors whose kind says it."""
    if isinstance(error, PermissionError):
        return "change the permissions so that it can be read"
    if isinstance(error, ImportError):
        return "install what is missing, or give another model"
    return None
