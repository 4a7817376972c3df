"""Sampled answers of a policy."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from .policy import Policy
from .randomness import global_generator
from .tokens import Prompt


def sample_answers(
    policy: Policy,
    prompts: Sequence[Prompt],
    *,
    per_prompt: int = 1,
    max_new_tokens: int = 128,
    temperature: float = 1.0,
    seed: int = 0,
    batch_size: int = 128,
    max_length: int = 1024,
    progress: Callable[[int, int], None] | None = None,
) -> list[list[str]]:
    """`per_prompt` answers to each prompt, as text without special tokens: [prompts][per_prompt].

    Plain ancestral sampling at `temperature` (0: greedy), no top-k or top-p. The same seed gives the same answers, and the
    global generators are left as they were. A CUDA generator is seeded too.
    """
    encoder = policy.encoder(max_length)
    rows = [encoder.prompt(prompt) for prompt in prompts for _ in range(per_prompt)]
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    texts = [""] * len(rows)
    devices = [policy.device] if policy.device.type == "cuda" else []
    was_training = policy.model.training
    policy.model.eval()
    try:
        with global_generator(seed, devices), torch.no_grad():
            for start in range(0, len(order), batch_size):
                chosen = order[start : start + batch_size]
                for index, text in zip(
                    chosen, _generate(policy, [rows[i] for i in chosen], encoder.ends, max_new_tokens, temperature)
                ):
                    texts[index] = text
                if progress is not None:
                    progress(min(start + batch_size, len(order)), len(order))
    finally:
        policy.model.train(was_training)
    return [texts[i : i + per_prompt] for i in range(0, len(texts), per_prompt)]


def _generate(
    policy: Policy, rows: Sequence[Sequence[int]], ends: Sequence[int], max_new_tokens: int, temperature: float
) -> list[str]:
    width = max(len(row) for row in rows)
    max_new_tokens = min(max_new_tokens, policy.positions - width)
    ids = torch.full((len(rows), width), policy.pad_id)
    mask = torch.zeros_like(ids)
    for number, row in enumerate(rows):  # padded on the left: generation continues at the right edge
        ids[number, width - len(row) :] = torch.tensor(row)
        mask[number, width - len(row) :] = 1
    sampling = (
        {"do_sample": True, "temperature": temperature, "top_k": 0, "top_p": 1.0} if temperature > 0 else {"do_sample": False}
    )
    out = policy.model.generate(
        input_ids=ids.to(policy.device),
        attention_mask=mask.to(policy.device),
        max_new_tokens=max_new_tokens,
        pad_token_id=policy.pad_id,
        eos_token_id=list(ends),
        **sampling,
    )
    return policy.tokenizer.batch_decode(out[:, width:], skip_special_tokens=True)
