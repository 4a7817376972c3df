"""Several seeds of the embedded world's model, stacked into one batched model (torch.func), against the same seeds one by one.

    python -m tests.bench.bench_stacked [--seeds 8] [--steps 3] [--rounds 3] [--threads 1 2]

DPO with AdamW, 16 pairs a step, float32, every seed with its own order of the pairs; reference log-probs are computed before. Both
ways compute plain rows with the model's own code, so that nothing but the stacking differs: one by one, rows are as long as the
seed's longest, stacked as long as the longest of all seeds. Attention is stacked as torch does it with its fused operation, for
which it has no batching rule (seed by seed), or as plain products. Rounds alternate; medians. Beside them stands how far the
numbers of each way are from those one by one: the loss of each step, and the log-probs of the answers after the first step.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import lab  # first: it settles how idle threads wait  # noqa: F401

import torch  # isort: skip
from torch import Tensor
from torch.func import functional_call, stack_module_state, vmap
from transformers import AutoModelForCausalLM

from lab.objectives import PairLogps, make_objective
from lab.opening import open_pairs
from lab.policy import Encoder
from lab.policy.sources.tokenizer_loading import read_tokenizer
from lab.training.data.encoded_pairs import encode_pair
from lab.world import model_source

PAIRS, RATE = 16, 2e-4
DPO = make_objective("dpo")


@dataclass(frozen=True)
class Rows:
    """The 2 x PAIRS texts of a step, chosen first, padded on the right.

    Attributes:
        ids: Tokens, int64 [..., R, T].
        answer: Whether a token belongs to the answer, bool [..., R, T].
    """

    ids: Tensor
    answer: Tensor


@dataclass(frozen=True)
class Trained:
    """What training all seeds gave.

    Attributes:
        seconds: Elapsed seconds of all steps.
        losses: By seed and step.
        after: The log-probs of the first step's answers after that step, by seed.
    """

    seconds: float
    losses: list[list[float]]
    after: list[Tensor]


def rows_of(texts: Sequence[tuple[list[int], list[int]]], width: int) -> Rows:
    """Pad texts (prompt, answer) to a width."""
    ids = torch.zeros(len(texts), width, dtype=torch.long)
    answer = torch.zeros(len(texts), width, dtype=torch.bool)
    for row, (prompt, rest) in enumerate(texts):
        ids[row, : len(prompt) + len(rest)] = torch.tensor([*prompt, *rest])
        answer[row, len(prompt) : len(prompt) + len(rest)] = True
    return Rows(ids, answer)


def token_logps(model: Any, parameters: dict[str, Tensor], ids: Tensor) -> Tensor:
    """Return the log-prob of every token but the first, float32 [R, T - 1], under a model with these parameters."""
    length = ids.shape[-1]
    causal = torch.full((length, length), -torch.inf).triu(1)[None, None]
    logits = functional_call(model, parameters, (ids,), {"attention_mask": causal, "use_cache": False}).logits
    return logits[:, :-1].log_softmax(-1).gather(-1, ids[:, 1:, None])[..., 0]


def loss(logps: Tensor, rows: Rows, reference: Tensor) -> Tensor:
    """Return DPO's mean loss from token log-probs [2B, T - 1]."""
    sides = [slice(0, PAIRS), slice(PAIRS, 2 * PAIRS)]
    mask = rows.answer[:, 1:]
    values = [(logps * mask)[side] for side in sides]
    pairs = PairLogps(*values, *(mask[side] for side in sides), *((reference * mask)[side] for side in sides))
    return DPO(pairs, DPO.initial_state(), {}, training=True)[0].losses.mean()


