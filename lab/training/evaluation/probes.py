"""Probes of a run: measurements beside training at some of its steps. They change neither weights nor random numbers.

Two kinds: the gradient of a step, split by layer and side (`gradient_by_layer`), and log-probs of a panel of held-out pairs
(`panel`). Together they take at most `probe_budget` of the training time, half each, so that the cheaper one does not starve the
other.
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


def wants_panel(config: TrainConfig) -> bool:
    """Whether these settings ask for looks at a panel. A run that holds nothing out, or samples no answers, has none of itself."""
    by_itself = config.probe_budget > 0 and config.eval_prompts != 0
    return config.evaluate and config.panel_pairs > 0 and (by_itself or config.panel_every is not None)


def probed_parameters(config: TrainConfig, policy: Policy) -> tuple[str, ...]:
    """Names of the parameters whose gradient is split: none without a budget. Raises ValueError for layers that are not there."""
    return select_layers(policy.parameters(), config.probe_layers) if config.probe_budget > 0 else ()


def probe_copies(config: TrainConfig) -> tuple[int, int]:
    """Gradients of the probed parameters that a probe holds at most besides the step's own, as the run is, and with micro-batches:
    that of the chosen side, where a degree head is trained that of the rejected one, and with micro-batches that of the part which
    is being added."""
    parts = config.micro_batch is not None and config.micro_batch < config.batch_size
    sides = 2 if config.objective.degraded_spec() else 1
    return sides + parts, sides + 1


class Probes:
    """Both kinds of probes of one run, with what they cost.

    panel: empty where there is none.   clock: seconds; work that was handed to a GPU is waited for before it is read.
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
        # Parts of a layer that lie in different processes are not put together for a probe.
        self.names = () if workers.sharded else probed_parameters(config, policy)
        both = bool(self.names and panel.pairs) and config.panel_every is None
        self.gradients = ProbeBudget(config.probe_budget / 2 if both else config.probe_budget)
        self.panel_budget = ProbeBudget(self.gradients.share if both else config.probe_budget)
        # A degree head's part of the gradient comes from weakened answers and is counted to neither side.
        self._three_parts = config.objective.degraded_spec() is not None
        self._chosen: dict[str, Tensor] = {}
        self._rejected: dict[str, Tensor] = {}
        self._rows: list[LayerRow] = []
        self._before: dict[str, Tensor] = {}
        self._seconds = 0.0

    @property
    def cost(self) -> float:
        """Probes' time as a share of the time trained. Looks at the panel that are part of an evaluation are not in it."""
        trained = self.gradients.trained
        return (self.gradients.spent + self.panel_budget.spent) / trained if trained else 0.0

    # The gradient of a step, in the order of its calls: probe, split, record, trained.

    def probe(self) -> Probe | None:
        """What `accumulate` is to call in this step, or None where none is due."""
        if not self.names or not self.workers.broadcast(self.gradients.due()):
            return None
        return self._take

    def _take(self, outputs: Sequence[Tensor], gradients: Sequence[Tensor]) -> None:
        """Add one part's chosen gradient: an extra backward pass through its living graph, to the probed layers alone. Where the
        total is more than two parts, the rejected one needs another."""
        began = self._now()
        named = self.policy.parameters()
        wanted = [named[name] for name in self.names]
        sides = (self._chosen, self._rejected) if self._three_parts else (self._chosen,)
        for part, output, gradient in zip(sides, outputs, gradients):
            found = torch.autograd.grad(output, wanted, gradient, retain_graph=True, allow_unused=True, materialize_grads=True)
            # Of a recorded pass they lie where the step's own backward pass will write.
            kept = [more.clone() for more in found] if self.policy.graphs is not None and not part else found
            for name, more in zip(self.names, kept):  # never in place: two of them may share their memory
                part[name] = part[name] + more if name in part else more
        self._seconds += self._now() - began

    def split(self) -> None:
        """Split the gradient that lies in the parameters' `.grad`, before it is clipped, and keep the weights as they are."""
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
        """Record the split of step `step` with how far the optimizer has moved the weights."""
        if not self._rows:
            return
        began = self._now()
        self.store.layers(step, with_updates(self._rows, self._before, self.policy.parameters()))
        self._rows, self._before = [], {}
        self._seconds += self._now() - began
        self.gradients.took(self._seconds)

    def trained(self, seconds: float) -> None:
        """A step took so long, its probe included."""
        for budget in (self.gradients, self.panel_budget):
            budget.trained += seconds - self._seconds
        self._seconds = 0.0

    def forget_step(self) -> None:
        """Drop what a step that was not completed has left."""
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
            self.panel_budget.took(seconds)

    def _now(self) -> float:
        if self.policy.device.type == "cuda":
            torch.cuda.synchronize(self.policy.device)
        return self.clock()
