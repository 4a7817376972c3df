"""Check a model by running it, and choose the fastest batch layout that gives its own log-probs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lab.policy.layout import PromptAnswer
from lab.policy.loading import ModelError
from lab.policy.logps import CompletionLogps, whole_head
from lab.policy.memory import out_of_memory
from lab.policy.policy import Policy
from lab.policy.sources.model_error import cause

from .behaviour import Rounding, Trial, leak, logits, longer_texts, make_trial, moved_by_later_tokens
from .dropout import adapter_dropout_off, drawing_modules, fresh_generators, generator_states
from .reach import Gradients, gradients, left_out, require_reached

PASSES = 24
"""Texts on which two training passes are compared, for a model that draws random numbers although every known rate is 0. Layers
skipped with probability 1/20 are detected with probability 0.99 where there are two of them."""


@dataclass(frozen=True)
class LayoutCheck:
    """Layout and kernel in which log-probs are computed.

    layout:     "shared" (prompts once), "plain" (one row per completion) or "single" (one row at a time).
    difference: Largest difference from the model's own log-probs, in nats.
    reason:     Why no faster way is used, or None.
    logits:     "split" (computed where they are needed) or "whole" (at every position).
    unreached:  Parts with trained weights that no text reaches, such as a vision tower; they stay unchanged.
    """

    layout: str
    difference: float
    reason: str | None = None
    logits: str = "split"
    unreached: tuple[str, ...] = ()


def choose_layout(
    policy: Policy, completions: Sequence[PromptAnswer], *, wanted: str = "auto", training: bool = True
) -> LayoutCheck:
    """Check a model by running it and set the policy to the fastest layout that gives the model's own log-probs.

    The model's own log-probs are computed one row at a time with nothing fused. Layouts are tried in this order: shared
    prompts with the policy's kernel, then with a simpler one; plain rows; single rows. Each must agree up to rounding, also
    in training mode and in its gradients, and no completion may change another's log-probs. Logits are computed only where
    they are needed if body and output layer give the model's own, else at every position. Shared prompts are tried once more with
    the whole last layer where they disagree. Where no layout agrees, fused operations are undone and all layouts tried again.

    Args:
        policy: After `share_prompts`, where shared prompts may be chosen.
        completions: Some of the run's own.
        wanted: "auto" or "shared" for all layouts, "plain" for none with shared prompts.
        training: Whether the model will be trained; if not, only evaluation is checked.

    Raises:
        ModelError: The model is not causal, cannot be computed, is random in training mode, or has trained weights that are
            never reached.
    """
    return _Examination(policy, completions, training).choose(wanted)


class _Examination:
    """One model with the completions that it is checked on: the run's own, then those of the trial."""

    def __init__(self, policy: Policy, completions: Sequence[PromptAnswer], training: bool) -> None:
        self.policy, self.training = policy, training
        self.name = type(policy.model.get_base_model() if hasattr(policy.model, "get_base_model") else policy.model).__name__
        self.trial: Trial = make_trial(policy, completions)
        self.completions = [*completions, *self.trial.completions]
        self.rounding = Rounding(policy, self.completions)
        self.own = self._own()
        self.own_gradients = Gradients({}, frozenset())

    def _own(self) -> CompletionLogps:
        """Compute the model's own log-probs. Raises ModelError where they cannot be computed or depend on later tokens."""
        policy = self.policy
        with policy.evaluating(), policy.as_loaded(), fresh_generators(0, policy.device):
            try:
                own = policy.logps(self.completions)
                moved = moved_by_later_tokens(policy, self.trial, self.rounding)
            except Exception as error:  # a model can raise any error
                if out_of_memory(error):
                    raise
                raise ModelError(
                    f"{self.name} cannot compute the logits of a text ({cause(error)}); give a causal language model for text."
                ) from error
        if not bool(own.logps.isfinite().all()):
            raise ModelError(
                f"{self.name} gives log-probs that are not finite; its weights may be damaged, or need another precision."
            )
        if moved:
            raise ModelError(
                f"{self.name} is not causal: changing the end of a text changes the log-probs before it by {moved:.3g} nats, so it "
                "cannot be trained on preferences; give a model that reads from left to right."
            )
        return own

    def choose(self, wanted: str) -> LayoutCheck:
        policy = self.policy
        kernels, reason = _kernels(policy, wanted), None
        if not kernels and wanted != "plain":
            reason = "the model is not written against transformers' attention interface"
        without_split = self._choose_head()
        unreached = self._require_reached() if self.training else ()
        while True:
            check, failed = self._first_that_agrees(kernels, reason or without_split)
            if check is not None:
                break
            if not policy.unfuse():
                raise ModelError(f"{self.name} gives other log-probs than its own in every layout ({failed}); use another model.")
            reason = f"norms, gated units or adapters in one operation each would change its log-probs ({failed})"
            if kernels:
                policy.share_prompts()
        return replace(check, unreached=unreached)

    def _require_reached(self) -> tuple[str, ...]:
        """Return the parts that no text reaches. Store the model's own gradients, for comparison with those of each layout."""
        policy = self.policy
        try:
            with policy.as_loaded():
                reached = self.own_gradients = gradients(policy, self.trial.completions)
                if left_out(reached):
                    reached = self._reached_by_longer_texts() or reached
        except Exception as error:  # a model can raise any error
            if out_of_memory(error):
                raise
            raise ModelError(
                f"{self.name} cannot be trained: no gradient comes back through it ({cause(error)}); give another model."
            ) from error
        parts = require_reached(self.name, reached, adapter=policy.adapter)
        if len(self.completions) > len(self.own.logps):
            self.own = self._own()
        return parts

    def _reached_by_longer_texts(self) -> Gradients | None:
        """Compute gradients of longer texts, which reach further parts and are compared from then on; None where they fail."""
        longer = longer_texts(self.policy, self.trial)
        try:
            reached = gradients(self.policy, longer)
        except Exception as error:  # a decoder may have fewer positions than its configuration declares
            if out_of_memory(error):
                raise
            return None
        if not left_out(reached):
            self.completions = [*longer, *self.completions]
        return reached

    def _choose_head(self) -> str | None:
        """Keep the split into body and output layer if it gives the model's own logits, else use whole logits; returns why."""
        policy, row = self.policy, self.trial.row
        head = policy.module.head
        if head.whole:
            return f"its logits are computed at every position: {head.reason}" if head.reason else None
        with policy.evaluating(), policy.as_loaded(head):
            own = logits(policy, row).log_softmax(-1)
            try:
                apart = (logits(policy, row, head).log_softmax(-1) - own).abs().amax(-1)
                agrees = self.rounding.explains(apart)
                message = f"{float(apart.max()):.3g} nats apart"
            except Exception as error:  # a body or an output layer of any shape
                if out_of_memory(error):
                    raise
                agrees, message = False, cause(error)
        if agrees:
            return None
        message = f"its logits are not those of its body and output layer alone ({message})"
        policy.module.head = whole_head(policy.model, message)
        return message

    def _first_that_agrees(self, kernels: Sequence[str], reason: str | None) -> tuple[LayoutCheck | None, str]:
        """Return the first layout that agrees, or None and how the last one differs."""
        policy, failed = self.policy, ""
        taken = "whole" if policy.module.head.whole else "split"
        for kernel in kernels:
            policy.shared = kernel
            difference, failed = self._compare_shared()
            if failed and policy.use_whole_last_layer():
                difference, failed = self._compare_shared()
            if not failed:
                return LayoutCheck("shared", difference, reason, taken), ""
            reason = reason or (failed if len(kernels) == 1 else f"{failed}, with the kernel {kernel}")
        for layout, use_rows in (("plain", policy.use_plain_rows), ("single", policy.use_single_rows)):
            use_rows()
            try:
                difference, failed = self._compare("rows in a batch" if layout == "plain" else "single rows")
            except ModelError:
                raise
            except Exception as error:  # a model can raise any error
                if out_of_memory(error):
                    raise
                failed = f"the model cannot compute them ({cause(error)})"
            if not failed:
                return LayoutCheck(layout, difference, reason, taken), ""
            reason = failed if layout == "plain" else reason
        return None, failed

    def _compare_shared(self) -> tuple[float, str]:
        """Return what `_compare` does for shared prompts, also where the model cannot compute them."""
        try:
            return self._compare("shared prompts")
        except ModelError:
            raise
        except Exception as error:  # a model may fail on such a row in any way
            if out_of_memory(error):
                raise
            return 0.0, f"the model cannot take a row of shared prompts ({cause(error)})"

    def _compare(self, layout: str) -> tuple[float, str]:
        """Return the current layout's largest difference from the model's own log-probs, and why it fails ("" if it agrees).

        `layout` is its name in messages. Raises ModelError for a model whose training mode is random or differs from evaluation.
        """
        if not self.training:
            with self.policy.evaluating():
                return self._agreement(layout, lambda: self.policy.logps(self.completions).logps, self._in_one_batch)
        passes = _TrainingPasses(self.policy)
        with passes:
            difference, failed = self._agreement(layout, lambda: passes(self.completions), passes.in_one_batch)
            if failed or passes.drew:
                self._require_repeatable(passes)
        if not failed:
            changed = gradients(self.policy, self.trial.completions).differs(self.own_gradients, half=self.rounding.half)
            return difference, f"{layout} would change the gradient of {changed}" if changed else ""
        with self.policy.evaluating():
            _, wrong = self._agreement(layout, lambda: self.policy.logps(self.completions).logps, self._in_one_batch)
        if not wrong:
            raise ModelError(
                f"{self.name} computes something else in training mode than in evaluation ({difference:.3g} nats apart), so the "
                "trained model would not be the measured one; give a model without such a part."
            )
        return difference, failed

    def _agreement(
        self, layout: str, compute: Callable[[], Tensor], together: Callable[[Sequence[PromptAnswer]], Tensor]
    ) -> tuple[float, str]:
        base = together(self.trial.completions)
        count, width = len(base), base.shape[1]
        pairs = (
            (compute(), self.own.logps, self.own.mask),
            (base, self.own.logps[-count:, :width], self.own.mask[-count:, :width]),
        )
        apart = torch.cat([(logps - own).abs()[mask] for logps, own, mask in pairs])
        largest = float(apart.max())
        if not self.rounding.explains(apart):
            return largest, f"{layout} would change its log-probs by {largest:.3g} nats"
        moved = leak(self.policy, self.trial, self.rounding, base, together) if not self.policy.single else 0.0
        if moved:
            return max(largest, moved), f"with {layout} one completion would change another's log-probs by {moved:.3g} nats"
        return largest, ""

    def _in_one_batch(self, completions: Sequence[PromptAnswer]) -> Tensor:
        return self.policy.logps(completions, together=True).logps

    def _require_repeatable(self, passes: _TrainingPasses) -> None:
        """Raise ModelError where two training passes with other random numbers differ.

        A model that draws none is repeatable; for one that does, many texts are tried, because few tokens may be affected.
        """
        most, texts = 0.0, self.trial.completions
        for seed in range(PASSES if passes.drew else 0):
            texts = make_trial(self.policy, self.completions, seed=seed).completions
            apart = (passes(texts) - passes(texts)).abs()
            most = float(apart.nan_to_num(torch.inf).max())
            if not self.rounding.explains(apart):
                break
        else:
            return
        names = drawing_modules(self.policy.model, self.policy.device, lambda: self.policy.logps(texts))
        place = f" in {', '.join(names[:3])}{' and others' if len(names) > 3 else ''}" if names else ""
        raise ModelError(
            f"{self.name} is random in training mode{place}: two passes differ by {most:.3g} nats, so the policy would not be its "
            "own reference; set that rate to 0 in the model's config.json, or give another model."
        )


