"""The experiment of four methods on a real model: its declaration, the choice of rates, its report."""

from __future__ import annotations

import gzip
import itertools
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import lab
from lab.experiments import declare
from tests.models import make_model
from tests.real.methods import (
    PILOT_SEEDS,
    SEEDS,
    SETTINGS,
    Pairs,
    Trial,
    chosen_factors,
    fitting,
    objectives,
    open_file,
    pilot_objectives,
    print_plan,
    train_all,
)
from tests.real.methods_report import (
    ACCURACY,
    CUT,
    KL,
    LENGTH,
    MARGIN,
    OWN,
    TITLE,
    Results,
    compared,
    log_ratio_measures,
    read_trial,
    section,
    with_section,
)
from tests.real.transcripts import as_pairs, own_transcripts

RATES = {"dpo": 1e-4, "sgdpo": 1e-4, "simpo": 2e-4, "alpha-dpo": 2e-4}


def test_methods_are_four_with_rates_in_the_papers_proportions_and_seeds_that_the_pilot_does_not_use():
    declared = declare(objectives({"dpo": 100.0, "simpo": 300.0}), list(SEEDS), SETTINGS)
    by_label = {entry["label"]: entry for entry in declared.objectives}
    assert {label: entry["learning_rate"] for label, entry in by_label.items()} == {
        "dpo": 5e-5, "sgdpo": 5e-5, "simpo": 2.4e-4, "alpha-dpo": 2.4e-4
    }  # fmt: skip
    assert by_label["simpo"]["alpha"] == 0 < by_label["alpha-dpo"]["alpha"]
    assert by_label["sgdpo"]["beta"] == by_label["dpo"]["beta"] == 0.1
    assert not set(SEEDS) & set(PILOT_SEEDS)
    tried = declare(pilot_objectives(), list(PILOT_SEEDS), SETTINGS).objectives
    assert len({entry["learning_rate"] for entry in tried if entry["name"] == "dpo"}) >= 2


def test_lowest_held_out_loss_of_the_pilot_chooses_a_factor_for_each_method():
    losses = {"dpo x 1": (0.6, 0.7), "dpo x 2": (0.4, 0.8), "simpo x 1": (0.3, 0.3), "simpo x 2": (0.5, 0.5)}
    table = pd.DataFrame([{"variant": label, "eval/loss": loss} for label, own in losses.items() for loss in own])
    assert chosen_factors(table, (1.0, 2.0)) == {"dpo": 2.0, "simpo": 1.0}


def test_pairs_fit_with_prompt_template_and_end_of_answer():
    class Words:
        def apply_chat_template(self, prompt, **options):
            return "system " + prompt[-1]["content"] + " "

        def __call__(self, text):
            return {"input_ids": text.split()}

    rows = [
        {"prompt": [{"content": "a b"}], "chosen": [{"content": "c"}], "rejected": [{"content": answer}]}
        for answer in ("d e", "d e f")
    ]
    assert fitting(rows, Words(), 6) == rows[:1]  # system a b d e and the end of the answer


@pytest.mark.parametrize(
    ("name", "content"),
    [("missing.jsonl", None), ("no.jsonl", b'{"question": 1}'), ("cut.gz", gzip.compress(b"{}")[:-6])],
    ids=["missing", "other layout", "cut"],  # packed bytes hold the time, and test processes must agree on the names
)
def test_file_without_transcripts_ends_with_one_sentence(tmp_path, name, content):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(SystemExit, match=r"cannot be read as transcripts in the layout of HH-RLHF \(.*give its JSON Lines file"):
        open_file(tmp_path / name, "no model", 100)


def test_accuracy_of_log_ratios_counts_ties_one_half():
    terms = pd.DataFrame({"log_ratio_chosen": [1.0, 0.0, -1.0, 2.0], "log_ratio_rejected": [0.0, 0.0, 0.0, 1.0]})
    assert log_ratio_measures(terms) == {ACCURACY: 0.625, MARGIN: 0.25}


def made_results(seeds=(0, 1, 2), gain=0.05) -> Results:
    """Results of evaluations that are written here: every other method is better than DPO by `gain`, and no seed differs much."""
    rng = np.random.default_rng(0)
    rows = []
    for label, seed, (step, done) in itertools.product(RATES, seeds, ((0, 0.0), (65, 1.0))):
        accuracy = 0.5 + done * (0.06 + gain * (label != "dpo")) + 1e-4 * rng.normal()
        measures = {OWN: 0.55 if step else 0.0, ACCURACY: accuracy, MARGIN: done, KL: done, LENGTH: 90.0 + seed, CUT: 0.5}
        rows.append({"variant": label, "seed": seed, "step": step, **measures})
    pilot = pd.DataFrame([{"variant": "dpo x 200", "learning_rate": 1e-4, "loss": 0.67, "accuracy": 0.58, "chosen": True}])
    trial = Trial(Pairs(range(1325), "pairs.jsonl.gz", 2303), "model", SETTINGS, SETTINGS)  # of the store only its length is read
    return Results(
        trial, 4 * len(seeds), pd.DataFrame(rows), RATES, pilot, [(1060, 255), (1055, 260)], [1300.0, 1500.0], 3.1 * 2**30
    )


