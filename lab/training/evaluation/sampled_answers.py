"""Sampled answers of policy and reference: how far the one has moved from the other, and what its answers are like."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean

import torch

from lab.intervals import positive_interval, standard_error
from lab.policy import Answer, Policy

NGRAM = 4


def repetition(text: str, n: int = NGRAM) -> float:
    """Share of the text's n-grams of words that stood in it before: 1 - distinct / all, in [0, 1); 0 for fewer than n words.

    seq-rep-n of Welleck et al. 2019, arXiv 1908.04319, section 6, over words separated by white space.
    """
    message = text.split()
    grams = list(zip(*(message[start:] for start in range(n))))
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def kl_divergence(
    policy: Policy,
    reference: Policy,
    answers: Sequence[Sequence[Answer]],
    *,
    batch_size: int = 16,
    progress: Callable[[int, int], None],
) -> list[float]:
    """An estimate of KL(policy || reference) over whole answers for each prompt, in nats: the mean over the answers given for it.

    answers: sampled from the policy at temperature 1, [prompts][answers].   reference: see `lab.policy.reference_model`.

    At every token of an answer r = ref / policy, and r - 1 - log r is added up: the estimator k3 of
    http://joschu.net/blog/kl-approx.html (Schulman 2020; also arXiv 2402.03300, eq. 4), unbiased for the divergence of the
    next token given what stands before it, and never negative. By the chain rule the sum over an answer is unbiased for the
    divergence of whole answers (of their first max_new_tokens tokens), with far less noise than the plain log-ratio has.
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


def kl_facts(values: Sequence[float]) -> tuple[dict[str, float], dict[str, float]]:
    """(scalars, detail) of one estimate a prompt: the mean with its standard error and 95 % interval, nats an answer.

    The divergence is never negative and often far larger for a few prompts than for the rest; see `positive_interval`.
    """
    found = positive_interval(values)
    return {"eval/kl": found.mean}, {"kl_se": standard_error(values), "kl_low": found.low, "kl_high": found.high}


def answer_facts(answers: Sequence[Sequence[Answer]]) -> dict[str, float]:
    """What answers are like, TRL's names where GRPOTrainer has one: mean tokens with the end-of-sequence, share that was cut before
    it ended by itself, share of repeated 4-grams of words. Means over all answers."""
    flat = [answer for given in answers for answer in given]
    return {
        "eval/completions/mean_length": fmean(len(answer.ids) for answer in flat),
        "eval/completions/clipped_ratio": fmean(not answer.ended for answer in flat),
        "eval/repetition": fmean(repetition(answer.text) for answer in flat),
    }


def kept_answers(folder: Path, key: Sequence[object], make: Callable[[], list[list[Answer]]]) -> list[list[Answer]]:
    """The reference's answers, made once for all runs on the same model, prompts and seed: read from `folder`, or put there.

    key: everything they depend on, as JSON values. A file that is not whole is made again.
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
