"""The model card: method, data, settings and results, only from what the run recorded."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from lab.objectives import Objective, formula_text
from lab.training.setup.versions import versions

from .data import Data
from .source import Source, one_line
from .trl import TEMPLATE
from .weights import BASE

if TYPE_CHECKING:
    from lab.run.handle import Run

LAST = 10
"""Steps over which the training metrics are averaged."""

METRICS = (
    "loss",
    "rewards/accuracies",
    "rewards/margins",
    "rewards/chosen",
    "rewards/rejected",
    "logps/chosen",
    "logps/rejected",
    "grad_norm",
)

INTERVALS = {"eval/oracle_reward": "reward", "eval/win_rate": "win"}
"""Prefix of the 95 % interval (<prefix>_low, <prefix>_high) of a scalar; others use their own name."""

APART = {"objective", "name", "pairs", "model", "trackers", "device", "save_every", "keep_checkpoints"} | {
    "probe_budget",
    "probe_layers",
    "panel_pairs",
    "panel_every",
    "token_steps",
    "keep_pair_rows",
    "eval_every",
    "evaluate",
    "keep_best",
    "template_time",
    "alerts",
    "alert_webhook",
    "alert_hosts",
}
"""Settings that are elsewhere in the card, or that do not affect the weights."""


def write(run: Run, source: Source, what: str, dtype: str | None, data: Data | None, *, dated: bool = False) -> str:
    """Return the card as Markdown with the YAML header of the Hugging Face Hub.

    Args:
        run: The run.
        source: The exported checkpoint.
        what: The kind of export; see `KINDS`.
        dtype: Type of the written weights, or None for that of the checkpoint.
        data: The pairs that were trained on, or None if they cannot be read.
        dated: Whether the chat template prints the date.
    """
    from huggingface_hub import ModelCard

    parts = [
        f"# {_text(run.name)}",
        _summary(run, source, what, dtype),
        _loading(what),
        _method(source.config.objective),
        _changes(source),
        _data(source, data),
        _date(source) if dated else "",
        _training(run, source),
        _results(run, source),
        _versions(run),
    ]
    return str(ModelCard(f"---\n{_head(run, source, what)}\n---\n\n" + "\n\n".join(part for part in parts if part) + "\n"))


def _head(run: Run, source: Source, what: str) -> str:
    from huggingface_hub import ModelCardData

    hub: dict[str, Any] = {}
    if not source.base.local:
        hub = {"base_model": source.base.name, "base_model_relation": "adapter" if what == "adapter" else "finetune"}
    objective = source.config.objective.name
    data = ModelCardData(
        library_name="peft" if what == "adapter" else "transformers",
        pipeline_tag="text-generation",
        tags=["preference-optimization", objective, *(["lora"] if source.adapter else [])],
        model_name=run.name,
        **hub,
    )
    return data.to_yaml()


def _summary(run: Run, source: Source, what: str, dtype: str | None) -> str:
    kind = {
        "model": "A full fine-tune of",
        "adapter": "A LoRA adapter for",
        "merged": "A LoRA adapter merged into",
    }[what]
    objective = source.config.objective
    message = (
        f"{kind} {_code(source.base.name)}, trained on preference pairs with {_text(objective.title or objective.name)}. "
        f"Checkpoint of step {source.step:,} of {source.config.steps:,}; the run is {run.state}."
    )
    if dtype:
        message += f" The weights are written in {dtype}."
    if branch := run.manifest.get("branch"):
        message += f" The run is a branch of {_code(branch['name'])} from step {branch['step']:,} on."
    if what == "merged" and source.config.quantize != "none":
        message += (
            " The adapter was trained on the base model in 4 bits, but is merged into its original weights, which differ slightly."
        )
    if source.base.origin:
        kind = "GGUF file" if source.base.origin.endswith(".gguf") else "folder"
        message += (
            f" The run began with the {kind} {_code(source.base.name)}, converted to a model in float32 (an adapter is merged into "
            "its base model)."
        )
    if source.base.origin and what == "adapter":
        message += (
            f"\n\nThe base model of this adapter is the converted model, the folder `{BASE}` next to this file: if moved, set "
            "`base_model_name_or_path` in `adapter_config.json` to its path, or export the merged model."
        )
    elif source.base.local and what == "adapter":
        message += (
            f"\n\nThe base model is a folder on the machine that exported this, {_code(source.base.place())}: elsewhere, set "
            "`base_model_name_or_path` in `adapter_config.json` to the model's path, or export the merged model."
        )
    if objective.degraded_spec() is not None:
        message += "\n\nThe degree head was used in training only and is not included."
    return message


def _loading(what: str) -> str:
    kind, library = ("AutoPeftModelForCausalLM", "peft") if what == "adapter" else ("AutoModelForCausalLM", "transformers")
    imports = f"from {library} import {kind}\nfrom transformers import AutoTokenizer"
    if library == "transformers":
        imports = f"from transformers import {kind}, AutoTokenizer"
    return (
        f'## How to load it\n\n```python\n{imports}\n\nfolder = "path/to/this/folder"\n'
        f"model = {kind}.from_pretrained(folder)\ntokenizer = AutoTokenizer.from_pretrained(folder)\n```"
    )


def _method(objective: Objective) -> str:
    """The loss with its paper, and the parameters in use, including those of a nested objective."""
    lines = [f"## Method\n\n{_text(objective.title or objective.name)} (`{objective.name}`)"]
    if objective.source:
        lines.append(f"Source: {_text(objective.source)}.")
    if formula := formula_text(objective):
        lines.append(f"```\n{formula}\n```")
    rows = []
    for name, value in objective.spec().items():
        if name != "name" and not isinstance(value, dict):
            rows.append((_code(name), _code(value), _text(type(objective).model_fields[name].description or "")))
    lines.append(_table(("parameter", "value", "meaning"), rows))
    inner = [value for name in type(objective).model_fields if isinstance(value := getattr(objective, name), Objective)]
    lines += [_method(each).replace("## Method", f"### On {_text(each.name)}", 1) for each in inner]
    return "\n\n".join(line for line in lines if line)


def _changes(source: Source) -> str:
    """The changes made during training, up to this checkpoint."""
    rows: list[tuple[str, str, str, str]] = []
    for after, kind, detail in source.changes:
        if kind == "edit":
            rows.append((f"{after:,}", "pairs", "", f"version {detail['version']}"))
        for name, (before, now) in detail.get("settings", {}).items():
            rows.append((f"{after:,}", _code(name), _code(before), _code(now)))
    return f"## Changed during the run\n\n{_table(('after step', 'what', 'from', 'to'), rows)}" if rows else ""


def _data(source: Source, data: Data | None) -> str:
    if data is None:
        return f"## Data\n\nPairs of version {source.pairs_version}; their store could not be read when this was written."
    message = f"Pair set {_code(data.name)}, version {data.version}: {len(data.pairs):,} pairs"
    edited = sum(pair.version > 1 for pair in data.pairs)
    message += f", {edited:,} of them edited since they were imported." if edited else ", as they were imported."
    if data.held_out:
        message += f" {data.held_out:,} more were held out from training."
    if data.too_long:
        message += f" {data.too_long:,} more were left out because an answer did not fit into max_length."
    return f"## Data\n\n{message} They came from {_code(data.origin)}."


def _date(source: Source) -> str:
    """The date that the training prompts contained."""
    return (
        f"The chat template prints the date or time. In training it was {_code(source.config.template_time)} throughout; "
        f"{_code(TEMPLATE)} is the template with this fixed time, for repeating the training. The tokenizer's own template is "
        "unchanged and prints the present date."
    )


def _training(run: Run, source: Source) -> str:
    config = source.config
    left_out = APART | {*(() if config.lora_rank else ("lora_alpha", "lora_dropout", "lora_targets"))}
    rows = [
        (_code(name), _code(value), _text(type(config).model_fields[name].description or ""))
        for name, value in config.model_dump(mode="json").items()
        if name not in left_out and value is not None
    ]
    seconds = float(run.status.get("seconds") or 0.0)
    spent = f" They took {seconds:,.0f} seconds." if seconds and run.step == source.step else ""
    message = f"AdamW, {source.step:,} steps of {config.batch_size:,} pairs.{spent}"
    return f"## Training\n\n{message}\n\n{_table(('setting', 'value', 'meaning'), rows)}"


def _results(run: Run, source: Source) -> str:
    parts = [_evaluations(run, source), _metrics(run, source)]
    measured = [part for part in parts if part]
    return "## Results\n\n" + "\n\n".join(measured or ["Nothing was measured up to this step."])


def _evaluations(run: Run, source: Source) -> str:
    """The first evaluation next to the last one at or before the checkpoint."""
    events = run.events("evaluation")
    evaluations = [(step, detail) for step, detail in zip(events["step"], events["detail"]) if step <= source.step]
    if not evaluations:
        return ""
    (first, before), (last, after) = evaluations[0], evaluations[-1]
    names = [name for name in after if name.startswith("eval/") and isinstance(after[name], int | float)]
    head: tuple[str, ...] = ("held-out", f"step {last:,}")
    rows: list[tuple[str, ...]] = [(_code(name), _measured(after, name)) for name in names]
    if last > first:
        head = ("held-out", f"step {first:,}", f"step {last:,}")
        rows = [(_code(name), _measured(before, name), _measured(after, name)) for name in names]
    bounded = any("[" in cell for row in rows for cell in row)
    return _table(head, rows) + ("\n\nIn brackets: 95 % intervals." if bounded else "")


def _measured(detail: dict[str, Any], name: str) -> str:
    """A value, with its interval if the evaluation recorded one."""
    value = detail.get(name)
    if value is None:
        return "–"
    for prefix in (INTERVALS.get(name), name, name.removeprefix("eval/")):
        low, high = detail.get(f"{prefix}_low"), detail.get(f"{prefix}_high")
        if low is not None and high is not None:
            return f"{value:.4g} [{low:.4g}, {high:.4g}]"
    return f"{value:.4g}"


def _metrics(run: Run, source: Source) -> str:
    """Training metrics: means over the last steps up to the checkpoint, on training batches."""
    frame: pd.DataFrame = run.reader.scalars.read([*METRICS], first=max(1, source.step - LAST + 1), last=source.step)
    means = frame.mean().dropna()
    if means.empty:
        return ""
    rows = [(_code(name), f"{value:.4g}") for name, value in means.items()]
    return _table(("training batches", f"mean of steps {frame.index.min():,} to {frame.index.max():,}"), rows)


def _versions(run: Run) -> str:
    trained = run.manifest.get("versions")
    when = "when the run was made" if trained else "when this was exported"
    listed = ", ".join(f"{name} {number}" for name, number in (trained or versions()).items())
    return f"## Versions\n\n{_text(listed)} ({when})."


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) if len(lines) > 2 else ""


def _code(value: Any) -> str:
    """A value as inline code on one line, with characters that would end it replaced."""
    text = one_line(value).replace("`", "'").replace("|", "¦")
    return f"`{text}`" if text else ""


def _text(value: Any) -> str:
    """Text on one line with Markdown and HTML escaped."""
    text = one_line(value)
    for mark in "\\`*_<>[]#|$~":
        text = text.replace(mark, f"\\{mark}")
    return text
