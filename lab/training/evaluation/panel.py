"""The panel: a few held-out pairs that are looked at again and again, to see where the probability goes.

Training lowers the rejected answers and means to raise the chosen ones. What the rejected lose may go elsewhere: the chosen become
less likely too (likelihood displacement, Razin et al. 2024, arXiv 2410.08847), and what the policy found likeliest anyway, its
greedy answer, takes it all (the squeezing effect, Ren and Sutherland 2024, arXiv 2407.10490). Three log-probs of each pair show it.
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
    """The pairs as they were when the run was prepared, and their prompts. Later edits do not reach them, or curves would jump."""

    pairs: tuple[EncodedPair, ...] = ()
    prompts: tuple[Prompt, ...] = ()


def choose_panel(held_out: Sequence[EncodedPair], pairs: Mapping[str, Pair], count: int) -> Panel:
    """At most `count` of the held-out pairs, each with another prompt; those that had to be cut only where there are no others.

    Held-out pairs stand in an order drawn from the run's seed and their prompts, so the panel follows from the seed and the pairs
    that the run began with: it is the same when the run is resumed.
    """
    whole = [pair for pair in held_out if not pair.cut and not pair.prompt_cut] or held_out
    by_prompt: dict[tuple[int, ...], EncodedPair] = {}
    for pair in whole:
        by_prompt.setdefault(tuple(pair.chosen.prompt), pair)
    chosen = tuple(by_prompt.values())[:count]
    return Panel(chosen, tuple(pairs[pair.id].prompt for pair in chosen))


def panel_rows(policy: Policy, panel: Panel, *, max_new_tokens: int, max_length: int, batch_size: int) -> list[PanelRow]:
    """What the policy makes of every pair at this moment; its greedy answers are decoded anew. No graph, no dropout, nothing drawn.

    batch_size: pairs (three answers each) whose log-probs are computed at once. The greedy answers are decoded all at once, which
    takes hardly longer than one of them.
    """
    size = len(panel.prompts)
    given = sample(policy, panel.prompts, temperature=0.0, max_new_tokens=max_new_tokens, max_length=max_length, batch_size=size)
    answers = [one for (one,) in given]
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
