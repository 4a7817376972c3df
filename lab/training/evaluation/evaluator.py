"""A look at the policy: what the objective says of held-out pairs, and what policy and reference answer to the same prompts."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import astuple, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from lab.objectives import State
from lab.pairs import Prompt, prompt_text
from lab.policy import Answer, Policy, asked, is_untouched, reference_model, sample
from lab.run.config import TrainConfig
from lab.training.control.stopping import StopCheck
from lab.training.data.batches import generator
from lab.training.data.held_out import held_out_terms
from lab.training.metrics import batch_scalars
from lab.training.setup.context import RunContext

from .sampled_answers import answer_facts, kept_answers, kl_divergence, kl_facts

ANSWERS = 5
"""Purpose of random numbers; see `generator`."""

PER_PROMPT = 2
"""The reference's answers to each prompt, and the policy's before and after training; in between it gives one."""

MANY, FEW = 100, 32
"""Prompts that are answered at a look unless the run says otherwise: of the world, whose tiny model answers a hundred in about a
second and whose oracle makes narrow intervals worth having, and of other pairs, whose models may need minutes."""

SHOWN = 12
"""Prompts whose answers are kept for people to read, at every look."""

BATCH = 50
"""Answers sampled at once. Requests are heard in between; a smaller number makes the world's tiny model twice as slow."""

Texts = Sequence[Sequence[str]]


@dataclass(frozen=True)
class Judgement:
    """What answers are worth: numbers for the curves, details (intervals), and the rewards of policy and reference,
    [prompts][answers] as they were given."""

    scalars: dict[str, float]
    detail: dict[str, Any]
    rewards: list[list[float]]
    reference_rewards: list[list[float]]


