"""The preflight report: lengths, truncation, memory and time of a run before its first step. Stored with the run as an event."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

BARS = "▁▂▃▄▅▆▇█"


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Lengths(_Value):
    """Tokens of one part of the pairs (prompt, chosen or rejected) before truncation.

    Attributes:
        median: Median number of tokens.
        p95: 95th percentile.
        longest: Largest number of tokens.
        histogram: Number of pairs in bins of equal width from 0 to `longest`.
    """

    median: int
    p95: int
    longest: int
    histogram: tuple[int, ...]


class Finding(_Value):
    """A finding about some pairs, or about a setting (then without pairs).

    Attributes:
        kind: prompt_cut, answer_cut, dropped, same (both answers have the same tokens) weighted or degree; of
            held-out pairs held_out_cut or held_out_dropped; of settings learning_rate, batch_larger_than_set, many_epochs,
            no_held_out or no_degree.
        message: The finding as a sentence.
        pairs: Number of pairs concerned.
        tokens: Number of tokens that are cut off.
        ids: The first hundred of these pairs.
    """

    kind: str
    message: str
    pairs: int
    tokens: int
    ids: tuple[str, ...]


class Memory(_Value):
    """Memory that training needs at its peak, in bytes.

    Attributes:
        device: The device.
        process: Memory of the process besides the weights (Python, libraries); 0 on a GPU.
        weights: Parameters and buffers as loaded.
        gradients: One number per trained parameter; for those of probed layers a second one, with micro-batches a third.
        optimizer: AdamW's two moments, two numbers per trained parameter.
        activations: What autograd keeps for the largest micro-batch, extrapolated from pairs of several lengths; with gradient
            checkpointing including one layer that is recomputed.
        logits: Working memory of one chunk of logits.
        step: Peak of gradients, activations and logits within a step (with a single micro-batch, activations are released while
            gradients are allocated); None in older reports.
        evaluation: Peak of an evaluation: the reference's weights (full fine-tuning), key-value cache of the answers.
        free: Bytes that are free on the device after loading the weights.
    """

    device: str
    process: int = 0
    weights: int
    gradients: int
    optimizer: int
    activations: int
    logits: int
    step: int | None = None
    evaluation: int = 0
    free: int

    @property
    def total(self) -> int:
        """Peak memory of the process, or on the GPU."""
        return self.process + self.weights + self.more

    @property
    def more(self) -> int:
        """Peak memory besides the weights."""
        step = self.gradients + self.activations + self.logits if self.step is None else self.step
        return self.optimizer + max(step, self.evaluation)

    @property
    def enough(self) -> bool:
        """Whether the free memory is enough."""
        return self.more <= self.free


class Time(_Value):
    """Estimated time in seconds, without evaluation, sampling, probes and checkpoints.

    Attributes:
        step: One optimizer step.
        reference: Reference log-probs that are not in the cache.
        training: All steps that are left.
        measured_pairs: Number of pairs of median length in the timed forward and backward pass.
    """

    step: float
    reference: float
    training: float
    measured_pairs: int


class Preflight(_Value):
    """The report of a run before its first step.

    Attributes:
        pairs: Number of pairs trained on, without dropped ones.
        held_out: Number of held-out pairs.
        seen: Number of pairs that occur in the steps that are left.
        prompts: Number of different prompts.
        steps: The run's steps.
        done: Steps done when the run is resumed, 0 for a new run.
        processes: Number of processes that train together; `memory` is that of each.
        batch_size: Pairs per step.
        micro_batch_size: Pairs computed at once.
        fitted: Whether that is the largest that fits (micro_batch_size = fit).
        max_length: Most tokens of prompt and answer.
        tokens_per_epoch: Tokens of all prompts, chosen and rejected answers.
        lengths: Token counts by part: prompt, chosen, rejected.
        findings: Remarks on pairs and settings.
        memory: Estimated memory.
        time: Estimated time; None if memory ran out while a single pair was timed.
        advice: What to do if the memory is not enough, else None.
    """

    pairs: int
    held_out: int = 0
    seen: int
    prompts: int
    steps: int
    done: int = 0
    processes: int = 1
    batch_size: int
    micro_batch_size: int
    fitted: bool = False
    max_length: int
    tokens_per_epoch: int
    lengths: dict[str, Lengths]
    findings: tuple[Finding, ...]
    memory: Memory
    time: Time | None
    advice: str | None

    @property
    def left(self) -> int:
        """Steps that are left."""
        return self.steps - self.done

    @property
    def epochs(self) -> float:
        """Epochs of the steps that are left."""
        return self.left * self.batch_size / self.pairs

    def lines(self) -> list[str]:
        """Return the report as lines of text."""
        m, t = self.memory, self.time
        apart = f" ({self.held_out:,} held out)" if self.held_out else ""
        shared = "" if self.prompts == self.pairs else f" with {self.prompts:,} different prompt{'s' if self.prompts > 1 else ''}"
        reference = f", after {seconds(t.reference)} for reference log-probs" if t is not None and t.reference >= 1 else ""
        each = f" in each of {self.processes} processes" if self.processes > 1 else ""
        names = ("process", "weights", "gradients", "optimizer", "activations", "logits", "evaluation")
        parts = ", ".join(f"{name} {size(getattr(m, name))}" for name in names if getattr(m, name))
        epochs = f"{self.epochs:,.0f}" if self.epochs >= 100 else f"{self.epochs:.3g}"
        about_pairs = [finding for finding in self.findings if finding.pairs]
        return [
            *([f"from     step {self.done:,} of {self.steps:,}, so {self.left:,} are left"] if self.done else []),
            f"pairs    {self.pairs:,}{apart}{shared}; {self.left:,} steps of {self.batch_size:,} are {epochs} epochs "
            f"of {self.tokens_per_epoch:,} tokens",
            *(f"{name:<8} {_spread(lengths)}" for name, lengths in self.lengths.items()),
            *(f"note     {finding.message}" for finding in self.findings),
            *([] if about_pairs else [f"fit      every pair fits into {self.max_length:,} tokens"]),
            f"memory   about {size(m.total)}{each} at its peak (of {parts}, not all at once); "
            f"{size(m.free)} more are free on {m.device}",
            *([f"micro    micro_batch_size {self.micro_batch_size:,}, the largest that fits"] if self.fitted else []),
            "time     unknown: memory ran out while a pair was timed"
            if t is None
            else f"time     about {seconds(t.training)} for {self.left:,} steps ({seconds(t.step)} each){reference}; "
            "without evaluation, sampling, probes and checkpoints",
            *([f"warning  {self.advice}"] if self.advice else []),
        ]


def _spread(lengths: Lengths) -> str:
    top = max(lengths.histogram) or 1
    # A bin that is not empty gets at least the lowest bar.
    bars = "".join(BARS[-(-count * (len(BARS) - 1) // top)] if count else " " for count in lengths.histogram)
    return f"median {lengths.median:,}, 95 % up to {lengths.p95:,}, longest {lengths.longest:,} tokens  |{bars}|"


def size(count: float) -> str:
    """Format a number of bytes: "1.5 MB"."""
    for unit in ("B", "KB", "MB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:,.1f} GB"


def seconds(count: float) -> str:
    """Format a number of seconds: "12 s", "5 min", "1.5 h"."""
    if count < 60:
        return f"{count:.2g} s"
    return f"{count / 60:.0f} min" if count < 5400 else f"{count / 3600:.1f} h"
