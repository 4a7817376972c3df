"""Exporting a run: files are written to a draft folder, which is renamed at the end, so that the target is complete or absent."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import SafetensorError

from lab.pairs import write_pairs
from lab.progress import StageProgress

from . import card, trl
from .data import find_data
from .source import ExportError, Source, find_source
from .weights import DTYPES, bring_base, fixed_template, write_adapter, write_merged, write_model

if TYPE_CHECKING:
    from lab.run.handle import Run

KINDS = {
    "model": ("the whole model", write_model),
    "adapter": ("the adapter", write_adapter),
    "merged": ("the model with the adapter merged into it", write_merged),
}
"""Kinds of export: description and function."""


def export_run(
    run: Run,
    folder: Path | str,
    *,
    what: str | None = None,
    step: int | None = None,
    dtype: str | None = None,
    trl_script: bool = False,
    progress: StageProgress | None = None,
) -> Path:
    """Write a run's trained model, with a model card, into a new folder that transformers and peft load without the lab.

    Args:
        run: The run.
        folder: A folder that does not exist yet, or is empty. It appears complete or not at all.
        what: "adapter" or "merged" (the base model with the adapter merged into it) for a run that trained an adapter, "model"
            for a full fine-tune; None for the adapter or the model.
        step: Step of a checkpoint; None for the best one, else the latest.
        dtype: "float32" or "bfloat16"; None for that of the checkpoint, merged models in float32.
        trl_script: Also write the pairs as JSON Lines, and a script for the same training in TRL.
        progress: Called as progress(stage, share).

    Returns:
        The folder's absolute path.

    Raises:
        ExportError: If the folder is not empty, there is no such checkpoint, or TRL lacks the objective; nothing is written.
    """
    target = Path(folder).expanduser().absolute()
    report = progress or (lambda message, share: None)
    if dtype not in (None, *DTYPES):
        raise ExportError(f"Weights cannot be written as {dtype}; choose {' or '.join(DTYPES)}.")
    _require_free(target)
    source = find_source(run, step)
    what = _kind(what, source)
    try:
        data = find_data(run, source)
    except ExportError:  # the card mentions it; only a script needs them
        if trl_script:
            raise
        data = None
    fixed = fixed_template(source)
    script = trl.script(run, source, data, dated=fixed is not None) if trl_script and data else None
    draft = target.with_name(f".{target.name}.{os.getpid()}.draft")
    try:
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        report(f"writing {KINDS[what][0]} of step {source.step:,}", 0.1)
        KINDS[what][1](source, draft, dtype)
        if what == "adapter":
            bring_base(source, draft, target)
        report("writing the card", 0.9)
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
        missing = error.filename or "A file"
        raise ExportError(f"{missing} was deleted during the export, for example with its checkpoint; try again.") from error
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise ExportError(f"{target} cannot be written ({reason}); check the folder and the disk.") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    report("done", 1.0)
    return target


def _require_free(target: Path) -> None:
    """Raise ExportError unless the target does not exist or is an empty folder."""
    if target.is_symlink() or (target.exists() and not target.is_dir()):
        raise ExportError(f"{target} is not a folder; name one that does not exist yet.")
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
