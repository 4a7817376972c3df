"""Results of the four methods on a real model, as a section of a Markdown page; no number in it is typed by hand."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lab.experiments import Experiment
from lab.experiments.metrics import Metric, metric_of
from lab.experiments.statistics import Comparison, Comparisons, Curve, compare, over_seeds, parse_level
from lab.experiments.statistics.comparison import with_interval
from lab.run.run_data import RunData
from tests.real.methods import Trial, methods, pilot_label, piloted

if TYPE_CHECKING:
    import pandas as pd

TITLE = "## Four methods on a real model"
ACCURACY, MARGIN, OWN = "held-out accuracy of log-ratios", "held-out margin of log-ratios", "eval/rewards/accuracies"
KL, LENGTH, CUT = "eval/kl", "eval/completions/mean_length", "eval/completions/clipped_ratio"
COMPARED = (Metric(ACCURACY, "higher", 0.02), Metric(MARGIN, "", 1.0), metric_of(KL), metric_of(LENGTH))
"""Measures that are compared, of which the first two are the same function of policy and reference for every method."""
ROUNDING = 1e-6
"""Largest difference of measures that is rounding: a policy that equals the reference has log-ratios of some 1e-8."""
AGAINST = (("sgdpo", "dpo"), ("simpo", "dpo"), ("alpha-dpo", "dpo"), ("alpha-dpo", "simpo"))
COLUMNS = {
    ACCURACY: "held-out accuracy of log-ratios",
    OWN: "of the method's reward",
    MARGIN: "margin of log-ratios",
    KL: "KL",
    LENGTH: "length",
    CUT: "share cut",
}


@dataclass(frozen=True)
class Results:
    """What a report states.

    Attributes:
        trial: The experiments.
        finished: Finished runs of the methods.
        evaluations: One row per finished run and evaluation: variant, seed, step, and one column per measure.
        rates: Learning rate of each method; empty before the pilot has finished.
        pilot: One row per run of the pilot: variant, learning_rate, loss, accuracy, chosen.
        sizes: Pairs that each finished run was trained on, and held-out pairs that it was evaluated on.
        seconds: Seconds from start to end of each finished run that was not interrupted.
        memory: Largest memory of a finished run's process, in bytes.
    """

    trial: Trial
    finished: int
    evaluations: pd.DataFrame
    rates: Mapping[str, float]
    pilot: pd.DataFrame
    sizes: Sequence[tuple[int, int]]
    seconds: Sequence[float]
    memory: float


def log_ratio_measures(terms: pd.DataFrame) -> dict[str, float]:
    """Return accuracy and margin of the log-ratios to the reference on held-out pairs.

    Args:
        terms: Terms of the held-out pairs, one row per pair, with log_ratio_chosen and log_ratio_rejected (nats).

    Returns:
        The share of the pairs whose chosen answer has the higher log-ratio, equal ones counted one half, and the mean difference
        in nats. Both need no parameter of a method, and are 1/2 and 0 where the policy equals the reference.
    """
    margins = terms["log_ratio_chosen"] - terms["log_ratio_rejected"]
    return {ACCURACY: float((margins > 0).mean() + (margins == 0).mean() / 2), MARGIN: float(margins.mean())}


def read_trial(trial: Trial) -> Results:
    """Read the finished runs of both experiments."""
    import pandas as pd

    rates, pilot, chosen = {}, pd.DataFrame(columns=["variant", "learning_rate", "loss", "accuracy", "chosen"]), trial.chosen()
    if chosen is None:
        return Results(trial, 0, pd.DataFrame(), {}, pilot, [], [], math.nan)
    table = Experiment(trial.declared_pilot()[0]).table()
    kept = {pilot_label(method, chosen[method.label]) for method in piloted()}
    pilot = pd.DataFrame(
        {
            "variant": table["variant"],
            "learning_rate": table["learning_rate"],
            "loss": table["eval/loss"],
            "accuracy": table[OWN],
            "chosen": table["variant"].isin(kept),
        }
    )
    folder, declaration = trial.declared(chosen)
    rates = {entry["label"]: entry["learning_rate"] for entry in declaration.objectives}
    if not folder.exists:
        return Results(trial, 0, pd.DataFrame(), rates, pilot, [], [], math.nan)
    experiment = Experiment(folder)
    rows, sizes, memory, records = [], [], [math.nan], experiment.records()
    for run in experiment.runs:
        place = experiment.run_folder(run.key)
        if run.key not in records or place is None:
            continue
        data = RunData(place)
        for evaluation in records[run.key]["evaluations"]:
            measures = log_ratio_measures(data.held_out(evaluation["step"]))
            rows.append({"variant": run.variant, "seed": run.seed, "step": evaluation["step"], **evaluation["scalars"], **measures})
        sizes.append(sizes_of(data))
        memory.append(float(data.reader.status().get("memory") or math.nan))
    seconds = [record["wall"] for record in records.values() if record["wall"]]
    return Results(trial, len(records), pd.DataFrame(rows), rates, pilot, sizes, seconds, float(np.nanmax(memory)))


def sizes_of(data: RunData) -> tuple[int, int]:
    """Return the numbers of a run's training pairs and of the held-out pairs that it was evaluated on."""
    details = {kind: data.events(kind)["detail"].iloc[-1] for kind in ("preflight", "held_out")}
    return int(details["preflight"]["pairs"]), int(details["held_out"]["evaluated"])


