"""Checks of the log-probs of answers: likelihood displacement, collapse of the rejected, reversal, growing length."""

from __future__ import annotations

import math

import numpy as np

from .advice import Advice, holds_chosen_up, spares_rejected, spares_share
from .checks import CheckResult, check, number, percent
from .evidence import NOTHING, Evidence, Level, above
from .thresholds import Thresholds

TOO_EARLY = "the first steps are not done"


def moved(e: Evidence, side: str) -> Level | None:
    """Return how far the log-prob of a side's answers has moved, in nats per answer; None if it is too early.

    This is the log-ratio or, without a reference, the difference from the first steps, which had other pairs.
    """
    if e.done < 12:
        return None
    ratio = e.now(f"log_ratio_{side}")
    if ratio is not None:
        return ratio
    now, start = e.now(f"logps/{side}"), e.start(f"logps/{side}")
    if now is None or start is None:
        return None
    return Level(now.value - start.value, math.hypot(now.error, start.error), now.count)


@check("Chosen answers become less likely", "chosen_fall", "chosen_fall_serious")
def chosen_falls(e: Evidence, t: Thresholds) -> CheckResult:
    """Check for likelihood displacement: the chosen log-prob is below its start although the margin grows."""
    chosen, rejected = moved(e, "chosen"), moved(e, "rejected")
    if chosen is None or rejected is None:
        return CheckResult(missing=TOO_EARLY)
    numbers = {
        "chosen log-prob against its start [nats]": chosen.value,
        "rejected log-prob against its start [nats]": rejected.value,
        "chosen, per token [nats/token]": chosen.value / e.tokens,
    }
    if not above(NOTHING, chosen, t.chosen_fall * e.tokens) or chosen.value <= rejected.value:
        return CheckResult(numbers)
    since = _since(e, "chosen", 0.0 if e.has_reference else -t.chosen_fall * e.tokens)
    serious = -chosen.value > t.chosen_fall_serious * e.tokens
    message = (
        f"The chosen answers become less likely, and the margin grows because the rejected fall faster. Since step {since:,} "
        f"the chosen log-prob fell {number(-chosen.value)} nats below {e.origin}, the rejected {number(-rejected.value)}, in "
        f"answers of {e.tokens:.0f} tokens. {_hold_up(e, chosen.value, rejected.value) if serious else WATCH}"
    )
    ratio = e.term("log_ratio_chosen")
    grown = np.where(ratio > e.term("log_ratio_rejected"), ratio, np.inf) if len(ratio) else ratio
    return CheckResult(numbers, message, "warning" if serious else "notice", e.worst(grown), since)


WATCH = "So far this is usual for preference losses; check the sampled answers."


def _hold_up(e: Evidence, chosen: float, rejected: float) -> str:
    """Return advice against falling chosen answers."""
    advice = Advice(e, (chosen, rejected))
    with_reference = ("dpop", "cal_dpo") if e.has_reference else ("cpo", "orpo")
    others = advice.another(advice.objectives(with_reference, holds_chosen_up), "holds the chosen answers up")
    return advice.helps(advice.rate(), "fewer steps", advice.parameter(holds_chosen_up), others)


def _since(e: Evidence, side: str, below: float) -> int:
    """Return the step since which a side's log-prob has been below its start by more than `-below` nats."""
    if e.has_reference:
        return e.since(f"log_ratio_{side}", below)
    start = e.start(f"logps/{side}")
    return e.since(f"logps/{side}", (start.value if start else 0.0) + below)


@check("Rejected answers collapse", "rejected_fall")
def rejected_collapses(e: Evidence, t: Thresholds) -> CheckResult:
    """Check whether the rejected answers fall far while the chosen ones gain nothing."""
    rejected, chosen = moved(e, "rejected"), moved(e, "chosen")
    if rejected is None or chosen is None:
        return CheckResult(missing=TOO_EARLY)
    limit = t.rejected_fall * e.tokens
    numbers = {
        "rejected log-prob against its start [nats]": rejected.value,
        "rejected, per token [nats/token]": rejected.value / e.tokens,
        "chosen log-prob against its start [nats]": chosen.value,
    }
    if not above(NOTHING, rejected, limit) or above(chosen, NOTHING, t.chosen_fall * e.tokens):
        return CheckResult(numbers)  # chosen answers that rise while the rejected fall are the aim of training
    since = _since(e, "rejected", -limit)
    fell = above(NOTHING, chosen, t.chosen_fall * e.tokens)
    size = number(abs(chosen.value))
    moved_by = f"that of the chosen {size} below" if fell else f"that of the chosen has hardly moved ({number(chosen.value)} nats)"
    advice = Advice(e, (chosen.value, rejected.value))
    names = advice.objectives(("sgdpo",), spares_share)
    why = "slows the rejected side" if e.has_reference else "compares with a reference and slows the rejected side"
    helps = advice.helps(advice.rate(), "fewer steps", advice.parameter(spares_rejected), advice.another(names, why))
    message = (
        "The rejected answers collapse and the chosen do not gain, so the policy only learns what not to say. Since step "
        f"{since:,} the rejected log-prob is {number(-rejected.value)} nats below {e.origin} "
        f"({number(-rejected.value / e.tokens)} per token), {moved_by}. {helps}"
    )
    return CheckResult(numbers, message, "warning", e.worst(e.term("log_ratio_rejected")), since)


