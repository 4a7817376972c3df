"""A built world in a folder: its pairs, held-out prompts, model and oracle."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import mean
from typing import Any

from .oracle import Score, score
from .spec import WorldSpec

SEAL = "manifest.json"
_FOLDER = re.compile(r"(world(?:-hard)?)(?:-([0-9]{1,9}))?-[0-9a-f]{16}")


def pairs_file(spec: WorldSpec) -> str:
    """Return the name of the file of a world's training pairs, after which their set is named: "world.jsonl", "world-3.jsonl"."""
    return f"{spec.name.replace(':', '-')}.jsonl"


def world_of(source: str) -> WorldSpec | None:
    """Return the world whose file is a pair store's source; None for any other source, also a user's file of the same name.

    A folder that is gone, because the cache was cleared or moved, still counts by its name: the oracle needs no file.
    """
    path = Path(source)
    match = _FOLDER.fullmatch(path.parent.name)
    if match is None or (path.parent.exists() and not (path.parent / SEAL).is_file()):
        return None
    kind, seed = match.groups()
    spec = WorldSpec.named(f"{kind}:{seed}" if seed else kind)
    return spec if path.name == pairs_file(spec) else None


@dataclass(frozen=True)
class World:
    """A built world.

    folder:   Its files, which never change.
    metadata: Spec, sizes, and seconds of each stage of the build.
    """

    folder: Path
    metadata: dict[str, Any]

    @staticmethod
    def seal(folder: Path, metadata: dict[str, Any]) -> None:
        """Write the manifest, after all other files: metadata and the digest of every file."""
        files = {path.relative_to(folder).as_posix(): _digest(path) for path in sorted(folder.rglob("*")) if path.is_file()}
        (folder / SEAL).write_text(json.dumps({**metadata, "files": files}, indent=1), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> World | None:
        """Load the world in a folder; None where there is none, or a file is missing or damaged."""
        try:
            manifest = json.loads((folder / SEAL).read_text(encoding="utf-8"))
            complete = all(_digest(folder / name) == digest for name, digest in manifest["files"].items())
        except (OSError, ValueError, KeyError, AttributeError, TypeError):  # no world, or an unfinished one
            return None
        return cls(folder, manifest) if complete else None

    @cached_property
    def spec(self) -> WorldSpec:
        """The settings it was built with."""
        return WorldSpec(**self.metadata["spec"])

    @property
    def model_dir(self) -> Path:
        """Hugging Face model folder with the tokenizer."""
        return self.folder / "model"

    @property
    def pairs_path(self) -> Path:
        """File of the training pairs: JSON Lines in TRL's explicit format with the columns of `sample_pairs`."""
        return self.folder / pairs_file(self.spec)

    def pairs(self) -> list[dict[str, Any]]:
        """Read the training pairs as rows; columns as in `lab.world.sample_pairs`."""
        return _rows(self.pairs_path)

    def held_out_pairs(self) -> list[dict[str, Any]]:
        """Read the pairs of held-out prompts as rows; columns as in `lab.world.sample_pairs`."""
        return _rows(self.folder / "held_out.jsonl")

    @cached_property
    def held_out_groups(self) -> dict[str, str]:
        """Group of every held-out prompt: "new phrasing" or "new task"."""
        return {row["prompt"]: row["group"] for row in _rows(self.folder / "prompts.jsonl")}

    @property
    def held_out_prompts(self) -> list[str]:
        """Prompts that no training pair has."""
        return list(self.held_out_groups)

    def oracle(self, prompt: str, answer: str) -> Score:
        """Compute the reward of an answer with reasons; see `lab.world.score`."""
        return score(prompt, answer, self.spec.rules)

    def describe(self) -> str:
        """Return a summary of a few lines: folder, sizes, rewards, model and build times."""
        pairs, spec = self.pairs(), self.spec
        groups = Counter(self.held_out_groups.values())
        rewards = mean(row[f"reward_{side}"] for row in pairs for side in ("chosen", "rejected"))
        noisy = mean(row["noisy"] for row in pairs)
        bias = f", {spec.length_bias:+g} per word" if spec.length_bias else ""
        took = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in self.metadata["seconds"].items())
        return "\n".join(
            (
                f"The embedded world {spec.name} (seed {spec.seed}) in {self.folder}",
                f"  pairs     {len(pairs)} for training, {len(self.held_out_pairs())} held out; "
                f"{noisy:.0%} labelled against the oracle (Bradley-Terry, temperature {spec.temperature:g}{bias})",
                f"  prompts   {groups.total()} held out: " + ", ".join(f"{n} with a {group}" for group, n in groups.items()),
                f"  rewards   {rewards:.2f} is the mean of all answers, {spec.rules.best:g} the best there is",
                f"  model     Llama, {self.metadata['parameters']:,} parameters, {self.metadata['vocabulary']} tokens; "
                f"loss {self.metadata['final_loss']:.3f} nats per token after {spec.sft_steps} steps",
                f"  built in  {sum(self.metadata['seconds'].values()):.0f} s: {took}",
            )
        )

    def sample_table(self, count: int = 5) -> str:
        """Return the first `count` training pairs as text: both answers, their rewards and the oracle's reasons."""
        return "\n\n".join(_readable(row) for row in self.pairs()[:count])


def _readable(row: dict[str, Any]) -> str:
    lines = [row["prompt"].strip()]
    for side in ("chosen", "rejected"):
        lines.append(f"  {side} ({row[f'reward_{side}']:+.1f}: {row[f'why_{side}']})")
        lines += [f"    | {line}" for line in row[side].splitlines()]
    if row["noisy"]:
        lines.append(
            f"  noisy: the annotator prefers the worse answer with probability {row['preference_probability']:.2f}, and did"
        )
    return "\n".join(lines)


def _rows(path: Path) -> list[dict[str, Any]]:
    with path.open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
