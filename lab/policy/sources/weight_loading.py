"""Read weights and check that every one comes from the file: none missing, random, misshapen or left over."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from lab.policy.randomness import global_generator

from .files import stored_tensors, weight_files
from .generation_config import valid_generation_config
from .model_error import ModelError, model_errors

SHOWN = 3
"""Maximum number of names in a message."""
NUMBERS = ("F64", "F32", "F16", "BF16")
"""Types of unquantized weights in safetensors."""


def read_weights(kind: Any, source: str, config: Any, *, dtype: Any = torch.float32, seed: int = 0, **more: Any) -> Any:
    """Load a model from safetensors and check that each weight comes from the file.

    Args:
        kind: Auto class or model class of transformers.
        source: Folder or hub id.
        config: The configuration, or None for the one beside the weights.
        dtype: Type of the weights.
        seed: Of torch's generator while the model is made.
        more: Further arguments of `from_pretrained`.

    Raises:
        ModelError: Weights are missing, misshapen, left over or not finite, or the files cannot be read.
    """
    with reading(source):
        model, report, drew = _read(kind, source, config, dtype, seed, **more)
    check_report(source, model, report, flags="quantization_config" not in more)
    if drew and "quantization_config" not in more:
        with reading(source):
            other, _, _ = _read(kind, source, config, dtype, seed + 1, **more)
        _check_same(source, model, other)
    if Path(source).is_dir():
        _check_types(source, model)
    check_numbers(source, model)
    return model


def check_weights(kind: Any, source: str, config: Any) -> Any:
    """Check names and shapes of a folder's weights without reading them; returns the model on the `meta` device.

    Raises ModelError as `read_weights` does.
    """
    with reading(source):
        model, report, _ = _read(kind, source, config, torch.float32, 0, device_map="meta")
    check_report(source, model, report)
    _check_types(source, model)
    return model


def _check_types(source: str, model: Any) -> None:
    """Raise ModelError for quantized weights that the configuration does not declare."""
    stored = {name: t for path in weight_files(Path(source)) for name, t in stored_tensors(path).items()}
    codes = [name for name, _ in model.named_parameters() if name in stored and stored[name].dtype not in NUMBERS]
    if codes:
        raise ModelError(
            f"The model in {source} has quantized weights ({_listed(codes)} of type {stored[codes[0]].dtype}), which cannot be "
            "trained; give the model before quantization."
        )


def check_report(source: str, model: Any, report: dict[str, Any], *, flags: bool = True) -> None:
    """Raise ModelError unless every parameter of a loaded model came from the file and every tensor of the file was used.

    Args:
        source: For messages.
        model: The loaded model.
        report: Returned by `from_pretrained(output_loading_info=True)`.
        flags: Also use transformers' flag on each parameter that was read; the report omits names that an architecture
            declares as optional.
    """
    shapes = {name: (tuple(file), tuple(own)) for name, file, own in report.get("mismatched_keys", ())}
    unread = [n for n, p in model.named_parameters() if not getattr(p, "_is_hf_initialized", False)] if flags else []
    missing = sorted({*report.get("missing_keys", ()), *unread} - shapes.keys())
    unused = sorted(report.get("unexpected_keys", ()))
    named = next(iter(getattr(model.config, "architectures", None) or ()), None)
    kind = f"; its configuration names {named}" if named and named != type(model).__name__ else ""
    if missing:
        verb = "is" if len(missing) == 1 else "are"
        raise ModelError(
            f"The model in {source} is no whole {type(model).__name__}: {_listed(missing)} {verb} missing in its files and would "
            f"be drawn at random{_left_over(unused)}{kind}; give a complete model."
        )
    if shapes:
        name, (file, own) = sorted(shapes.items())[0]
        others = f" and {len(shapes) - 1} more" if len(shapes) > 1 else ""
        raise ModelError(
            f"The weights in {source} do not fit its config.json: {name} has shape {list(file)} in the file and {list(own)} in the "
            f"model{others}; give config.json and weights of one model."
        )
    if unused:
        raise ModelError(
            f"The files in {source} hold weights that {type(model).__name__} has no place for ({_listed(unused)}), so they are of "
            f"another model{kind}; give config.json and weights of one causal language model."
        )


def _check_same(source: str, model: Any, other: Any) -> None:
    """Raise ModelError where weights depend on the seed, by a copy loaded with another seed.

    Random numbers alone are no reason: some architectures draw weights that the file's then replace.
    """
    others = {**dict(other.named_parameters()), **dict(other.named_buffers())}
    own = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    drawn = [name for name, value in own.items() if not torch.equal(value.nan_to_num(), others[name].nan_to_num())]
    if drawn:
        raise ModelError(
            f"Weights of the model in {source} ({_listed(drawn)}) are drawn at random when it is loaded, although none is missing "
            "in its files, so it would be another model each time; give another one."
        )


def _read(kind: Any, source: str, config: Any, dtype: Any, seed: int, **more: Any) -> tuple[Any, dict[str, Any], bool]:
    """(model, loading report, whether random numbers were drawn)."""
    own = {} if config is None else {"config": config}
    with global_generator(seed):  # weights may be drawn before they are read
        before = torch.get_rng_state()
        model, report = kind.from_pretrained(
            source,
            trust_remote_code=False,
            use_safetensors=True,
            dtype=dtype,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # reported by name instead of an exception without names
            **own,
            **valid_generation_config(source),
            **more,
        )
        return model, report, not torch.equal(before, torch.get_rng_state())


@contextmanager
def reading(source: str) -> Iterator[None]:
    """Convert errors in the block to ModelErrors and silence transformers' progress bar and loading report."""
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    logger = logging.getLogger("transformers")
    level = logger.level
    logger.setLevel(logging.ERROR)
    where = f"The model in {source}" if Path(source).is_dir() else f"The model {source}"
    try:
        with model_errors(where, "check that the folder is complete, or give another model"):
            yield
    finally:
        logger.setLevel(level)


def check_numbers(source: str, model: Any) -> None:
    """Raise ModelError for weights that are not finite."""
    with torch.no_grad():
        wrong = [
            name
            for name, p in model.named_parameters()
            if p.is_floating_point() and not bool(p.sum().isfinite()) and not bool(p.isfinite().all())
        ]
    if wrong:
        raise ModelError(
            f"The model in {source} has weights that are not finite ({_listed(wrong)} holds NaN or infinity), so no log-prob of it "
            "is a number; give an earlier checkpoint of it, or another model."
        )


def _left_over(names: Sequence[str]) -> str:
    return f", while {_listed(names)} of the files {'has' if len(names) == 1 else 'have'} no place in it" if names else ""


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