def compared(results: Results) -> Comparisons:
    """Compare the methods of AGAINST in every measure of COMPARED after training, paired by seed."""
    curves: dict[str, dict[int, Curve]] = {method.label: {} for method in methods()}
    for (variant, seed), own in results.evaluations.groupby(["variant", "seed"]):
        scalars = {metric.name: own[metric.name].to_numpy(float) for metric in COMPARED}
        curves[str(variant)][int(seed)] = Curve(own["step"].to_numpy(float), scalars)
    return compare(curves, AGAINST, COMPARED, [parse_level("end")], seeds=results.trial.seeds)


def section(results: Results) -> str:
    """Return the section of the report, which begins with TITLE."""
    total = len(methods()) * len(results.trial.seeds)
    parts = [TITLE, description(results, total)]
    if len(results.pilot):
        parts += [pilot_sentence(results), pilot_table(results)]
    if len(results.evaluations):
        parts += [values_sentence(results), values_table(results), chance(results), *differences(results), cut(results)]
    return "\n\n".join(filter(None, parts)) + "\n"


def description(results: Results, total: int) -> str:
    """Return what was trained, on how many pairs, and how many runs have finished."""
    trial, settings = results.trial, results.trial.settings
    sizes = ""
    if results.sizes:
        trained, held_out = (span(sorted(numbers)) for numbers in zip(*results.sizes))
        sizes = f", {trained} for training and {held_out} held out for evaluation"
    preliminary = f"**Preliminary: {results.finished} of {total} runs have finished.** " if results.finished < total else ""
    return paragraph(f"""
        {preliminary}SmolLM2-135M-Instruct with a LoRA adapter of rank {settings["lora_rank"]}, on the
        {len(trial.pairs.store):,} of {trial.pairs.total:,} pairs of `{trial.pairs.file}` (HH-RLHF) whose prompt and either answer
        have at most {settings["max_length"]} tokens{sizes}; {settings["steps"]} steps of {settings["batch_size"]} pairs;
        {len(trial.seeds)} seeds, each with its own held-out pairs and order
        (`make real-methods PAIRS={trial.pairs.file}`, one thread per run).
    """)


def pilot_sentence(results: Results) -> str:
    """Return how the learning rates were chosen."""
    trial = results.trial
    factors = ", ".join(f"{factor:g}" for factor in trial.factors)
    rates = ", ".join(f"{label} {rate:g}" for label, rate in results.rates.items())
    return paragraph(f"""
        Learning rates are those of the papers times a factor. A pilot of {trial.pilot_settings["steps"]} steps, with
        seed{"s" * (len(trial.pilot_seeds) > 1)} {", ".join(map(str, trial.pilot_seeds))} that the results do not use, tried the
        factors {factors} and kept that with the lowest held-out loss; SGDPO takes the factor of DPO, alpha-DPO that of SimPO:
        {rates}.{edge_sentence(results)}
    """)


def edge_sentence(results: Results) -> str:
    """Return for which methods the chosen factor is the largest that was tried; "" for none."""
    largest = max(results.trial.factors)
    chosen = set(results.pilot["variant"][results.pilot["chosen"].astype(bool)])
    labels = [method.label for method in piloted() if pilot_label(method, largest) in chosen]
    return f" For {' and '.join(labels)} that is the largest factor tried; a larger one may be better." if labels else ""


def pilot_table(results: Results) -> str:
    """Return the runs of the pilot as a table."""
    rows = [
        [row.variant, f"{row.learning_rate:g}", f"{row.loss:.4f}", f"{row.accuracy:.3f}", "yes" if row.chosen else ""]
        for row in results.pilot.itertuples()
    ]
    return markdown(["pilot", "learning rate", "held-out loss", "held-out accuracy", "chosen"], rows)


def values_sentence(results: Results) -> str:
    """Return the meaning of the columns of `values_table`."""
    settings = results.trial.settings
    return paragraph(f"""
        After training, mean over seeds [95 % interval]. The log-ratio of an answer is log π − log ref; its accuracy is the share of
        the held-out pairs whose chosen answer has the higher one (0.5 is chance), its margin the mean difference in nats. The
        accuracy of the method's reward is by its own definition: average log-probs for SimPO and alpha-DPO, for which the reference
        has one too. KL is in nats an answer, length in tokens, both of {2 * settings["eval_prompts"]} sampled answers
        ({settings["eval_prompts"]} of the reference), which are cut at {settings["eval_tokens"]} tokens.
    """)


