"""Evaluation of the policy: the objective's terms on held-out pairs, and answers of policy and reference to the same prompts."""

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
from lab.policy import Answer, Policy, encode_prompts, is_untouched, reference_model, sample
from lab.run.config import TrainConfig
from lab.training.control.stopping import StopCheck
from lab.training.data.held_out import held_out_terms
from lab.training.data.random_streams import Purpose, generator
from lab.training.metrics import batch_scalars
from lab.training.reporter import RunReporter
from lab.training.run_context import RunContext

from .sampled_answers import answer_metrics, cached_answers, kl_divergence, kl_metrics, values_by_prompt

ANSWERS_PER_PROMPT = 2
"""Answers per prompt of the reference, and of the policy before and after training; during training the policy samples one."""

WORLD_PROMPTS, OTHER_PROMPTS = 100, 32
"""Prompts per evaluation unless `eval_prompts` is set: for the embedded world, whose tiny model answers a hundred in about a second
and whose oracle makes narrow intervals useful, and for other pairs, whose models may need minutes."""

SHOWN_PROMPTS = 12
"""Prompts whose answers are stored as text at every evaluation."""

SAMPLING_BATCH = 100
"""Answers sampled at once. Requests are polled in between; with half of it, sampling from the world's tiny model takes half as long
again."""

Texts = Sequence[Sequence[str]]


@dataclass(frozen=True)
class Judgement:
    """Rewards of sampled answers.

    Attributes:
        scalars: Numbers for the curves, by name.
        detail: Further entries of the evaluation event, such as intervals.
        rewards: Rewards of the policy's answers, [prompts][answers].
        reference_rewards: Rewards of the reference's answers, [prompts][answers].
    """

    scalars: dict[str, float]
    detail: dict[str, Any]
    rewards: list[list[float]]
    reference_rewards: list[list[float]]


class Judge(Protocol):
    """Protocol: score sampled answers. Implementations are in `judges`."""

    @property
    def prompts(self) -> Sequence[Prompt]:
        """The prompts to answer; empty for the prompts of the held-out pairs."""

    def __call__(self, prompts: Sequence[Prompt], answers: Texts, reference: Texts, progress: OnProgress) -> Judgement:
        """Score the answers of policy and reference.

        Args:
            prompts: The prompts that were answered.
            answers: The policy's answers, [prompts][answers].
            reference: The reference's answers, [prompts][answers].
            progress: Called as progress(done, total); may raise to stop.
        """


OnProgress = Callable[[int, int], None]


