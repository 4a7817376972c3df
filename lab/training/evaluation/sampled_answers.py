"""Metrics of sampled answers: KL divergence from the reference, length, repetition; and the cache of the reference's answers."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from lab.intervals import positive_interval, standard_error
from lab.pairs import Prompt
from lab.pairs.pair import to_bytes, to_json
from lab.policy import Answer, Policy

NGRAM = 4


def repetition(text: str, n: int = NGRAM) -> float:
    """Return the share of repeated n-grams of words: 1 - distinct / all, in [0, 1); 0 for fewer than n words.

    seq-rep-n of Welleck et al. 2019, arXiv 1908.04319, section 6, over words separated by white space.
    """
    words = text.split()
    grams = list(zip(*(words[start:] for start in range(n))))
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def kl_divergence(
    policy: Policy,
    reference: Policy,
    answers: Sequence[Sequence[Answer]],
    *,
    batch_size: int = 16,
    progress: Callable[[int, int], None],
) -> list[float]:
    """Estimate KL(policy || reference) over whole answers for each prompt, in nats: the mean over the prompt's answers.

    The sum of r - 1 - log r over an answer's tokens, r = reference / policy: estimator k3 of
    http://joschu.net/blog/kl-approx.html (Schulman 2020; also arXiv 2402.03300, eq. 4), unbiased for the divergence of the
    next token given its prefix, and never negative. By the chain rule the sum is unbiased for the divergence of whole answers
    (of their first max_new_tokens tokens), with far lower variance than the log-ratio.

    Args:
        policy: The policy.
        reference: See `lab.policy.reference_model`.
        answers: Sampled from the policy at temperature 1, [prompts][answers].
        batch_size: Answers per forward pass.
        progress: Receives (answers done, answers in total) after every batch; may raise to stop.
    """
    flat = [(number, answer) for number, given in enumerate(answers) for answer in given]
    order = sorted(range(len(flat)), key=lambda i: len(flat[i][1].prompt) + len(flat[i][1].ids))
    sums: list[list[float]] = [[] for _ in answers]
    for start in range(0, len(order), batch_size):
        chosen = [flat[i] for i in order[start : start + batch_size]]
        completions = [answer.completion for _, answer in chosen]
        with policy.evaluating():
            own = policy.logps(completions)
        with reference.evaluating(), reference.reference():
            other = reference.logps(completions)
        log_r = (other.logps - own.logps).double()
        k3 = torch.where(own.mask, torch.expm1(log_r) - log_r, 0.0).clamp(min=0).sum(-1).tolist()  # below 0 by rounding alone
        for (number, _), value in zip(chosen, k3):
            sums[number].append(value)
        progress(min(start + batch_size, len(order)), len(order))
    return [fmean(values) for values in sums]


def kl_metrics(values: Sequence[float]) -> tuple[dict[str, float], dict[str, float]]:
    """Return (scalars, detail): the mean divergence, and its standard error and 95 % interval, in nats per answer.

    Args:
        values: One estimate per prompt. A few are often far larger than the others, hence `positive_interval`.
    """
    interval = positive_interval(values)
    return {"eval/kl": interval.mean}, {"kl_se": standard_error(values), "kl_low": interval.low, "kl_high": interval.high}


def answer_metrics(answers: Sequence[Sequence[Answer]]) -> dict[str, float]:
    """Return means over all answers, under the names of TRL's GRPOTrainer where it has one.

    Tokens per answer (end-of-sequence included), share of answers cut by the token limit, share of repeated 4-grams of words.
    """
    flat = [answer for given in answers for answer in given]
    return {
        "eval/completions/mean_length": fmean(len(answer.ids) for answer in flat),
        "eval/completions/clipped_ratio": fmean(not answer.ended for answer in flat),
        "eval/repetition": fmean(repetition(answer.text) for answer in flat),
    }


def values_by_prompt(
    prompts: Sequence[Prompt], answers: Sequence[Sequence[Answer]], divergence: Sequence[float]
) -> dict[str, list[Any]]:
    """Return what was measured on the answers to each prompt, for comparisons of runs that pair equal prompts.

    Args:
        prompts: The prompts.
        answers: The policy's answers, [prompts][answers].
        divergence: KL divergence of each prompt's answers, in nats.

    Returns:
        A hash of every prompt under "prompt", and one value per prompt under the name of each scalar.
    """
    return {
        "prompt": [hashlib.blake2b(to_bytes(to_json(prompt)), digest_size=6).hexdigest() for prompt in prompts],
        "eval/kl": [round_for_record(value) for value in divergence],
        "eval/completions/mean_length": [fmean(len(answer.ids) for answer in given) for given in answers],
    }


def round_for_record(value: float) -> float:
    """Round a value of one prompt to 6 digits, which halves the space that it takes in the run's store."""
    return float(f"{value:.6g}")


def cached_answers(folder: Path, key: Sequence[object], make: Callable[[], list[list[Answer]]]) -> list[list[Answer]]:
    """Return the reference's answers, [prompts][answers], from a cache shared by all runs.

    Args:
        folder: Folder of the cache.
        key: Everything that the answers depend on, as JSON values.
        make: Samples the answers where the cache does not have them or its file is damaged.
    """
    digest = hashlib.blake2b(json.dumps(key, sort_keys=True).encode(), digest_size=12).hexdigest()
    path = folder / f"{digest}.json"
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        return [[Answer(**a | {"prompt": tuple(a["prompt"]), "ids": tuple(a["ids"])}) for a in given] for given in stored]
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        made = make()
    folder.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    draft.write_text(json.dumps([[asdict(answer) for answer in given] for given in made]), encoding="utf-8")
    draft.replace(path)
    return made
