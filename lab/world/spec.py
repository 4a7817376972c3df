"""The settings of a world."""

from __future__ import annotations

from dataclasses import dataclass

from .tasks import PHRASINGS

# The 15 new tasks in each training phrasing are two fifths of the held-out prompts.
MOST_PROMPTS = 15 * len(PHRASINGS) * 5 // 2


@dataclass(frozen=True)
class WorldSpec:
    """Settings of a world; together with the code they determine its content.

    seed:        Of all randomness.
    pairs, held_out_pairs, held_out_prompts: Number of each; two fifths of the prompts are about new tasks.
    temperature: Of the Bradley-Terry annotator, in units of reward.
    least_gap:   Smallest difference of true rewards in a pair.
    vocabulary, width, layers, heads: Size of tokenizer and model.
    sft_*:       Steps, batch size, peak learning rate and weight decay of the supervised tuning.

    Raises ValueError for a size below 1, or a temperature or rate that is not above 0.
    """

    seed: int = 0
    pairs: int = 3000
    held_out_pairs: int = 200
    held_out_prompts: int = 100
    temperature: float = 0.7
    least_gap: float = 0.4
    vocabulary: int = 1024
    width: int = 128
    layers: int = 2
    heads: int = 4
    sft_steps: int = 600
    sft_batch: int = 16
    sft_rate: float = 6e-3
    sft_weight_decay: float = 0.1

    def __post_init__(self) -> None:
        for name in ("pairs", "held_out_pairs", "held_out_prompts", "width", "layers", "heads", "sft_steps", "sft_batch"):
            if getattr(self, name) < 1:
                raise ValueError(f"WorldSpec: {name} is {getattr(self, name)}; give 1 or more.")
        for name in ("temperature", "sft_rate"):
            if not getattr(self, name) > 0:
                raise ValueError(f"WorldSpec: {name} is {getattr(self, name)}; give a number above 0.")
        if self.width % (2 * self.heads):
            raise ValueError(f"WorldSpec: width {self.width} is no multiple of twice the {self.heads} heads; choose one that is.")
        if self.vocabulary < 300:
            raise ValueError(f"WorldSpec: vocabulary is {self.vocabulary}; give 300 or more (256 bytes come first).")
        if self.held_out_prompts > MOST_PROMPTS:
            raise ValueError(
                f"WorldSpec: held_out_prompts is {self.held_out_prompts}; the language has {MOST_PROMPTS} to hold out."
            )

    @classmethod
    def tiny(cls, seed: int = 0) -> WorldSpec:
        """Return a small world for tests, built in about two seconds, with a poor model."""
        return cls(
            seed=seed, pairs=64, held_out_pairs=16, held_out_prompts=10, vocabulary=512, width=32, layers=1, heads=2, sft_steps=20
        )
