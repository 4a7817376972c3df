"""`ModelError`, and the conversion of libraries' errors to it: one sentence with place, cause and remedy."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from lab.errors import LabError
from lab.policy.memory import out_of_memory

LONGEST = 300
"""Characters of a library's own message that are quoted."""


class ModelError(LabError):
    """A model cannot be loaded or used; the message names the cause and the remedy."""


@contextmanager
def model_errors(subject: str, remedy: str) -> Iterator[None]:
    """Convert any exception in the block to `ModelError("<subject> cannot be loaded (<cause>); <remedy>")`.

    ModelErrors and out-of-memory errors pass unchanged.
    """
    try:
        yield
    except ModelError:
        raise
    except Exception as error:  # libraries raise many kinds for a broken model
        if out_of_memory(error):
            raise
        raise ModelError(f"{subject} cannot be loaded ({cause(error)}); {_remedy(error) or remedy}.") from error


def cause(error: BaseException) -> str:
    """Return the first paragraph of an exception's message on one line.

    An OSError names its file, a KeyError the missing entry; types that users do not know are named before the message.
    """
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
    """Remedy for errors whose type implies one."""
    if isinstance(error, PermissionError):
        return "change the permissions so that it can be read"
    if isinstance(error, ImportError):
        return "install what is missing, or give another model"
    return None