def values_table(results: Results) -> str:
    """Return the measures of the reference and of every method after training, with intervals over seeds."""
    evaluations = results.evaluations
    first = evaluations[evaluations["step"] == 0]
    own = first[first["variant"].isin(["simpo", "alpha-dpo"])]  # those whose reward needs no reference
    reference = {ACCURACY: first[ACCURACY], OWN: own[OWN].groupby(own["seed"]).mean(), MARGIN: first[MARGIN], KL: first[KL]}
    reference |= {name: first.groupby("seed")[name].mean() for name in (LENGTH, CUT)}
    rows = [["reference", "", *(cell(reference[name].to_numpy(float)) for name in COLUMNS)]]
    for label, rate in results.rates.items():
        after, seeds = after_training(results, label), len(results.trial.seeds)
        if len(after):
            count = f" ({len(after)} of {seeds} seeds)" if len(after) < seeds else ""
            rows.append([f"{label}{count}", f"{rate:g}", *(cell(after[name].to_numpy(float)) for name in COLUMNS)])
    return markdown(["method", "rate", *COLUMNS.values()], rows)


def after_training(results: Results, label: str) -> pd.DataFrame:
    """Return a method's evaluations after training, one row per seed."""
    evaluations = results.evaluations
    return evaluations[(evaluations["variant"] == label) & (evaluations["step"] == results.trial.settings["steps"])]


def chance(results: Results) -> str:
    """Return for which methods the interval of the accuracy of log-ratios excludes chance."""
    verdicts: dict[str, list[str]] = {"is above": [], "is below": [], "includes": []}
    for label in results.rates:
        values = after_training(results, label)[ACCURACY].to_numpy(float)
        if len(values) > 1:
            low, high = over_seeds(values).interval()
            verdicts["is above" if low > 0.5 else "is below" if high < 0.5 else "includes"].append(label)
    parts = [f"{verdict} chance for {', '.join(labels)}" for verdict, labels in verdicts.items() if labels]
    return paragraph(f"The interval of the accuracy of log-ratios {'; it '.join(parts)}.") if parts else ""


def differences(results: Results) -> list[str]:
    """Return the table of paired differences, and which are shown after correction."""
    made = compared(results)
    if not any(each.estimate for each in made):
        return ["Differences need two seeds of two methods."]
    rows = []
    for one, other in AGAINST:
        known = {each.metric.name: each for each in made if (each.one, each.other) == (one, other)}
        rows.append([f"{one} − {other}", *(difference_cell(known[metric.name]) for metric in COMPARED)])
    shown = [each.sentence for each in made if each.shown]
    text = paragraph(f"""
        Differences within a seed after training, mean [95 % interval, not corrected]; methods of unlike KL have gone unlike far. In
        bold: shown after Holm's correction for all {max(each.together for each in made)} comparisons.
    """)
    verdict = "\n".join(f"- {sentence}" for sentence in shown) or "None of these differences is shown after the correction."
    return [text, markdown(["methods", *(COLUMNS[metric.name] for metric in COMPARED)], rows), verdict]


def difference_cell(made: Comparison) -> str:
    """Return a difference with its interval, in bold if it is shown; empty where fewer than two seeds have both methods."""
    if made.estimate is None:
        return ""
    text = with_interval(made.estimate.mean, *made.estimate.interval())
    return f"**{text}**" if made.shown else text


def cut(results: Results) -> str:
    """Return what a larger trial would have more of, and the time and memory of this one."""
    trial = results.trial
    settings = trial.settings
    epochs = span(sorted(round(settings["steps"] * settings["batch_size"] / size, 1) for size, _ in results.sizes))
    memory = f" and at most {results.memory / 2**30:.1f} GiB" if math.isfinite(results.memory) else ""
    minutes = [round(seconds / 60) for seconds in results.seconds]
    cost = f"A run took {span(sorted(minutes))} minutes{memory}." if minutes else ""
    return paragraph(f"""
        What was cut to fit two cores and a night: {trial.pairs.total - len(trial.pairs.store):,} longer pairs; training beyond
        {epochs} epochs; batches of {settings["batch_size"]} where the papers have 128; an adapter in place of all weights;
        {len(trial.seeds)} seeds, whose intervals are wide; answers after {settings["eval_tokens"]} tokens;
        a judge of the sampled answers, so that nothing is shown about their quality. {cost}
    """)


def paragraph(text: str) -> str:
    """Return a text as lines of the guide's width."""
    return textwrap.fill(" ".join(text.split()), 132, break_long_words=False, break_on_hyphens=False)


def cell(values: np.ndarray) -> str:
    """Return the mean of one value per seed with its interval, or the value alone."""
    if len(values) < 2 or np.ptp(values) < ROUNDING:
        return f"{values[0] if abs(values[0]) > ROUNDING else 0:.3g}" if len(values) else ""
    estimate = over_seeds(values)
    return with_interval(estimate.mean, *estimate.interval())


def span(values: Sequence[float]) -> str:
    """Return the first and the last of sorted numbers, or the only one."""
    low, high = values[0], values[-1]
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def with_section(page: str, text: str) -> str:
    """Return a page whose section of this title is replaced, or that has it at its end."""
    before, found, after = page.partition(f"{TITLE}\n")
    if not found:
        return f"{page.rstrip()}\n\n{text}"
    rest = after.partition("\n## ")
    return f"{before}{text}{f'{chr(10)}## {rest[2]}' if rest[1] else ''}"