def test_report_has_every_method_its_interval_and_what_was_cut():
    text = section(made_results())
    flowing = " ".join(text.split())
    assert text.startswith(TITLE)
    assert "Preliminary" not in text
    assert "1,325 of 2,303 pairs" in flowing
    assert "978 longer pairs" in flowing
    assert "1,055 to 1,060 for training and 255 to 260 held out" in flowing
    for label in ("reference", *RATES):
        assert re.search(rf"^\| {label} \|", text, re.MULTILINE), label
    assert re.search(r"^\| dpo \| 0.0001 \| 0\.560\d* \[0\.5\d+, 0\.5\d+\] \|", text, re.MULTILINE)
    assert "The interval of the accuracy of log-ratios is above chance for dpo, sgdpo, simpo, alpha-dpo." in flowing
    assert "A run took 22 to 25 minutes and at most 3.1 GiB." in flowing
    assert max(map(len, (line for line in text.split("\n") if not line.startswith(("|", "-"))))) <= 132


def test_factor_at_the_end_of_those_tried_is_said():
    results = made_results()
    assert "largest factor" not in section(results)
    pilot = results.pilot.assign(variant=f"dpo x {max(results.trial.factors):g}")
    assert "For dpo that is the largest factor tried" in " ".join(section(replace(results, pilot=pilot)).split())


def test_difference_is_bold_exactly_if_it_is_shown_after_correction():
    results = made_results()
    made = {(each.one, each.other, each.metric.name): each for each in compared(results)}
    assert made["sgdpo", "dpo", ACCURACY].shown
    assert not made["alpha-dpo", "simpo", ACCURACY].shown
    row = next(line for line in section(results).split("\n") if line.startswith("| sgdpo − dpo |"))
    assert row.split("|")[2].strip().startswith("**0.0")
    level = section(made_results(gain=0.0))
    assert "None of these differences is shown" in level
    assert "**" not in level


def test_unfinished_report_says_preliminary_and_how_many_runs():
    text = section(made_results(seeds=(0,)))
    assert "**Preliminary: 4 of 12 runs have finished.**" in text
    assert "Differences need two seeds of two methods." in text
    assert "| dpo (1 of 3 seeds) |" in text
    assert "chance for" not in text


def test_section_replaces_its_earlier_self_and_nothing_else():
    page = "# Page\n\n## First\n\none\n"
    once = with_section(page, f"{TITLE}\n\nold\n")
    assert once == f"{page}\n{TITLE}\n\nold\n"
    between = f"{once}\n## Last\n\ntwo\n"
    assert with_section(between, f"{TITLE}\n\nnew\n") == between.replace("old", "new")


@pytest.mark.extended
def test_tiny_model_goes_the_whole_way_and_is_continued(tmp_path, monkeypatch):
    monkeypatch.setenv("LAB_HOME", str(tmp_path / "home"))
    make_model("llama", tmp_path / "model")
    template = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
    (tmp_path / "model" / "chat_template.jinja").write_text(template, encoding="utf-8")
    rows = as_pairs(own_transcripts(24))
    settings = SETTINGS | {"lora_rank": 2, "batch_size": 4, "steps": 2, "max_length": 256, "held_out": 0.3, "eval_pairs": 4,
                           "eval_prompts": 2, "eval_tokens": 4, "eval_every": 1}  # fmt: skip
    trial = Trial(
        Pairs(lab.open_pairs(rows), "own", 30), str(tmp_path / "model"), settings, settings | {"eval_prompts": 0},
        seeds=(0, 1), factors=(200.0,), name="tiny"
    )  # fmt: skip
    print_plan(trial, 2)
    assert "Preliminary: 0 of 8 runs" in section(read_trial(trial))
    train_all(trial, 2)
    text = section(read_trial(trial))
    for part in ("| alpha-dpo |", "sgdpo − dpo", "| dpo x 200 | 0.0001 |"):
        assert part in text
    assert "Preliminary" not in text
    folders = sorted((tmp_path / "home" / "runs").iterdir())
    train_all(trial, 2)  # nothing is left to do
    assert sorted((tmp_path / "home" / "runs").iterdir()) == folders
    assert section(read_trial(trial)) == text
