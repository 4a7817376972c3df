"""Check a model folder before loading: placeholders, incomplete downloads, weights in other formats.

Only beginnings and ends of files are read, so that a model of many gigabytes is checked in milliseconds.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .model_error import ModelError, cause

CONFIG = "config.json"
ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
LFS = b"version https://git-lfs"
LONGEST_HEADER = 100_000_000
"""Maximum size of a safetensors header in bytes; the library's own limit."""
PAGE = 4096
"""At least this many zero bytes at the end of a weights file count as space that was never written."""

OTHER_FORMATS = {
    ".bin": "PyTorch pickles",
    ".pt": "PyTorch pickles",
    ".pth": "PyTorch pickles",
    ".ckpt": "PyTorch pickles",
    ".h5": "TensorFlow",
    ".msgpack": "Flax",
    ".onnx": "ONNX",
    ".npz": "NumPy",
}
NOT_WEIGHTS = ("training_args.bin", "optimizer.bin", "optimizer.pt", "scheduler.pt", "scheduler.bin", "rng_state.pth")


@dataclass(frozen=True)
class StoredTensor:
    """A tensor as described by the header of a safetensors file; `start` and `end` are bytes of the file."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


def local_folder(source: str) -> Path | None:
    """Return the folder of a source, or None for a hub id. Raises ModelError for a path that is not a folder."""
    path = Path(source).expanduser()
    try:
        if path.is_dir():
            next(path.iterdir(), None)
            return path
        exists = path.exists()
    except OSError as error:
        raise ModelError(f"The model folder {source} cannot be read ({cause(error)}); change its permissions.") from error
    if exists:
        raise ModelError(f"{source} is a file, not a model; give the folder of a model, or a .gguf file.")
    if source.startswith((".", "/", "~")) or source.count("/") > 1 or "\\" in source or source.endswith(".gguf"):
        raise ModelError(f"There is no folder {source}; check the model's path.")
    return None


def check_folder(folder: Path) -> None:
    """Raise ModelError unless `folder` has a config.json and complete safetensors weights."""
    if not (folder / CONFIG).exists():
        raise ModelError(_without_config(folder))
    read_json(folder / CONFIG)
    for path in (*sorted(folder.glob("*.json")), *sorted(folder.glob("*.model")), *sorted(folder.glob("*.jinja"))):
        check_placeholder(path)
    for path in weight_files(folder):
        stored_tensors(path)


def weight_files(folder: Path) -> list[Path]:
    """Return the safetensors files of a model: one, or the shards of its index. Raises ModelError where one is missing."""
    if _exists(folder / WEIGHTS):
        return [folder / WEIGHTS]
    if not _exists(folder / INDEX):
        raise ModelError(_without_weights(folder))
    content = read_json(folder / INDEX)
    named = content.get("weight_map")
    if not isinstance(named, dict) or not named or not all(isinstance(name, str) for name in named.values()):
        raise ModelError(f"{folder / INDEX} names no weight files, so it is damaged; download the model again.")
    shards = sorted(set(named.values()))
    missing = [name for name in shards if not _exists(folder / name)]
    if missing:
        listed = ", ".join(missing[:3]) + (f" and {len(missing) - 3} more" if len(missing) > 3 else "")
        raise ModelError(
            f"The model in {folder} is incomplete: {len(missing)} of {len(shards)} weight files are missing ({listed}); "
            "download it again."
        )
    return [folder / name for name in shards]


def stored_tensors(path: Path) -> dict[str, StoredTensor]:
    """Return the tensors of a safetensors file by name, from its header. Raises ModelError unless the file is complete."""
    check_placeholder(path)
    remedy = "download it again"
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            prefix = file.read(8)
            length = int.from_bytes(prefix, "little")
            if size < 8 or not 2 <= length <= LONGEST_HEADER:
                problem = "is empty" if not size else "is no safetensors file"
                raise ModelError(f"{path} {problem} ({size:,} bytes), so the model cannot be loaded; {remedy}.")
            header = file.read(length)
    except OSError as error:
        raise ModelError(f"{path} cannot be read ({cause(error)}); check the file and the disk.") from error
    if len(header) < length:
        raise ModelError(f"{path} ends within its header ({size:,} bytes), so the download did not finish; {remedy}.")
    try:
        content = json.loads(header)
        content.pop("__metadata__", None)
        tensors = {
            name: StoredTensor(str(t["dtype"]), tuple(t["shape"]), *(8 + length + int(o) for o in t["data_offsets"]))
            for name, t in content.items()
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{path} is no safetensors file (its header cannot be read); {remedy}.") from error
    expected = max((tensor.end for tensor in tensors.values()), default=8 + length)
    if size != expected:
        why = "so the download did not finish" if size < expected else "so it is damaged"
        raise ModelError(f"{path} has {size:,} of {expected:,} bytes, {why}; {remedy}.")
    _check_end(path, tensors)
    return tensors


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object from a file of a model folder. Raises ModelError for any other content."""
    check_placeholder(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(f"{path} cannot be read ({cause(error)}); check the file and its permissions.") from error
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path} is no valid JSON ({cause(error)}); download the model again, or repair the file.") from error
    if not isinstance(content, dict):
        raise ModelError(f"{path} must hold a JSON object; download the model again, or repair the file.")
    return content


