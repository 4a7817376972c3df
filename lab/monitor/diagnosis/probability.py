"""Checks of where the probability goes: to the chosen answers, away from both, or into longer answers."""

from __future__ import annotations

import math

import numpy as np

from .checks import Seen, check, number, percent
from .evidence import NOTHING, Evidence, Level, above
from .thresholds import Thresholds

TOO_EARLY = "the first steps are not over"


def moved(e: Evidence, side: str) -> Level | None:
    """How far the log-prob of a side's answers has moved (nats an answer): the log-ratio, or where none is recorded the
    difference to the first steps, whose pairs were others."""
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
def chosen_falls(e: Evidence, t: Thresholds) -> Seen:
    """Likelihood displacement: the chosen log-prob is below its start although the margin grows."""
    chosen, rejected = moved(e, "chosen"), moved(e, "rejected")
    if chosen is None or rejected is None:
        return Seen(waits=TOO_EARLY)
    numbers = {
        "chosen log-prob against its start [nats]": chosen.value,
        "rejected log-prob against its start [nats]": rejected.value,
        "chosen, a token [nats/token]": chosen.value / e.tokens,
    }
    if not above(NOTHING, chosen, t.chosen_fall * e.tokens) or chosen.value <= rejected.value:
        return Seen(numbers)
    since = e.since("log_ratio_chosen", 0.0)
    serious = -chosen.value > t.chosen_fall_serious * e.tokens
    advice = (
        "Lower the learning rate, stop earlier, or hold the chosen answers up with dpop or cal_dpo."
        if serious
        else "So far this is what preference losses usually do; watch the sampled answers."
    )
    words = (
        f"The margin grows because the rejected falls faster: since step {since:,} the chosen log-prob fell "
        f"{number(-chosen.value)} nats below {e.origin}, the rejected {number(-rejected.value)}, in answers of "
        f"{e.tokens:.0f} tokens. {advice}"
    )
    ratio = e.term("log_ratio_chosen")
    grown = np.where(ratio > e.term("log_ratio_rejected"), ratio, np.inf) if len(ratio) else ratio
    return Seen(numbers, words, "warning" if serious else "notice", e.worst(grown), since)


@check("Rejected answers collapse", "rejected_fall")
def rejected_collapses(e: Evidence, t: Thresholds) -> Seen:
    """The policy mostly learns what not to say."""
    rejected, chosen = moved(e, "rejected"), moved(e, "chosen")
    if rejected is None or chosen is None:
        return Seen(waits=TOO_EARLY)
    limit = t.rejected_fall * e.tokens
    numbers = {
        "rejected log-prob against its start [nats]": rejected.value,
        "rejected, a token [nats/token]": rejected.value / e.tokens,
        "chosen log-prob against its start [nats]": chosen.value,
    }
    if not above(NOTHING, rejected, limit):
        return Seen(numbers)
    since = e.since("log_ratio_rejected", -limit)
    words = (
        f"The rejected answers collapse: their log-prob is {number(-rejected.value)} nats below {e.origin} "
        f"({number(-rejected.value / e.tokens)} a token) since step {since:,}, the chosen "
        f"{'rose' if chosen.value >= 0 else 'fell'} {number(abs(chosen.value))}. "
        "The policy learns what not to say; lower the learning rate, raise beta, or try sgdpo, which slows the rejected side."
    )
    return Seen(numbers, words, "warning", e.worst(e.term("log_ratio_rejected")), since)


