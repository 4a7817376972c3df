"""What is known of a run before its first step: the report as a value, and in words. It is stored with the run as an event."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

BARS = "▁▂▃▄▅▆▇█"


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Lengths(_Value):
    """Tokens of one part of the pairs, before anything is cut. histogram: pairs in equal classes from 0 to `longest`."""

    median: int
    p95: int
    longest: int
    histogram: tuple[int, ...]


class Finding(_Value):
    """Something that happens to some pairs. kind: prompt_cut, answer_cut, dropped or same, of held-out pairs held_out_cut or
    held_out_dropped. tokens: how many are lost. ids: the first hundred of these pairs.

    Or a setting to think twice about, without pairs: learning_rate, batch_larger_than_set, many_epochs, no_held_out."""

    kind: str
    message: str
    pairs: int
    tokens: int
    ids: tuple[str, ...]


class Memory(_Value):
    """Bytes that training needs at its peak, and what is free on the device now that the weights are loaded.

    process:     what the process holds beside the weights: Python, libraries, whatever else it does. On a GPU it is not counted.
    weights:     parameters and buffers as loaded.
    gradients:   one number for every trained parameter; for those of probed layers a second one, with micro-batches a third.
    optimizer:   AdamW's two running means, two numbers for every trained parameter.
    activations: what autograd keeps for the largest micro-batch of the run, from measured pairs of several lengths;
                 under gradient checkpointing with what one layer keeps while it is computed again.
    logits:      the working memory of one chunk of logits.
    step:        the most that a step takes of gradients, activations and logits at the same time; in a step of a single
                 micro-batch the activations make way for the gradients.
    evaluation:  the most that an evaluation takes: the reference's weights (full fine-tuning), keys and values of the answers.
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
        """All of it: the peak of the process, or what is taken of a GPU."""
        return self.process + self.weights + self.more

    @property
    def more(self) -> int:
        """What has to be found besides the weights."""
        step = self.gradients + self.activations + self.logits if self.step is None else self.step  # None in older reports
        return self.optimizer + max(step, self.evaluation)

    @property
    def enough(self) -> bool:
        """Whether what is free will do."""
        return self.more <= self.free


class Time(_Value):
    """Seconds, from a forward and a backward pass over `measured_pairs` pairs of median length.

    Evaluation, sampling, probes and checkpoints are not in it.
    """

    step: float
    reference: float
    training: float
    measured_pairs: int


class Preflight(_Value):
    """The report. pairs: those trained on (dropped ones apart); held_out: those kept apart for looks;
    done: steps behind which it goes on, 0 for a new run; seen: pairs that the steps left reach;
    processes: how many train together, memory is that of each;
    tokens_per_epoch: prompt, chosen and rejected of all pairs."""

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
    """The micro-batch size is the largest that fits (micro_batch_size = fit)."""
    max_length: int
    tokens_per_epoch: int
    lengths: dict[str, Lengths]
    findings: tuple[Finding, ...]
    memory: Memory
    time: Time | None
    """None where memory ran out while a single pair was timed."""
    advice: str | None
    """What to do where the memory will not be enough; None where it will."""

    @property
    def left(self) -> int:
        """Steps that are still to be done."""
        return self.steps - self.done

    @property
    def epochs(self) -> float:
        """How often the steps that are left go through the pairs."""
        return self.left * self.batch_size / self.pairs

    def lines(self) -> list[str]:
        """The report for a terminal, or a page."""
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
    # A class that holds anything is drawn at least as the lowest bar.
    bars = "".join(BARS[-(-count * (len(BARS) - 1) // top)] if count else " " for count in lengths.histogram)
    return f"median {lengths.median:,}, 95 % up to {lengths.p95:,}, longest {lengths.longest:,} tokens  |{bars}|"


def size(count: float) -> str:
    """Bytes as people say them."""
    for unit in ("B", "KB", "MB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:,.1f} GB"


def seconds(count: float) -> str:
    """A span of time as people say it."""
    if count < 60:
        return f"{count:.2g} s"
    return f"{count / 60:.0f} min" if count < 5400 else f"{count / 3600:.1f} h"
