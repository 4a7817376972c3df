"""Four methods on a real model with real pairs: DPO, SGDPO, SimPO and alpha-DPO on SmolLM2-135M-Instruct with a LoRA adapter.

    make real-methods PAIRS=harmless-base-test.jsonl.gz
    python -m tests.real.methods --pairs FILE --dry-run     # the runs and their estimated time
    python -m tests.real.methods --pairs FILE --show        # the results so far; starts nothing
    python -m tests.real.methods --pairs FILE --page app/guide/measurements.md     # also writes them into the page

FILE holds transcripts in the layout of HH-RLHF, as JSON Lines, packed or not. Two experiments of `lab.sweep` in LAB_HOME, with one
thread per run: a pilot, which chooses learning rates, and the methods with these rates and other seeds. The same command continues
both where they were interrupted. Takes five to six hours of one core; `--workers 2` trains two runs at once.

Learning rates. Every method has the rate of its paper times a factor, since an adapter on a small model needs far larger rates than
full fine-tuning of a large one. The pilot tries FACTORS on DPO and SimPO and keeps, for each, the factor with the lowest held-out
loss; SGDPO takes DPO's and alpha-DPO SimPO's, because their papers give them equal rates.
"""

from __future__ import annotations

import argparse
import os
import sys
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import lab
from lab import sweeping
from lab.cli.sweep import follow_driver, look_ahead
from lab.errors import LabError
from lab.experiments import Experiment
from lab.objectives import OBJECTIVES
from lab.pairs import PairStore
from tests.real.transcripts import as_pairs, read_transcripts

if TYPE_CHECKING:
    import pandas as pd

NAME = "real-methods"
SEEDS, PILOT_SEEDS = (0, 1, 2), (100,)
FACTORS = (200.0, 600.0, 2000.0)
"""Multiples of the papers' learning rates that the pilot tries."""
LONGEST = 200
"""Most tokens of a prompt with either answer; pairs with more are left out."""

SETTINGS: dict[str, Any] = {
    "device": "cpu",
    "lora_rank": 16,
    "lora_alpha": 32.0,
    "batch_size": 8,
    "micro_batch_size": 4,  # at most 5 GiB a run
    "steps": 65,
    "max_length": LONGEST,
    "held_out": 0.2,
    "eval_pairs": 260,
    "eval_prompts": 32,
    "eval_tokens": 128,
    "eval_every": 0,
    "save_every": 20,
    "keep_checkpoints": 1,
    "keep_best": "",
    "panel_pairs": 0,
    "probe_budget": 0.0,
}
"""Settings of every run. Half an epoch of the pairs with at most LONGEST tokens in HH-RLHF's harmless-base test split, evaluated
before and after it alone: an evaluation takes as long as 15 steps."""
PILOT_SETTINGS = SETTINGS | {"eval_prompts": 0}


@dataclass(frozen=True)
class Method:
    """A method as its paper trains it.

    Attributes:
        label: Name in tables.
        objective: Name and parameters of the objective.
        paper_rate: Learning rate of the paper.
        rate_of: Label of the method whose factor it takes; its own label: the pilot tries it.
    """

    label: str
    objective: Mapping[str, Any]
    paper_rate: float
    rate_of: str

    def entry(self, factor: float, label: str = "") -> dict[str, Any]:
        """Return the method at a multiple of its paper's rate, as an objective of an experiment."""
        rate = float(f"{self.paper_rate * factor:.3g}")
        return {**self.objective, "learning_rate": rate, "label": label or self.label}


def published(label: str, name: str, preset: str, rate_of: str, **changes: Any) -> Method:
    """Return a method with the parameters and the rate of a preset."""
    source = OBJECTIVES[name].presets[preset]
    assert source.learning_rate is not None
    return Method(label, {"name": name, **source.parameters, **changes}, source.learning_rate, rate_of)


