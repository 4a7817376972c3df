"""The model card: what was trained, on what, how, with what result. Only what the run recorded; nothing is filled in."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from lab.objectives import Objective
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
"""Scalars whose 95 % interval an evaluation records as <prefix>_low and <prefix>_high; others have it under their own name."""

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
"""Settings that are said elsewhere in the card, or change no weight."""


def write(run: Run, source: Source, what: str, dtype: str | None, data: Data | None, *, dated: bool = False) -> str:
    """The card as Markdown with the YAML head that the Hugging Face Hub reads. dated: the chat template prints the date."""
    from huggingface_hub import ModelCard

    parts = [
        f"# {_text(run.name)}",
        _summary(run, source, what, dtype),
        _loading(source, what),
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
            " The adapter was trained over the base model in 4 bits and is merged into the weights as they were before that, "
            "which are not quite the same."
        )
    if source.base.origin:
        kind = "GGUF file" if source.base.origin.endswith(".gguf") else "folder"
        message += (
            f" The run began with the model that the {kind} {_code(source.base.name)} stands for (an adapter is merged into its "
            "base model for that), in float32."
        )
    if source.base.origin and what == "adapter":
        message += (
            f"\n\nThe base model of this adapter is that start, which is the folder `{BASE}` beside this file: elsewhere, set "
            "`base_model_name_or_path` in `adapter_config.json` to where that folder is, or export the merged model."
        )
    elif source.base.local and what == "adapter":
        message += (
            f"\n\nThe base model is a folder of the machine that wrote this, {_code(source.base.place())}: elsewhere, set "
            "`base_model_name_or_path` in `adapter_config.json` to where that model is, or export the merged model."
        )
    if objective.degraded_spec() is not None:
        message += "\n\nThe head that told degrees of preference apart served the training alone and is not part of this."
    return message


def _loading(source: Source, what: str) -> str:
    kind, room = ("AutoPeftModelForCausalLM", "peft") if what == "adapter" else ("AutoModelForCausalLM", "transformers")
    imports = f"from {room} import {kind}\nfrom transformers import AutoTokenizer"
    if room == "transformers":
        imports = f"from transformers import {kind}, AutoTokenizer"
    return (
        f'## How to load it\n\n```python\n{imports}\n\nfolder = "path/to/this/folder"\n'
        f"model = {kind}.from_pretrained(folder)\ntokenizer = AutoTokenizer.from_pretrained(folder)\n```"
    )


def _method(objective: Objective) -> str:
    """The loss with its paper, and the parameters in use, down to a nested objective's."""
    lines = [f"## Method\n\n{_text(objective.title or objective.name)} (`{objective.name}`)"]
    if objective.source:
        lines.append(f"Source: {_text(objective.source)}.")
    if objective.formula:
        lines.append(f"```\n{objective.formula}\n```")
    rows = []
    for name, value in objective.spec().items():
        if name != "name" and not isinstance(value, dict):
            rows.append((_code(name), _code(value), _text(type(objective).model_fields[name].description or "")))
    lines.append(_table(("parameter", "value", "meaning"), rows))
    inner = [value for name in type(objective).model_fields if isinstance(value := getattr(objective, name), Objective)]
    lines += [_method(each).replace("## Method", f"### On {_text(each.name)}", 1) for each in inner]
    return "\n\n".join(line for line in lines if line)


def _changes(source: Source) -> str:
    """What people changed while it trained, as far as this checkpoint has seen it."""
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
    """Which date the prompts of the training had in them."""
    return (
        f"The chat template prints the date or time. In training it was told {_code(source.config.template_time)} throughout; "
        f"{_code(TEMPLATE)} is the template with that moment in it, for repeating the training. The tokenizer's own template is "
        "unchanged and tells the model the present date."
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
    found = [part for part in parts if part]
    return "## Results\n\n" + "\n\n".join(found or ["Nothing was measured up to this step."])


def _evaluations(run: Run, source: Source) -> str:
    """The first look at held-out material beside the last one at or before the checkpoint."""
    events = run.events("evaluation")
    looks = [(step, detail) for step, detail in zip(events["step"], events["detail"]) if step <= source.step]
    if not looks:
        return ""
    (first, before), (last, after) = looks[0], looks[-1]
    names = [name for name in after if name.startswith("eval/") and isinstance(after[name], int | float)]
    head: tuple[str, ...] = ("held-out", f"step {last:,}")
    rows: list[tuple[str, ...]] = [(_code(name), _measured(after, name)) for name in names]
    if last > first:
        head = ("held-out", f"step {first:,}", f"step {last:,}")
        rows = [(_code(name), _measured(before, name), _measured(after, name)) for name in names]
    bounded = any("[" in cell for row in rows for cell in row)
    return _table(head, rows) + ("\n\nIn brackets: 95 % intervals." if bounded else "")


def _measured(detail: dict[str, Any], name: str) -> str:
    """A value with its interval where the evaluation recorded one."""
    value = detail.get(name)
    if value is None:
        return "–"
    for prefix in (INTERVALS.get(name), name, name.removeprefix("eval/")):
        low, high = detail.get(f"{prefix}_low"), detail.get(f"{prefix}_high")
        if low is not None and high is not None:
            return f"{value:.4g} [{low:.4g}, {high:.4g}]"
    return f"{value:.4g}"


def _metrics(run: Run, source: Source) -> str:
    """Training metrics: means over the last steps up to the checkpoint, on batches that were trained on."""
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
    """A value as code, on one line, that no Markdown in it can leave."""
    text = one_line(value).replace("`", "'").replace("|", "¦")
    return f"`{text}`" if text else ""


def _text(value: Any) -> str:
    """Text on one line whose Markdown and HTML show as written."""
    text = one_line(value)
    for mark in "\\`*_<>[]#|$~":
        text = text.replace(mark, f"\\{mark}")
    return text
