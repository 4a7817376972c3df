"""Train two steps in this process and print, as JSON, the bytes beside the weights that the report said and those really taken.

python -m tests.training.measured_memory HIDDEN LAYERS VOCABULARY BATCH MICRO TOKENS RANK
"""

from __future__ import annotations

import ctypes
import gc
import json
import re
import sys
from pathlib import Path
from typing import Any

import torch
import transformers

from lab.policy import Completion, Lora, Policy, load_policy
from lab.training.batches import EncodedPair, generator
from lab.training.config import TrainConfig
from lab.training.order import Order
from lab.training.preflight import preflight
from lab.training.reading import Reading
from lab.training.step import accumulate
from tests.models import tokenizer


def resident(name: str) -> int:
    """VmRSS or VmHWM (the largest VmRSS since the last reset) in bytes."""
    found = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return int(found[1]) * 1024


def policy_of(folder: Path, hidden: int, layers: int, vocabulary: int, rank: int) -> Policy:
    config = transformers.LlamaConfig(
        hidden_size=hidden,
        intermediate_size=4 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=8,
        vocab_size=vocabulary,
        max_position_embeddings=2048,
        tie_word_embeddings=False,
    )
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return load_policy(str(folder), lora=Lora(rank=rank) if rank else None, device="cpu")


def main(folder: str, numbers: list[int]) -> dict[str, Any]:
    hidden, layers, vocabulary, batch, micro, tokens, rank = numbers
    torch.set_num_threads(1)
    policy = policy_of(Path(folder), hidden, layers, vocabulary, rank)
    draw = generator(0, 0, 0)

    def ids(count: int) -> tuple[int, ...]:
        return tuple(torch.randint(2, vocabulary, (count,), generator=draw).tolist())

    pairs = []
    for number in range(batch):
        prompt = ids(tokens)
        pairs.append(EncodedPair(str(number), 1, Completion(prompt, ids(tokens)), Completion(prompt, ids(tokens))))
    config = TrainConfig.parse(objective="simpo", batch_size=batch, micro_batch_size=micro, probe_budget=0, lora_rank=rank)
    report = preflight(policy, config, Reading([], Order.of(batch, batch, 0), dict(enumerate(pairs))), 2048, missing=0)
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # what the report's own passes left with the allocator would hide what the steps take
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM
    optimizer = torch.optim.AdamW(policy.parameters().values(), lr=1e-6, fused=True)
    for _ in range(2):
        optimizer.zero_grad()
        accumulate(policy, config.objective, pairs, {}, draw, reference=None, micro_batch_size=micro)
        optimizer.step()
    return {"said": report.memory.more, "took": resident("VmHWM") - before}


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], [int(number) for number in sys.argv[2:]])))