def methods() -> tuple[Method, ...]:
    """Return the four methods.

    DPO has SGDPO's β and rate, so that these two differ in the loss alone. SimPO is alpha-DPO with α = 0, which is SimPO exactly
    and records the log-ratios to the reference, so that all methods are measured alike.
    """
    sgdpo = published("sgdpo", "sgdpo", "code defaults", "dpo")
    dpo = Method("dpo", {"name": "dpo", "beta": sgdpo.objective["beta"]}, sgdpo.paper_rate, "dpo")
    simpo = OBJECTIVES["simpo"].presets["Gemma-2-9B-it"]
    assert simpo.learning_rate is not None
    as_alpha = Method("simpo", {"name": "alpha_dpo", **simpo.parameters, "alpha": 0.0}, simpo.learning_rate, "simpo")
    return dpo, sgdpo, as_alpha, published("alpha-dpo", "alpha_dpo", "Gemma-2-9B-it", "simpo")


def pilot_label(method: Method, factor: float) -> str:
    return f"{method.label} x {factor:g}"


def piloted() -> tuple[Method, ...]:
    """Return the methods that the pilot tries."""
    return tuple(method for method in methods() if method.rate_of == method.label)


def pilot_objectives(factors: Sequence[float] = FACTORS) -> list[dict[str, Any]]:
    """Return the objectives of the pilot: each piloted method at every factor."""
    return [method.entry(factor, pilot_label(method, factor)) for method in piloted() for factor in factors]


def chosen_factors(table: pd.DataFrame, factors: Sequence[float] = FACTORS) -> dict[str, float]:
    """Return the factor of every piloted method with the lowest held-out loss, mean over the pilot's seeds.

    Args:
        table: The pilot's runs; see `Experiment.table`.
        factors: The factors that it has tried.
    """
    losses = table.groupby("variant")["eval/loss"].mean()
    return {m.label: min(factors, key=lambda factor: float(losses[pilot_label(m, factor)])) for m in piloted()}


def objectives(factors: Mapping[str, float]) -> list[dict[str, Any]]:
    """Return the four methods with their rates, from the factor of every piloted method."""
    return [method.entry(factors[method.rate_of]) for method in methods()]


def fitting(rows: Sequence[Mapping[str, Any]], tokenizer: Any, longest: int) -> list[dict[str, Any]]:
    """Return the conversational pairs whose prompt, in the chat template, fits `longest` tokens with either answer and its end."""
    kept = []
    for row in rows:
        prompt = tokenizer.apply_chat_template(row["prompt"], tokenize=False, add_generation_prompt=True)
        texts = [prompt + row[side][0]["content"] for side in ("chosen", "rejected")]
        if max(len(tokenizer(text)["input_ids"]) for text in texts) < longest:
            kept.append(dict(row))
    return kept


@dataclass(frozen=True)
class Pairs:
    """The pairs of the experiment.

    Attributes:
        store: The pairs that are used.
        file: Name of their file.
        total: Number of pairs in the file.
    """

    store: PairStore
    file: str
    total: int


def open_file(path: Path, model: str, longest: int) -> Pairs:
    """Read transcripts and keep the pairs that fit. Ends the program with a sentence if there are none."""
    from lab.policy.sources.converted import loadable
    from lab.policy.sources.tokenizer_loading import read_tokenizer

    try:
        rows = as_pairs(read_transcripts(path))
    except (OSError, EOFError, zlib.error, ValueError, KeyError, TypeError) as error:
        sys.exit(
            f"{path} cannot be read as transcripts in the layout of HH-RLHF ({error}); give its JSON Lines file, packed or not."
        )
    kept = fitting(rows, read_tokenizer(loadable(model)), longest)
    if not kept:
        sys.exit(f"{path} has no pair of at most {longest} tokens; give a file in the layout of HH-RLHF with shorter ones.")
    return Pairs(lab.open_pairs(kept), path.name, len(rows))


