"""Answers that were encoded together keep that they share a prompt."""

from __future__ import annotations

import torch

from lab.pairs import pair_of
from lab.policy import PromptAnswer, load_policy
from lab.policy.layout import PromptTokens, shared
from lab.training.data.encoded_pairs import encode_pair

PAIR = {"prompt": "How do I bake bread?", "chosen": "Knead the dough.", "rejected": "No."}


def test_the_prompt_of_a_pair_is_hashed_once(model_folder, monkeypatch):
    policy = load_policy(str(model_folder("llama")), device="cpu")
    pair = encode_pair(pair_of(PAIR), policy.encoder(64))
    assert pair.chosen.prompt is pair.rejected.prompt
    hashed = []
    monkeypatch.setattr(PromptTokens, "__hash__", lambda self: hashed.append(1) or tuple.__hash__(self))
    first = shared([pair.chosen, pair.rejected], torch.device("cpu"))
    assert len(hashed) == 2
    monkeypatch.undo()
    assert hash(pair.chosen.prompt) == hash(tuple(pair.chosen.prompt))
    again = shared([pair.chosen, pair.rejected], torch.device("cpu"))
    assert torch.equal(first.ids, again.ids)
    assert pair.chosen.prompt._hash == hash(pair.chosen.prompt)


def test_equal_prompts_of_different_pairs_are_shared_too():
    one, other = PromptAnswer(PromptTokens((1, 2, 3)), (4,)), PromptAnswer([1, 2, 3], (5, 6))
    batch = shared([one, other], torch.device("cpu"))
    assert batch.ids.shape == (1, 4)