class _TrainingPasses:
    """Log-probs of a policy in training mode, without gradients and adapter dropout, each pass with another seed.

    drew: Whether a pass has drawn any random number.
    """

    def __init__(self, policy: Policy) -> None:
        self.policy, self.drew, self.number = policy, False, 0

    def __enter__(self) -> None:
        self.was_training = self.policy.model.training
        self.policy.model.train()
        self.off = adapter_dropout_off(self.policy.model)
        self.off.__enter__()

    def __exit__(self, *error: object) -> None:
        self.off.__exit__(None, None, None)
        self.policy.model.train(self.was_training)

    def __call__(self, completions: Sequence[PromptAnswer]) -> Tensor:
        return self._pass(lambda: self.policy.logps(completions).logps)

    def in_one_batch(self, completions: Sequence[PromptAnswer]) -> Tensor:
        return self._pass(lambda: self.policy.logps(completions, together=True).logps)

    def _pass(self, compute: Callable[[], Tensor]) -> Tensor:
        self.number += 1
        with torch.no_grad(), fresh_generators(self.number, self.policy.device):
            before = generator_states(self.policy.device)
            logps = compute()
            self.drew = self.drew or generator_states(self.policy.device) != before
        return logps


def _kernels(policy: Policy, wanted: str) -> tuple[str, ...]:
    """Kernels for shared prompts to compare, in order: the policy's, and on a GPU the simplest one."""
    if policy.shared is None or wanted == "plain":
        return ()
    others = () if policy.device.type == "cpu" else ("padded",)
    return tuple(dict.fromkeys((policy.shared, *others)))