@dataclass(frozen=True)
class Trial:
    """Both experiments, on a model and pairs.

    Attributes:
        pairs: The pairs.
        model: Model of every run.
        settings: Settings of the methods' runs.
        pilot_settings: Settings of the pilot's runs.
        seeds: Seeds of the methods' runs.
        pilot_seeds: Seeds of the pilot's runs; none of `seeds`.
        factors: Multiples of the papers' rates that the pilot tries.
        name: Name of the experiment; the pilot's is `name`-pilot.
    """

    pairs: Pairs
    model: str
    settings: Mapping[str, Any]
    pilot_settings: Mapping[str, Any]
    seeds: Sequence[int] = SEEDS
    pilot_seeds: Sequence[int] = PILOT_SEEDS
    factors: Sequence[float] = FACTORS
    name: str = NAME

    def declared_pilot(self) -> tuple[Any, Any]:
        """Return folder and declaration of the pilot."""
        return self._declared(f"{self.name}-pilot", pilot_objectives(self.factors), self.pilot_seeds, self.pilot_settings)

    def declared(self, factors: Mapping[str, float]) -> tuple[Any, Any]:
        """Return folder and declaration of the methods, with the factors that the pilot has chosen."""
        return self._declared(self.name, objectives(factors), self.seeds, self.settings)

    def chosen(self) -> dict[str, float] | None:
        """Return the factors that the pilot has chosen; None before all of its runs have finished."""
        folder, _ = self.declared_pilot()
        if not folder.exists:
            return None
        pilot = Experiment(folder)
        done = len(pilot.records()) == len(pilot.runs)
        return chosen_factors(pilot.table(), self.factors) if done else None

    def _declared(self, name: str, entries: Any, seeds: Sequence[int], settings: Mapping[str, Any]) -> tuple[Any, Any]:
        return sweeping.declared(entries, self.pairs.store.location, self.model, name=name, seeds=list(seeds), **settings)


def train(folder: Any, declaration: Any, workers: int | None) -> Experiment:
    """Train what is missing of an experiment; ends the program if a run fails or a signal stops them."""
    sweeping.store_declaration(folder, declaration, workers=workers)
    if code := follow_driver(sweeping, folder, argparse.Namespace(retry=True, json=False)):
        for run, state in ((run, Experiment(folder).state().runs[run.key]) for run in Experiment(folder).runs):
            if state.error:
                print(f"{run.variant}, seed {run.seed}: {state.error}", file=sys.stderr)
        sys.exit(code)
    return Experiment(folder)


def train_all(trial: Trial, workers: int | None) -> None:
    """Train what is missing of the pilot, then of the methods, all of them with one seed before the next one."""
    train(*trial.declared_pilot(), workers)
    factors = trial.chosen()
    assert factors is not None
    print("chosen by the pilot:", ", ".join(f"{label} x {factor:g}" for label, factor in factors.items()), flush=True)
    for count in range(1, len(trial.seeds) + 1):
        train(*replace(trial, seeds=trial.seeds[:count]).declared(factors), workers)


def print_plan(trial: Trial, workers: int | None) -> None:
    """Print the runs of both experiments and the estimated time of those that are still to be done."""
    options = argparse.Namespace(json=False)
    factors = trial.chosen() or {method.label: trial.factors[0] for method in piloted()}  # rates do not change the time
    for folder, declaration in (trial.declared_pilot(), trial.declared(factors)):
        look_ahead(sweeping.resolved(folder, declaration, workers=workers), folder, options)


def main() -> None:
    from lab.teaching.lessons import smollm2

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=Path, required=True, help="transcripts in the layout of HH-RLHF, JSON Lines, packed or not")
    parser.add_argument("--workers", type=int, default=1, help="runs that train at once, with one thread each")
    parser.add_argument("--dry-run", action="store_true", help="list the runs and the estimated time, and start nothing")
    parser.add_argument("--show", action="store_true", help="print the results so far, and start nothing")
    parser.add_argument("--page", type=Path, help="Markdown page whose section of these results is replaced, or added at its end")
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"  # of the processes of the runs: their number changes the last digits
    try:
        model = str(smollm2())
        trial = Trial(open_file(options.pairs, model, LONGEST), model, SETTINGS, PILOT_SETTINGS)
        if options.dry_run:
            print_plan(trial, options.workers)
            return
        if not options.show:
            train_all(trial, options.workers)
        from tests.real.methods_report import read_trial, section, with_section

        text = section(read_trial(trial))
    except LabError as error:
        sys.exit(str(error))
    print(text)
    if options.page:
        options.page.write_text(with_section(options.page.read_text(encoding="utf-8"), text), encoding="utf-8")


if __name__ == "__main__":
    main()