@check("The chosen gain on the rejected", "reversed_fall")
def goes_backwards(e: Evidence, t: Thresholds) -> Seen:
    """The chosen answers lose against the rejected: the update points the wrong way."""
    chosen, rejected = moved(e, "chosen"), moved(e, "rejected")
    now, start = e.now("rewards/margins"), e.start("rewards/margins")
    if chosen is None or rejected is None or now is None or start is None:
        return Seen(waits=TOO_EARLY)
    numbers = {
        "chosen log-prob against its start [nats]": chosen.value,
        "rejected log-prob against its start [nats]": rejected.value,
        "reward margin now": now.value,
        "reward margin at the start": start.value,
    }
    if not above(rejected, chosen, t.reversed_fall * e.tokens) or now.value > start.value:
        return Seen(numbers)
    words = (
        f"Training goes backwards: the chosen answers lost {number(rejected.value - chosen.value)} nats against the rejected since "
        f"the start (chosen {number(chosen.value)}, rejected {number(rejected.value)}). Look whether chosen and rejected are "
        "swapped in the pairs, and at the objective's stop-gradient."
    )
    margins = e.term("log_ratio_chosen") - e.term("log_ratio_rejected")
    return Seen(numbers, words, "error", e.worst(margins))


@check("Answers keep their length", "length_growth")
def grows_longer(e: Evidence, t: Thresholds) -> Seen:
    """Sampled answers become longer than the reference's, which the first look shows."""
    lengths = e.looks("eval/completions/mean_length")
    if len(lengths) < 2:
        return Seen(waits="it takes two looks at sampled answers")
    first, last = float(lengths.iloc[0]), float(lengths.iloc[-1])
    cut = e.looks("eval/completions/clipped_ratio")
    numbers = {"tokens of a sampled answer now": last, "tokens at the first look": first, "growth [times]": last / max(first, 1e-9)}
    if len(cut):
        numbers["answers cut at eval_tokens [share]"] = float(cut.iloc[-1])
    if last <= t.length_growth * first:
        return Seen(numbers)
    steps = [step for step in e.reader.token_steps() if step <= e.step]
    table = e.reader.tokens(steps[-1]) if steps else None
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
    words = (
        f"Answers grow longer: {first:.0f} tokens at the first look, {last:.0f} after step {lengths.index[-1]:,} "
        f"({last / max(first, 1e-9):.2g} times).{ended}{cause} If length is not what is preferred, balance the pairs' lengths, or "
        "use r_dpo, ld_dpo or a length-normalised objective."
    )
    return Seen(numbers, words, "warning", pairs, int(lengths.index[-1]))


@check("Held-out accuracy keeps up", "held_out_gap")
def held_out_behind(e: Evidence, t: Thresholds) -> Seen:
    """The pairs that are trained on are told apart much better than those that are not."""
    looks = e.looks("eval/rewards/accuracies")
    if looks.empty or looks.index[-1] == 0:
        return Seen(waits="it takes a look at held-out pairs after some training")
    step, held_out = int(looks.index[-1]), float(looks.iloc[-1])
    trained = e.reader.scalars(["rewards/accuracies"], first=max(1, step - e.window + 1), last=step)["rewards/accuracies"].dropna()
    apart = e.reader.held_out(e.step)
    if len(trained) < 8 or apart.empty:
        return Seen(waits="too few steps around the look")
    training, seen = float(trained.mean()), len(trained) * e.setting("batch_size", 1)
    error = math.sqrt(training * (1 - training) / seen + held_out * (1 - held_out) / len(apart))
    epochs = e.recent("epoch").dropna()
    numbers = {
        "accuracy in training [share]": training,
        "accuracy on held-out pairs [share]": held_out,
        "standard error of the difference [share]": error,
        "held-out pairs": float(len(apart)),
        "epochs": float(epochs.iloc[-1]) if len(epochs) else math.nan,
    }
    if training - held_out <= max(t.held_out_gap, 2 * error):
        return Seen(numbers)
    passes = f" after {numbers['epochs']:.1f} passes through the pairs" if len(epochs) else ""
    words = (
        f"Held-out accuracy falls behind: {percent(training)} of the training pairs are told apart but {percent(held_out)} of "
        f"the {len(apart)} held-out ones at step {step:,}{passes}. The run learns its pairs by heart; stop earlier, add pairs, or "
        "train fewer epochs."
    )
    margins = (apart["reward_chosen"] - apart["reward_rejected"]).to_numpy(np.float64)
    pairs = tuple(apart["pair"].iloc[np.argsort(margins, kind="stable")])[:5]
    return Seen(numbers, words, "warning", pairs, step)