class Judge(Protocol):
    """Says what sampled answers are worth; see `judges`.

    prompts: the prompts it wants answered; none for those of the held-out pairs.
    Called with prompts, the policy's answers and the reference's, [prompts][answers], and progress(done, all), which may raise.
    """

    @property
    def prompts(self) -> Sequence[Prompt]: ...

    def __call__(self, prompts: Sequence[Prompt], answers: Texts, reference: Texts, progress: Progress) -> Judgement: ...


Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Evaluation:
    """What a look found: numbers for the curves, details for people, and every term of the held-out pairs, [N] each."""

    scalars: dict[str, float] = field(default_factory=dict)
    detail: dict[str, Any] = field(default_factory=dict)
    terms: dict[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class Evaluator:
    """Looks at the policy of a run. Nothing of the run is moved: no state, no generator, no gradient.

    model: the folder or hub id that the reference is read from again under full fine-tuning.
    cache: folder for its answers, or None to sample them at every look.
    stage(words, share, seconds left) reports progress; listen() is called between batches and may raise to stop.
    """

    context: RunContext
    model: str
    cache: Path | None
    judge: Judge | None
    stage: Callable[..., None]
    listen: Callable[[], None]
    stop_check: StopCheck | None = None

    def __call__(self, config: TrainConfig, step: int, state: State) -> Evaluation:
        """The look at `step`; empty where there is nothing held out and nothing to answer."""
        began = time.monotonic()
        terms = self._terms(config, state)
        scalars = {f"eval/{name}": value for name, value in batch_scalars(terms).items()} if terms else {}
        detail: dict[str, Any] = {"held_out": len(self.context.held_out)} if terms else {}
        prompts = self._prompts(config)
        if prompts:
            found = self._answers(config, step, prompts)
            scalars |= found.scalars
            detail |= found.detail
        return Evaluation(scalars, detail | {"seconds": round(time.monotonic() - began, 3)} if scalars else {}, terms)

    def _terms(self, config: TrainConfig, state: State) -> dict[str, np.ndarray]:
        if not self.context.held_out:
            return {}
        return held_out_terms(
            self.context.policy,
            config.objective,
            self.context.held_out,
            state,
            reference=self.context.reference,
            degree_head=self.context.degree_head,
            batch_size=config.batch_size,
            micro_batch_size=config.micro_batch,
            seed=config.seed,
            progress=self._progress("looking at held-out pairs"),
        )

    def _prompts(self, config: TrainConfig) -> list[Prompt]:
        """At most `eval_prompts`, evenly from all there are, so that every group of them is there."""
        most = config.eval_prompts
        if most is None:
            most = MANY if self.judge and self.judge.prompts else FEW
        held_out = {prompt_text(prompt): prompt for pair in self.context.held_out if (prompt := self.context.pairs[pair.id].prompt)}
        prompts = list((self.judge.prompts if self.judge else ()) or held_out.values())
        count = min(most, len(prompts))
        return [prompts[number * len(prompts) // count] for number in range(count)]

    def _answers(self, config: TrainConfig, step: int, prompts: Sequence[Prompt]) -> Evaluation:
        policy = self.context.policy
        untouched = step == 0 and is_untouched(policy)

        def reference_now() -> contextlib.AbstractContextManager[Policy]:
            return contextlib.nullcontext(policy) if untouched else self._reference()

        def reference_answers() -> list[list[Answer]]:
            with reference_now() as reference:
                return self._sample(config, reference, prompts, PER_PROMPT, 0, reference=True)

        kept = self.cache / "answers" if self.cache is not None else None
        reference = reference_answers() if kept is None else kept_answers(kept, _how(config, policy, prompts), reference_answers)
        if untouched:  # one model: half of its answers stand for the policy, and play against the other half
            half = PER_PROMPT // 2
            answers, opponents = [given[:half] for given in reference], [given[half:] for given in reference]
            divergence = [0.0] * len(prompts)
        else:
            count = PER_PROMPT if step in (0, config.steps) else 1
            answers, opponents = self._sample(config, policy, prompts, count, step + 1), reference
            with reference_now() as frozen:
                progress = self._progress("comparing answers with the reference")
                divergence = kl_divergence(policy, frozen, answers, progress=progress)
        scalars, detail = kl_facts(divergence)
        cut = sum(given[0].prompt_cut > 0 for given in answers)
        told = detail | {"prompts": len(prompts), "prompts_cut": cut}
        return self._judged(prompts, answers, opponents, Evaluation(scalars | answer_facts(answers), told))

    @contextlib.contextmanager
    def _reference(self) -> Iterator[Policy]:
        """The reference, loaded again where it has to be; loading and computing with it stop when the run is to stop."""
        loading = reference_model(self.context.policy, self.model)
        check = self.stop_check
        if check is None or self.context.policy.adapter:
            with loading as policy:
                yield policy
            return
        with contextlib.ExitStack() as stack:
            policy = check.wait_for(lambda: stack.enter_context(loading))
            check.watch(policy.model)
            yield policy

    def _sample(
        self, config: TrainConfig, policy: Policy, prompts: Sequence[Prompt], count: int, number: int, *, reference: bool = False
    ) -> list[list[Answer]]:
        return sample(
            policy,
            prompts,
            per_prompt=count,
            max_new_tokens=config.eval_tokens,
            seed=generator(config.seed, number, ANSWERS).initial_seed(),
            batch_size=BATCH,
            max_length=config.max_length,
            reference=reference,
            progress=self._progress("sampling the reference's answers" if reference else "sampling answers"),
        )

    def _judged(
        self, prompts: Sequence[Prompt], answers: list[list[Answer]], reference: list[list[Answer]], found: Evaluation
    ) -> Evaluation:
        texts, opponents = ([[answer.text for answer in given] for given in side] for side in (answers, reference))
        samples: list[dict[str, Any]] = [
            {"prompt": prompt_text(prompt), "answer": own[0], "reference_answer": other[0]}
            for prompt, own, other in zip(prompts[:SHOWN], texts, opponents)
        ]
        if self.judge is None:
            return Evaluation(found.scalars, found.detail | {"samples": samples})
        judgement = self.judge(prompts, texts, opponents, self._progress("judging answers"))
        for one, own_rewards, other_rewards in zip(samples, judgement.rewards, judgement.reference_rewards):
            one |= {"reward": own_rewards[0], "reference_reward": other_rewards[0]}
        return Evaluation(found.scalars | judgement.scalars, found.detail | judgement.detail | {"samples": samples})

    def _progress(self, message: str) -> Progress:
        """Words like "sampling answers 40 of 100" with the share done and the seconds left; then people are listened to."""
        began = time.monotonic()
        self.stage(message)

        def progress(done: int, total: int) -> None:
            self.stage(f"{message} {done} of {total}", done / total, (time.monotonic() - began) / done * (total - done))
            self.listen()

        return progress


def _how(config: TrainConfig, policy: Policy, prompts: Sequence[Prompt]) -> list[Any]:
    """All that the reference's answers depend on: the model as it was loaded and what it computes with, the prompts as tokens (so
    the chat template too), the tokens that end an answer and those that its text does not show, and how it is sampled."""
    encoded = asked(policy, prompts, max_new_tokens=config.eval_tokens, max_length=config.max_length)
    hidden = sorted(policy.tokenizer.all_special_ids)
    encoder = policy.encoder(config.max_length)
    ends = list(dict.fromkeys(map(encoder.ending, prompts)))
    computed = [policy.fingerprint, str(policy.device), config.precision, str(policy.autocast), config.quantize]
    sampled = [config.eval_tokens, config.seed, PER_PROMPT, BATCH]
    return [computed, sampled, [astuple(end) for end in ends], hidden, [[one.prompt, one.prompt_cut] for one in encoded]]