@check("Training goes backwards", "reversed_fall")
def goes_backwards(e: Evidence, t: Thresholds) -> CheckResult:
    """Check whether the chosen answers lose against the rejected: updates have the wrong sign."""
    chosen, rejected = moved(e, "chosen"), moved(e, "rejected")
    now, start = e.now("rewards/margins"), e.start("rewards/margins")
    if chosen is None or rejected is None or now is None or start is None:
        return CheckResult(missing=TOO_EARLY)
    numbers = {
        "chosen log-prob against its start [nats]": chosen.value,
        "rejected log-prob against its start [nats]": rejected.value,
        "reward margin now": now.value,
        "reward margin at the start": start.value,
    }
    if not above(rejected, chosen, t.reversed_fall * e.tokens) or now.value > start.value:
        return CheckResult(numbers)
    method = Advice(e).method
    flowing = [name for name in ("stop_gradient", "detach_pilot") if getattr(method, name, True) is False]
    gradient = f", and set {Advice(e).prefix}{flowing[0]} to true" if flowing else ""
    message = (
        f"Training goes backwards. The chosen answers lost {number(rejected.value - chosen.value)} nats against the rejected since "
        f"the start (chosen {number(chosen.value)}, rejected {number(rejected.value)}). Check whether chosen and rejected are "
        f"swapped in the pairs{gradient}."
    )
    margins = e.term("log_ratio_chosen") - e.term("log_ratio_rejected")
    return CheckResult(numbers, message, "error", e.worst(margins))


@check("Answers grow longer", "length_growth")
def grows_longer(e: Evidence, t: Thresholds) -> CheckResult:
    """Check whether sampled answers become longer than those of the first evaluation."""
    lengths = e.evaluations("eval/completions/mean_length")
    if len(lengths) < 2:
        return CheckResult(missing="the check needs two evaluations with sampled answers")
    first, last = float(lengths.iloc[0]), float(lengths.iloc[-1])
    cut = e.evaluations("eval/completions/clipped_ratio")
    numbers = {
        "tokens per sampled answer now": last,
        "tokens at the first evaluation": first,
        "growth [times]": last / max(first, 1e-9),
    }
    if len(cut):
        numbers["answers cut at eval_tokens [share]"] = float(cut.iloc[-1])
    if last <= t.length_growth * first:
        return CheckResult(numbers)
    steps = [step for step in e.reader.tokens.steps() if step <= e.step]
    table = e.reader.tokens.read(steps[-1]) if steps else None
    pairs: tuple[str, ...] = ()
    cause = ""
    if table is not None and len(table):
        sizes = table.assign(size=table["ids"].map(len)).pivot_table(index="pair", columns="side", values="size")
        ratio = float(sizes["chosen"].mean() / sizes["rejected"].mean())
        numbers["chosen answers against rejected [times]"] = ratio
        pairs = tuple((sizes["chosen"] - sizes["rejected"]).sort_values(ascending=False).index)[:5]
        cause = f" In the latest batch the chosen are {ratio:.2g} times as long as the rejected."
    ended = (
        f" {percent(float(cut.iloc[-1]))} no longer end by themselves." if len(cut) and cut.iloc[-1] > cut.iloc[0] + 0.05 else ""
    )
    message = (
        f"Answers grow longer. They had {first:.0f} tokens at the first evaluation and {last:.0f} after step {lengths.index[-1]:,} "
        f"({last / max(first, 1e-9):.2g} times).{ended}{cause} {_shorten(e)}"
    )
    return CheckResult(numbers, message, "warning", pairs, int(lengths.index[-1]))


def _shorten(e: Evidence) -> str:
    """Return advice against answers that grow although length is not preferred."""
    advice = Advice(e)
    name = advice.method.name if advice.method is not None else ""
    own = {"r_dpo": advice.higher("alpha"), "ld_dpo": advice.lower("alpha")}.get(name, "")
    names = advice.objectives(("r_dpo", "ld_dpo"))
    others = advice.another(names, "takes length into account")
    normalised = "" if advice.method is None or advice.method.length_normalized else "a length-normalised objective"
    return advice.helps("pairs whose sides are equally long", own, others, normalised, case="If length is not what is preferred")
