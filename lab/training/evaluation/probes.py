"""Probes: measurements at some steps of a run that change neither weights nor random numbers.

Two kinds: the gradient of a step, split by layer and side (`gradient_by_layer`), and log-probs of a panel of held-out pairs
(`panel`). Together they take at most `probe_budget` of the training time, half each.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from lab.policy import Policy
from lab.run.config import TrainConfig
from lab.store import LayerRow, StoreWriter
from lab.training.distributed import Workers
from lab.training.step import Probe

from .gradient_by_layer import ProbeBudget, select_layers, split_gradients, with_updates
from .panel import Panel, panel_rows


def panel_enabled(config: TrainConfig) -> bool:
    """Return whether a run with these settings measures a panel of held-out pairs."""
    automatic = config.probe_budget > 0 and config.eval_prompts != 0
    return config.evaluate and config.panel_pairs > 0 and (automatic or config.panel_every is not None)


def probed_parameters(config: TrainConfig, policy: Policy) -> tuple[str, ...]:
    """Return the names of the parameters whose gradient is split by side; empty with probe_budget = 0.

    Raises ValueError where `probe_layers` names a layer that the model does not have.
    """
    return select_layers(policy.parameters(), config.probe_layers) if config.probe_budget > 0 else ()


def probe_copies(config: TrainConfig) -> tuple[int, int]:
    """Return how many copies of the probed parameters' gradients a probe holds at most: (with these settings, with micro-batches).

    The chosen side's, with a degree head (SPO) also the rejected side's, and with micro-batches that of the current one.
    """
    parts = config.micro_batch is not None and config.micro_batch < config.batch_size
    sides = 2 if config.objective.degraded_spec() else 1
    return sides + parts, sides + 1


class Probes:
    """The probes of one run, and their cost.

    Args:
        config: Settings of the run.
        policy: The model in training.
        panel: The panel; empty for none.
        store: Receives the results.
        workers: The processes that train together.
        clock: Returns seconds; a GPU is synchronized before each reading.
    """

    def __init__(
        self,
        config: TrainConfig,
        policy: Policy,
        panel: Panel,
        store: StoreWriter,
        workers: Workers,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.config, self.policy, self.store, self.workers, self.clock = config, policy, store, workers, clock
        self.panel = panel
        # Sharded layers are not gathered for a probe.
        self.names = () if workers.sharded else probed_parameters(config, policy)
        both = bool(self.names and panel.pairs) and config.panel_every is None
        self.gradients = ProbeBudget(config.probe_budget / 2 if both else config.probe_budget)
        self.panel_budget = ProbeBudget(self.gradients.share if both else config.probe_budget)
        # The gradient of SPO's degree head comes from degraded answers and belongs to neither side.
        self._separate_rejected = config.objective.degraded_spec() is not None
        self._chosen: dict[str, Tensor] = {}
        self._rejected: dict[str, Tensor] = {}
        self._rows: list[LayerRow] = []
        self._before: dict[str, Tensor] = {}
        self._seconds = 0.0

    @property
    def cost(self) -> float:
        """Time of the probes as a share of the training time; a panel that is part of an evaluation is not counted."""
        trained = self.gradients.trained
        return (self.gradients.spent + self.panel_budget.spent) / trained if trained else 0.0

    # The gradient of a step, in the order of its calls: probe, split, record, trained.

    def probe(self) -> Probe | None:
        """Return the function that `accumulate` calls in this step, or None where no probe is due."""
        if not self.names or not self.workers.broadcast(self.gradients.due()):
            return None
        return self._add_gradients

    def _add_gradients(self, outputs: Sequence[Tensor], gradients: Sequence[Tensor]) -> None:
        """Add a micro-batch's gradient of the chosen side, with an extra backward pass to the probed layers only.

        With a degree head the rejected side is computed too; otherwise it is the rest of the total.
        """
        began = self._now()
        named = self.policy.parameters()
        probed = [named[name] for name in self.names]
        sides = (self._chosen, self._rejected) if self._separate_rejected else (self._chosen,)
        for side, output, gradient in zip(sides, outputs, gradients):
            grads = torch.autograd.grad(output, probed, gradient, retain_graph=True, allow_unused=True, materialize_grads=True)
            # With CUDA graphs they lie in the buffers that the step's own backward pass will write.
            kept = [grad.clone() for grad in grads] if self.policy.graphs is not None and not side else grads
            for name, grad in zip(self.names, kept):  # never in place: two of them may share their memory
                side[name] = side[name] + grad if name in side else grad
        self._seconds += self._now() - began

    def split(self) -> None:
        """Split the gradient in the parameters' `.grad` by side, before clipping, and copy the weights for `record`."""
        if not self._chosen:
            return
        began = self._now()
        named = self.policy.parameters()
        self.workers.average([*self._chosen.values(), *self._rejected.values()])
        total = {name: gradient for name in self.names if (gradient := named[name].grad) is not None}
        self._rows = split_gradients(total, self._chosen, self._rejected or None)
        self._chosen, self._rejected = {}, {}
        self._before = {name: named[name].detach().clone() for name in total}
        self._seconds += self._now() - began

    def record(self, step: int) -> None:
        """Record the split gradient of step `step`, with the update-to-weight ratios; call it after the optimizer step."""
        if not self._rows:
            return
        began = self._now()
        self.store.layers(step, with_updates(self._rows, self._before, self.policy.parameters()))
        self._rows, self._before = [], {}
        self._seconds += self._now() - began
        self.gradients.spend(self._seconds)

    def trained(self, seconds: float) -> None:
        """Count a step's seconds as training time, without those of its probe. seconds: duration with the probe."""
        for budget in (self.gradients, self.panel_budget):
            budget.trained += seconds - self._seconds
        self._seconds = 0.0

    def forget_step(self) -> None:
        """Discard the measurements of a step that was not completed."""
        self._chosen, self._rejected, self._rows, self._before, self._seconds = {}, {}, [], {}, 0.0

    # The panel.

    def panel_due(self, step: int) -> bool:
        """Return whether the panel is due after `step` steps, apart from evaluations."""
        if not self.panel.pairs:
            return False
        every = self.config.panel_every
        return self.workers.broadcast(self.panel_budget.due()) if every is None else bool(every) and step % every == 0

    def compute_panel(self, step: int, *, free: bool = False) -> None:
        """Compute and record the panel, with the seconds it took.

        free: The panel is part of an evaluation, whose time is not counted against the probes' budget.
        """
        if not self.panel.pairs:
            return
        began, config = self._now(), self.config
        size = config.micro_batch or config.batch_size
        rows = panel_rows(self.policy, self.panel, max_new_tokens=config.eval_tokens, max_length=config.max_length, batch_size=size)
        self.store.panel(step, rows)
        seconds = self._now() - began
        self.store.scalars(step, {"panel_seconds": seconds})
        if free:
            self.panel_budget.last = seconds
        else:
            self.panel_budget.spend(seconds)

    def _now(self) -> float:
        if self.policy.device.type == "cuda":
            torch.cuda.synchronize(self.policy.device)
        return self.clock()