@dataclass(frozen=True)
class Evaluation:
    """Result of an evaluation.

    Attributes:
        scalars: Numbers for the curves, by name.
        detail: Further entries of the evaluation event: counts, intervals, sampled answers.
        terms: Every term of the N held-out pairs, float32 [N] each.
    """

    scalars: dict[str, float] = field(default_factory=dict)
    detail: dict[str, Any] = field(default_factory=dict)
    terms: dict[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class Evaluator:
    """Evaluates the policy of a run without changing it: no state, generator or gradient is touched.

    Attributes:
        context: Model, pairs and reference of the run.
        model: Folder or hub id from which the reference is loaded again under full fine-tuning.
        cache: Folder for the reference's answers; None samples them at every evaluation.
        judge: Scores sampled answers, or None.
        reporter: Receives stages.
        poll: Called between batches; may raise to stop.
        stop_check: Interrupts loading the reference, and its passes.
    """

    context: RunContext
    model: str
    cache: Path | None
    judge: Judge | None
    reporter: RunReporter
    poll: Callable[[], None]
    stop_check: StopCheck | None = None

    def __call__(self, config: TrainConfig, step: int, state: State) -> Evaluation:
        """Evaluate the policy after `step` steps; empty without held-out pairs and prompts. state: the objective's state."""
        began = time.monotonic()
        terms = self._terms(config, state)
        scalars = {f"eval/{name}": value for name, value in batch_scalars(terms).items()} if terms else {}
        detail: dict[str, Any] = {"held_out": len(self.context.data.held_out)} if terms else {}
        prompts = self._prompts(config)
        if prompts:
            sampled = self._answers(config, step, prompts)
            scalars |= sampled.scalars
            detail |= sampled.detail
        return Evaluation(scalars, detail | {"seconds": round(time.monotonic() - began, 3)} if scalars else {}, terms)

    def _terms(self, config: TrainConfig, state: State) -> dict[str, np.ndarray]:
        if not self.context.data.held_out:
            return {}
        return held_out_terms(
            self.context.policy,
            config.objective,
            self.context.data.held_out,
            state,
            reference=self.context.reference,
            degree_head=self.context.degree_head,
            batch_size=config.batch_size,
            micro_batch_size=config.micro_batch,
            seed=config.seed,
            progress=self._progress("evaluating held-out pairs"),
        )

    def _prompts(self, config: TrainConfig) -> list[Prompt]:
        """Return at most `eval_prompts` prompts, evenly spaced, so that every group of prompts is represented."""
        most = config.eval_prompts
        if most is None:
            most = WORLD_PROMPTS if self.judge and self.judge.prompts else OTHER_PROMPTS
        data = self.context.data
        held_out = {prompt_text(data.pairs[pair.id].prompt): data.pairs[pair.id].context for pair in data.held_out}
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
                return self._sample(config, reference, prompts, ANSWERS_PER_PROMPT, 0, reference=True)

        if self.cache is None:
            reference = reference_answers()
        else:
            reference = cached_answers(self.cache / "answers", _cache_key(config, policy, prompts), reference_answers)
        if untouched:  # policy and reference are equal: half of the answers are the policy's, compared with the other half
            half = ANSWERS_PER_PROMPT // 2
            answers, opponents = [given[:half] for given in reference], [given[half:] for given in reference]
            divergence = [0.0] * len(prompts)
        else:
            count = ANSWERS_PER_PROMPT if step in (0, config.steps) else 1
            answers, opponents = self._sample(config, policy, prompts, count, step + 1), reference
            with reference_now() as frozen:
                progress = self._progress("comparing answers with the reference")
                divergence = kl_divergence(policy, frozen, answers, progress=progress)
        scalars, intervals = kl_metrics(divergence)
        cut = sum(given[0].prompt_cut > 0 for given in answers)
        by_prompt = values_by_prompt(prompts, answers, divergence)
        detail = {**intervals, "prompts": len(prompts), "prompts_cut": cut, "by_prompt": by_prompt}
        return self._judged(prompts, answers, opponents, Evaluation(scalars | answer_metrics(answers), detail))

    @contextlib.contextmanager
    def _reference(self) -> Iterator[Policy]:
        """Provide the reference, loaded again under full fine-tuning; a stop request interrupts loading it and its passes."""
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
            seed=generator(config.seed, number, Purpose.ANSWERS).initial_seed(),
            batch_size=SAMPLING_BATCH,
            max_length=config.max_length,
            reference=reference,
            progress=self._progress("sampling the reference's answers" if reference else "sampling answers"),
        )

    def _judged(
        self, prompts: Sequence[Prompt], answers: list[list[Answer]], reference: list[list[Answer]], measured: Evaluation
    ) -> Evaluation:
        """Add text samples, and rewards where there is a judge."""
        texts, opponents = ([[answer.text for answer in given] for given in side] for side in (answers, reference))
        samples: list[dict[str, Any]] = [
            {"prompt": prompt_text(prompt), "answer": own[0], "reference_answer": other[0]}
            for prompt, own, other in zip(prompts[:SHOWN_PROMPTS], texts, opponents)
        ]
        if self.judge is None:
            return Evaluation(measured.scalars, measured.detail | {"samples": samples})
        judgement = self.judge(prompts, texts, opponents, self._progress("judging answers"))
        for sampled, own_rewards, other_rewards in zip(samples, judgement.rewards, judgement.reference_rewards):
            sampled |= {"reward": own_rewards[0], "reference_reward": other_rewards[0]}
        values = {"by_prompt": measured.detail["by_prompt"] | judgement.detail.get("by_prompt", {})}
        return Evaluation(measured.scalars | judgement.scalars, measured.detail | judgement.detail | values | {"samples": samples})

    def _progress(self, message: str) -> OnProgress:
        """Return a function that reports a stage ("sampling answers 40 of 100", share done, seconds left) and polls requests."""
        began = time.monotonic()
        self.reporter.stage(message)

        def progress(done: int, total: int) -> None:
            self.reporter.stage(f"{message} {done} of {total}", done / total, (time.monotonic() - began) / done * (total - done))
            self.poll()

        return progress


def _cache_key(config: TrainConfig, policy: Policy, prompts: Sequence[Prompt]) -> list[Any]:
    """Return everything that the reference's answers depend on, as JSON values.

    The loaded model and its precision, the prompts as tokens (hence the chat template), end-of-answer and special tokens, and the
    sampling settings.
    """
    encoded = encode_prompts(policy, prompts, max_new_tokens=config.eval_tokens, max_length=config.max_length)
    hidden = sorted(policy.tokenizer.all_special_ids)
    encoder = policy.encoder(config.max_length)
    ends = list(dict.fromkeys(map(encoder.ending, prompts)))
    computed = [policy.fingerprint, str(policy.device), config.precision, str(policy.autocast), config.quantize]
    sampled = [config.eval_tokens, config.seed, ANSWERS_PER_PROMPT, SAMPLING_BATCH]
    tokens = [[prompt.prompt, prompt.prompt_cut] for prompt in encoded]
    return [computed, sampled, [astuple(end) for end in ends], hidden, tokens]