class Sweep:
    """The seeds' batches, and their training in both ways.

    Args:
        seeds: Number of seeds.
        steps: Steps of each.
    """

    def __init__(self, seeds: int, steps: int) -> None:
        folder = model_source("world")
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        encoder = Encoder(read_tokenizer(folder))
        texts = [encode_pair(pair, encoder) for pair in open_pairs("world").all()[: 40 * PAIRS]]
        self.batches: list[list[list[tuple[list[int], list[int]]]]] = []  # [step][seed]
        orders = [torch.randperm(len(texts), generator=torch.Generator().manual_seed(seed)).tolist() for seed in range(seeds)]
        for step in range(steps):
            chosen = [[texts[i] for i in order[PAIRS * step : PAIRS * (step + 1)]] for order in orders]
            sides = [[*(pair.chosen for pair in some), *(pair.rejected for pair in some)] for some in chosen]
            self.batches.append([[(list(one.prompt), list(one.answer)) for one in completions] for completions in sides])
        with torch.no_grad():
            self.reference = [[self._reference(rows) for rows in self.of(step)] for step in range(steps)]

    def of(self, step: int) -> list[Rows]:
        """Return the rows of each seed, as long as its own longest."""
        return [rows_of(texts, max(len(p) + len(a) for p, a in texts)) for texts in self.batches[step]]

    def _reference(self, rows: Rows) -> Tensor:
        return token_logps(self.model, dict(self.model.named_parameters()), rows.ids)

    def one_by_one(self) -> Trained:
        """Train each seed by itself."""
        self.model.set_attn_implementation("sdpa")
        losses, after, seconds = [], [], 0.0
        rows_by_step = [self.of(step) for step in range(len(self.batches))]
        for seed in range(len(self.batches[0])):
            parameters = {name: value.detach().clone().requires_grad_() for name, value in self.model.named_parameters()}
            optimizer = torch.optim.AdamW(parameters.values(), lr=RATE, fused=True)
            found = []
            for step, rows in enumerate(each[seed] for each in rows_by_step):
                began = time.perf_counter()
                value = loss(token_logps(self.model, parameters, rows.ids), rows, self.reference[step][seed])
                value.backward()
                optimizer.step()
                optimizer.zero_grad()
                found.append(value.item())
                seconds += time.perf_counter() - began
                if step == 0:
                    with torch.no_grad():
                        after.append(token_logps(self.model, parameters, rows.ids)[rows.answer[:, 1:]])
            losses.append(found)
        return Trained(seconds, losses, after)

    def stacked(self, attention: str) -> Trained:
        """Train all seeds as one batched model, with an attention of transformers."""
        self.model.set_attn_implementation(attention)
        seeds = len(self.batches[0])
        stacked, _ = stack_module_state([self.model] * seeds)
        parameters = {name: value.detach().clone().requires_grad_() for name, value in stacked.items()}
        optimizer = torch.optim.AdamW(parameters.values(), lr=RATE, fused=True)
        losses: list[list[float]] = [[] for _ in range(seeds)]
        after: list[Tensor] = []
        seconds = 0.0

        def forward(ids: Tensor) -> Tensor:
            return vmap(lambda own, tokens: token_logps(self.model, own, tokens))(parameters, ids)

        for step, batches in enumerate(self.batches):
            width = max(len(p) + len(a) for texts in batches for p, a in texts)
            rows = [rows_of(texts, width) for texts in batches]
            ids = torch.stack([one.ids for one in rows])
            known = [torch.nn.functional.pad(r, (0, width - 1 - r.shape[1])) for r in self.reference[step]]
            began = time.perf_counter()
            values = [loss(logps, one, r) for logps, one, r in zip(forward(ids), rows, known)]
            torch.stack(values).sum().backward()
            optimizer.step()
            optimizer.zero_grad()
            for found, value in zip(losses, values):
                found.append(value.item())
            seconds += time.perf_counter() - began
            if step == 0:
                with torch.no_grad():
                    after = [logps[one.answer[:, 1:]] for logps, one in zip(forward(ids), rows)]
        return Trained(seconds, losses, after)


def main() -> None:
    """Print a table of medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, nargs="+", default=sorted({1, torch.get_num_threads()}))
    options = parser.parse_args()
    sweep = Sweep(options.seeds, options.steps)
    print("| threads | way | ms a step and seed | share | losses apart by at most | log-probs after a step |")
    print("|---:|---|---:|---:|---:|---:|")
    ways: dict[str, Callable[[], Trained]] = {
        "one by one": sweep.one_by_one,
        "stacked, attention seed by seed": lambda: sweep.stacked("sdpa"),
        "stacked, attention as stacked products": lambda: sweep.stacked("eager"),
    }
    for threads in options.threads:
        torch.set_num_threads(threads)
        rounds = [{name: way() for name, way in ways.items()} for _ in range(options.rounds + 1)][1:]  # the first warms up
        seconds = {name: median(each[name].seconds for each in rounds) for name in ways}
        own = rounds[-1]["one by one"]
        for name, took in seconds.items():
            found = rounds[-1][name]
            apart = (torch.tensor(own.losses) - torch.tensor(found.losses)).abs().max().item()
            moved = max((one - other).abs().max().item() for one, other in zip(own.after, found.after))
            numbers = f"{1000 * took / options.steps / options.seeds:.1f} | {took / seconds['one by one']:.2f}"
            print(f"| {threads} | {name} | {numbers} | {apart:.1e} | {moved:.1e} |", flush=True)


if __name__ == "__main__":
    main()