def check_placeholder(path: Path) -> None:
    """Raise ModelError for a Git LFS pointer, the placeholder of a file that was not downloaded."""
    try:
        with path.open("rb") as file:
            beginning = file.read(len(LFS))
    except OSError as error:
        raise ModelError(f"{path} cannot be read ({cause(error)}); check the file and its permissions.") from error
    if beginning == LFS:
        raise ModelError(
            f"{path} is a Git LFS pointer, not the file itself; run `git lfs pull` in {path.parent}, or download the model again."
        )


def _check_end(path: Path, tensors: dict[str, StoredTensor]) -> None:
    """Raise ModelError where the file ends in zeros that cover whole tensors: space reserved by an unfinished download."""
    ordered = sorted((t for t in tensors.values() if t.end > t.start), key=lambda t: t.start)
    if len(ordered) < 2 or ordered[-1].end - ordered[0].start < 2 * PAGE:
        return
    with path.open("rb") as file:
        end = ordered[-1].end
        while end > ordered[0].start:
            start = max(ordered[0].start, end - (1 << 20))
            file.seek(start)
            data = file.read(end - start).rstrip(b"\0")
            end = start + len(data)
            if data:
                break
    within = next((number for number, t in enumerate(ordered) if t.start <= end < t.end), len(ordered))
    covered = ordered[within + 1 :]
    if ordered[-1].end - end >= PAGE and any(len(t.shape) > 1 for t in covered):
        raise ModelError(
            f"{path} ends in {ordered[-1].end - end:,} bytes of zeros over {len(covered)} whole tensors, so the download did not "
            "finish; download it again."
        )


def _exists(path: Path) -> bool:
    """Whether a file exists. Raises ModelError for a broken link."""
    if path.is_symlink() and not path.exists():
        raise ModelError(f"{path} is a link to {path.readlink()}, which does not exist; download the model again.")
    return path.exists()


def _without_config(folder: Path) -> str:
    """Message for a folder without config.json."""
    names = sorted(path.name for path in folder.iterdir())
    below = sorted((path.parent for path in folder.glob(f"*/{CONFIG}")), key=lambda path: (len(path.name), path.name))
    below = below or sorted(folder.glob(f"snapshots/*/{CONFIG}"))
    if below:
        inner = below[-1] if below[-1].is_dir() else below[-1].parent
        return f"The folder {folder} holds no model itself ({CONFIG} is missing); give a folder below it, for example {inner}."
    if "params.json" in names or any(name.startswith("consolidated.") for name in names):
        return (
            f"The folder {folder} holds weights in their publisher's own layout ({CONFIG} is missing); give the version for "
            "transformers, or convert it."
        )
    return f"The folder {folder} holds no model ({CONFIG} is missing); give a folder that save_pretrained wrote."


def _without_weights(folder: Path) -> str:
    """Message for a folder without readable weights."""
    names = sorted(path.name for path in folder.iterdir())
    tensors = [name for name in names if name.endswith(".safetensors") and name != ADAPTER_WEIGHTS]
    if tensors:
        return (
            f"The model in {folder} is incomplete: there is no {WEIGHTS} and no {INDEX}, only {', '.join(tensors[:3])}; download "
            f"it again, or rename a single file to {WEIGHTS}."
        )
    for name in names:
        kind = OTHER_FORMATS.get(Path(name).suffix)
        if kind is not None and name not in NOT_WEIGHTS:
            return (
                f"The model in {folder} has its weights as {kind} only ({name}), which the lab does not read; convert them to "
                "safetensors (load the model with transformers and call save_pretrained)."
            )
    if any(name.endswith((".incomplete", ".part", ".tmp", ".aria2", ".crdownload")) for name in names):
        return f"The download of the model in {folder} did not finish: there is no {WEIGHTS}; download it again."
    return f"The folder {folder} holds a {CONFIG} but no weights ({WEIGHTS} is missing); download the model again."
