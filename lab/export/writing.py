"""Exporting a run: everything is written beside the target and renamed at the end, so that a folder is whole or absent."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import SafetensorError

from lab.pairs import write_pairs

from . import card, trl
from .data import find_data
from .source import ExportError, Source, find_source
from .weights import DTYPES, bring_base, fixed_template, write_adapter, write_merged, write_model

if TYPE_CHECKING:
    from lab.run.handle import Run

Progress = Callable[[str, float], None]

KINDS = {
    "model": ("the whole model", write_model),
    "adapter": ("the adapter", write_adapter),
    "merged": ("the model with the adapter merged into it", write_merged),
}
"""What can be exported: the words for it and what writes it."""


def export_run(
    run: Run,
    folder: Path | str,
    *,
    what: str | None = None,
    step: int | None = None,
    dtype: str | None = None,
    trl_script: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Write the trained model into a new `folder` that transformers and peft load without the lab, with a model card.

    what: "adapter" or "merged" (the model with the adapter in it) for a run that trained an adapter, "model" for one that
    trained the whole model; by default the adapter, or the model.   step: of a checkpoint that is kept; by default the best
    one there is, else the latest.   dtype: "float32" or "bfloat16"; by default as in the checkpoint, merged float32.
    trl_script: also the pairs as JSON Lines and a script that does the same training in TRL.
    progress(what, share) reports while it is written.

    The folder appears whole or not at all. Raises ExportError (a RunError), and writes nothing, where there is something in
    it already, where the run has no such checkpoint, and where TRL lacks the objective.
    """
    target = Path(folder).expanduser().absolute()
    say = progress or (lambda message, share: None)
    if dtype not in (None, *DTYPES):
        raise ExportError(f"Weights cannot be written as {dtype}; choose {' or '.join(DTYPES)}.")
    _require_free(target)
    source = find_source(run, step)
    what = _kind(what, source)
    try:
        data = find_data(run, source)
    except ExportError:  # the card says that they are gone; only a script needs them
        if trl_script:
            raise
        data = None
    fixed = fixed_template(source)
    script = trl.script(run, source, data, dated=fixed is not None) if trl_script and data else None
    draft = target.with_name(f".{target.name}.{os.getpid()}.draft")
    try:
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        say(f"writing {KINDS[what][0]} of step {source.step:,}", 0.1)
        KINDS[what][1](source, draft, dtype)
        if what == "adapter":
            bring_base(source, draft, target)
        say("writing the card", 0.9)
        (draft / "README.md").write_text(card.write(run, source, what, dtype, data, dated=fixed is not None), encoding="utf-8")
        if fixed is not None:
            (draft / trl.TEMPLATE).write_text(fixed, encoding="utf-8")
        if script is not None and data is not None:
            write_pairs([replace(pair, meta={}) for pair in data.pairs], draft / trl.PAIRS)
            (draft / trl.SCRIPT).write_text(script, encoding="utf-8")
        _require_free(target)
        draft.rename(target)
    except FileNotFoundError as error:
        if str(error.filename) == str(draft):
            raise ExportError(f"The folder {target} cannot be made; name one on a disk that can be written.") from error
        raise ExportError(f"{error.filename or 'A file'} went away during the export (an older checkpoint?); try again.") from error
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise ExportError(f"{target} cannot be written ({reason}); check the folder and the disk.") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    say("done", 1.0)
    return target


def _require_free(target: Path) -> None:
    """Raises ExportError unless there is nothing at the target, or an empty folder."""
    if target.is_symlink() or (target.exists() and not target.is_dir()):
        raise ExportError(f"{target} is no folder; name one that does not exist yet.")
    if target.exists() and any(target.iterdir()):
        raise ExportError(f"The folder {target} is not empty, and nothing in it was touched; name one that does not exist yet.")


def _kind(what: str | None, source: Source) -> str:
    fitting = ("adapter", "merged") if source.adapter else ("model",)
    if what is None:
        return fitting[0]
    if what not in KINDS:
        raise ExportError(f"There is no export of {what!r}; choose {', '.join(KINDS)}.")
    if what not in fitting:
        trained = "an adapter" if source.adapter else "the whole model"
        raise ExportError(f"This run trained {trained}, so there is no {what!r} to export; choose {' or '.join(fitting)}.")
    return what
