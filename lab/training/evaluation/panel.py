"""The panel: a few held-out pairs whose log-probs are measured through the run, to show where probability mass moves.

The mass that rejected answers lose may not reach the chosen ones: chosen answers can become less likely too (likelihood
displacement, Razin et al. 2024, arXiv 2410.08847), while the policy's greedy answer gains the mass (squeezing effect, Ren and
Sutherland 2024, arXiv 2407.10490). The log-probs of the chosen, the rejected and the greedy answer of each pair show it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from lab.pairs import Pair, Prompt
from lab.policy import Policy, sample
from lab.store import PanelRow
from lab.training.data.encoded_pairs import EncodedPair


@dataclass(frozen=True)
class Panel:
    """The pairs of the panel as they were when the run began; later edits are not applied, since curves would jump.

    Attributes:
        pairs: The pairs as token ids.
        prompts: The prompt of each pair.
    """

    pairs: tuple[EncodedPair, ...] = ()
    prompts: tuple[Prompt, ...] = ()


def choose_panel(held_out: Sequence[EncodedPair], pairs: Mapping[str, Pair], count: int) -> Panel:
    """Choose at most `count` held-out pairs with distinct prompts; truncated pairs only where all are truncated.

    The order of held-out pairs depends only on the run's seed and their prompts, so a resumed run has the same panel.

    Args:
        held_out: The held-out pairs, in their order.
        pairs: All pairs by id.
        count: The largest number of pairs.
    """
    whole = [pair for pair in held_out if not pair.cut and not pair.prompt_cut] or held_out
    by_prompt: dict[tuple[int, ...], EncodedPair] = {}
    for pair in whole:
        by_prompt.setdefault(tuple(pair.chosen.prompt), pair)
    chosen = tuple(by_prompt.values())[:count]
    return Panel(chosen, tuple(pairs[pair.id].context for pair in chosen))


def panel_rows(policy: Policy, panel: Panel, *, max_new_tokens: int, max_length: int, batch_size: int) -> list[PanelRow]:
    """Return the log-probs (nats) of the chosen, the rejected and the policy's present greedy answer of every pair.

    Computed without gradients, dropout or random numbers.

    Args:
        policy: The policy.
        panel: The panel.
        max_new_tokens: Largest number of tokens of a greedy answer.
        max_length: Largest number of tokens of prompt and answer.
        batch_size: Pairs (three answers each) per forward pass. The greedy answers are decoded in one batch.
    """
    size = len(panel.prompts)
    given = sample(policy, panel.prompts, temperature=0.0, max_new_tokens=max_new_tokens, max_length=max_length, batch_size=size)
    answers = [answer for (answer,) in given]
    completions = [c for pair, answer in zip(panel.pairs, answers) for c in (pair.chosen, pair.rejected, answer.completion)]
    with policy.evaluating():
        parts = [
            policy.logps(completions[start : start + 3 * batch_size]).logps.sum(-1)
            for start in range(0, len(completions), 3 * batch_size)
        ]
    sums = torch.cat(parts).view(-1, 3).tolist()
    return [
        PanelRow(
            pair=pair.id,
            chosen=chosen,
            rejected=rejected,
            greedy=greedy,
            chosen_tokens=len(pair.chosen.answer),
            rejected_tokens=len(pair.rejected.answer),
            greedy_tokens=len(answer.ids),
            answer=answer.text,
            ended=answer.ended,
        )
        for pair, answer, (chosen, rejected, greedy) in zip(panel.pairs, answers, sums)
    ]
