"""The settings of a world."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

from lab.errors import LabError

from .kinds import HARD, KINDS, PLAIN, Kind
from .tasks import PHRASINGS

# The 15 new tasks in each training phrasing are two fifths of the held-out prompts.
MOST_PROMPTS = 15 * len(PHRASINGS) * 5 // 2

EXAMPLES = "world, world:3, world-hard or world-hard:3"
_NAME = re.compile(r"(world(?:-hard)?)(?::(.*))?", re.DOTALL)


class WorldError(LabError):
    """There is no embedded world of a name."""


@dataclass(frozen=True)
class WorldSpec:
    """Settings of a world; together with the code they determine its content.

    kind:        Name of the kind of world, in `KINDS`.
    seed:        Of all randomness.
    pairs, held_out_pairs, held_out_prompts: Number of each; two fifths of the prompts are about new tasks.
    temperature: Of the Bradley-Terry annotator, in units of reward.
    least_gap:   Smallest difference of true rewards in a pair.
    length_bias: Reward that the annotator adds for every word of an answer, and the oracle does not.
    vocabulary, width, layers, heads: Size of tokenizer and model.
    sft_*:       Steps, batch size, peak learning rate and weight decay of the supervised tuning.

    Raises ValueError for an unknown kind, a size below 1, or a temperature or rate that is not above 0.
    """

    kind: str = PLAIN.name
    seed: int = 0
    pairs: int = 3000
    held_out_pairs: int = 200
    held_out_prompts: int = 100
    temperature: float = 0.7
    least_gap: float = 0.4
    length_bias: float = 0.0
    vocabulary: int = 1024
    width: int = 128
    layers: int = 2
    heads: int = 4
    sft_steps: int = 600
    sft_batch: int = 16
    sft_rate: float = 6e-3
    sft_weight_decay: float = 0.1

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"WorldSpec: there is no kind of world {self.kind!r}; give one of: {', '.join(KINDS)}.")
        for name in ("pairs", "held_out_pairs", "held_out_prompts", "width", "layers", "heads", "sft_steps", "sft_batch"):
            if getattr(self, name) < 1:
                raise ValueError(f"WorldSpec: {name} is {getattr(self, name)}; give 1 or more.")
        for name in ("temperature", "sft_rate"):
            if not getattr(self, name) > 0:
                raise ValueError(f"WorldSpec: {name} is {getattr(self, name)}; give a number above 0.")
        if not math.isfinite(self.length_bias):
            raise ValueError(f"WorldSpec: length_bias is {self.length_bias}; give a finite number.")
        if self.width % (2 * self.heads):
            raise ValueError(f"WorldSpec: width {self.width} is no multiple of twice the {self.heads} heads; choose one that is.")
        if self.vocabulary < 300:
            raise ValueError(f"WorldSpec: vocabulary is {self.vocabulary}; give 300 or more (256 bytes come first).")
        if self.held_out_prompts > MOST_PROMPTS:
            raise ValueError(
                f"WorldSpec: held_out_prompts is {self.held_out_prompts}; the language has {MOST_PROMPTS} to hold out."
            )

    @property
    def name(self) -> str:
        """The name under which a world of this kind and seed is opened: "world", "world:3"."""
        return f"{self.kind}:{self.seed}" if self.seed else self.kind

    @property
    def rules(self) -> Kind:
        """The kind of world."""
        return KINDS[self.kind]

    @classmethod
    def named(cls, name: str) -> WorldSpec:
        """Return the spec of a name: a kind, and after a colon the seed, 0 where it is left out.

        Raises:
            WorldError: There is no world of this name.
        """
        match = _NAME.fullmatch(name)
        seed = (match.group(2) or "0") if match and match.group(2) != "" else ""
        if not match or not seed.isdecimal() or not seed.isascii() or len(seed) > 9:
            raise WorldError(f"There is no embedded world {name!r}; name one as {EXAMPLES}, with a whole number as its seed.")
        return cls(kind=match.group(1), seed=int(seed), **SETTINGS[match.group(1)])

    @classmethod
    def tiny(cls, seed: int = 0, kind: str = PLAIN.name) -> WorldSpec:
        """Return a small world for tests, built in about two seconds, with a poor model."""
        small = {"pairs": 64, "held_out_pairs": 16, "held_out_prompts": 10, "sft_steps": 20}
        return cls(kind=kind, seed=seed, **SETTINGS[kind] | small | {"vocabulary": 512, "width": 32, "layers": 1, "heads": 2})


SETTINGS: dict[str, dict[str, Any]] = {
    PLAIN.name: {},
    HARD.name: {"length_bias": 0.06, "vocabulary": 1536, "sft_steps": 1700, "sft_batch": 8},
}
"""Settings by kind that are not the defaults of `WorldSpec`."""


def is_world_name(source: object) -> bool:
    """Return whether a text names an embedded world, and not a file, a folder or a hub id; the seed may be wrong."""
    return isinstance(source, str) and _NAME.fullmatch(source) is not None
