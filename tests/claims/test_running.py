"""`python -m lab bench claims`: the command, and the whole way on tiny worlds."""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path

import pytest

from lab import sweeping
from lab.claims import Base, Scale
from lab.claims.trials import METHODS
from lab.cli import main
from lab.cli.bench import claim_runs, claims
from lab.cli.sweep import follow_driver
from lab.pairs import PairStore
from lab.world import WorldSpec, ensure

TINY = Scale(
    2,
    {"steps": 4, "batch_size": 4, "eval_every": 2, "held_out": 0.3, "eval_pairs": 8, "eval_prompts": 3, "eval_tokens": 20,
     "panel_pairs": 0, "probe_budget": 0},
    rounds=2,
)  # fmt: skip
CLAIMS = ["sgdpo-chosen", "sgdpo-half-gradient", "alpha-narrows", "flipped-dpo", "cost-sgdpo"]


def test_a_dry_run_counts_what_is_missing_and_starts_nothing(lab_home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "claims", "--dry-run", "--only", "alpha-gamma", "spo-dpo", "--seeds", "4", "--workers", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("claims-rates: 4 runs, 4 to do, about ")
    assert lines[1].startswith("claims-alpha: 8 runs, 8 to do, about ")
    assert lines[2].startswith("claims-spo: 4 runs, 4 to do, about ")
    assert lines[3].startswith("16 runs, 16 to do: about ")
    assert not lab_home.exists()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--only", "alpha-gama"], "There is no claim 'alpha-gama'; choose from dpo-imbalance, "),
        (["--seeds", "9"], "--seeds 9 does not work: give 1 to 8"),
        (["--seeds", "0"], "--seeds 0 does not work: give 1 to 8"),
    ],
)
def test_impossible_options_are_refused_in_a_sentence(options, sentence, capsys) -> None:
    assert main(["bench", "claims", "--dry-run", *options]) == 1
    assert capsys.readouterr().err.startswith(f"error: {sentence}")


def test_a_report_without_results_is_preliminary_throughout(tmp_path: Path, lab_home: Path) -> None:
    assert main(["bench", "claims", "--no-runs", "--report", str(tmp_path / "report"), "--only", "alpha-gamma", "cost-spo"]) == 0
    text = (tmp_path / "report" / "claims.md").read_text()
    assert "0 of 16 runs are finished" in text
    assert "preliminary: 0 of 8 seeds" in text
    assert "preliminary: 0 of 8 rounds" in text
    assert not (lab_home / "experiments").exists()


def test_missing_libraries_are_named_before_anything_runs(lab_home: Path, monkeypatch, capsys) -> None:
    monkeypatch.setattr("lab.cli.bench.claims.find_spec", lambda name: None)
    assert main(["bench", "claims"]) == 1
    assert "The report needs matplotlib, which is not installed: pip install" in capsys.readouterr().err
    assert not lab_home.exists()


def test_damaged_timing_is_named(lab_home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (lab_home / "claims").mkdir(parents=True)
    claim_runs.timing_file().write_text('{"dpo": 1}')
    assert main(["bench", "claims", "--no-runs"]) == 1
    assert "timing.json is damaged" in capsys.readouterr().err


def tiny_base(cache: Path) -> Base:
    worlds = [ensure(WorldSpec.tiny(seed=seed), cache=cache) for seed in range(TINY.seeds)]
    return Base(tuple(str(world.model_dir) for world in worlds), tuple(str(world.pairs_path) for world in worlds))


def test_flipped_labels_are_the_same_ones_each_time(shared_cache: Path, lab_home: Path, monkeypatch, tmp_path) -> None:
    source = tiny_base(shared_cache).pairs[0]
    first = PairStore(claim_runs.flipped(source))
    assert claim_runs.flipped(source) == first.location
    before = {row["prompt"] + row["chosen"]: row for row in map(json.loads, Path(source).read_text().splitlines())}
    wrong = [pair.id for pair in first if pair.prompt + pair.chosen not in before]
    assert len(wrong) == round(0.2 * len(before))
    monkeypatch.setenv("LAB_HOME", str(tmp_path / "other"))
    again = PairStore(claim_runs.flipped(source))
    assert again.location != first.location
    assert [pair.content for pair in again] == [pair.content for pair in first]
    assert again.source == first.source, "its runs are judged by the oracle"


def run_tiny(keys: list[str], base: Base, folder: Path, *, workers: int) -> str:
    chosen = claim_runs.chosen_claims(keys)
    follow = lambda experiment: follow_driver(sweeping, experiment, argparse.Namespace(retry=False, json=False))  # noqa: E731
    bases = {"world": base, "world-hard": base}
    codes = list(claim_runs.run_missing(chosen, bases=bases, follow=follow, scale=TINY, workers=workers))
    assert codes == [0] * len(codes)
    claim_runs.time_methods(TINY.rounds, base.models[0], base.pairs[0], steps=2)
    claims.report(chosen, TINY).write(folder)
    assert list(claim_runs.run_missing(chosen, bases=bases, follow=follow, scale=TINY)) == [], "nothing is left to do"
    return (folder / "claims.md").read_text()


def test_each_method_is_timed_first_in_turn(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LAB_HOME", str(tmp_path))
    timed: list[str] = []
    monkeypatch.setattr(claim_runs, "open_pairs", lambda pairs: None)
    monkeypatch.setattr(claim_runs, "_seconds_per_step", lambda name, *rest: timed.append(name) or 1.0)
    claim_runs.time_methods(2, "model", "pairs")
    claim_runs.time_methods(6, "model", "pairs")  # goes on where it ended
    rounds = [timed[1 + 5 * at : 6 + 5 * at] for at in range(2)]  # after the run that is not timed
    rounds += [timed[12 + 5 * at : 17 + 5 * at] for at in range(4)]
    assert [own[0] for own in rounds] == [*METHODS, "dpo"]
    assert all(sorted(own) == sorted(METHODS) for own in rounds)


@pytest.mark.extended
def test_a_report_repeats_to_the_digit_in_another_home(shared_cache: Path, tmp_path: Path, monkeypatch) -> None:
    base = tiny_base(shared_cache)
    texts = []
    for name, workers in (("one", 1), ("two", 2)):
        monkeypatch.setenv("LAB_HOME", str(tmp_path / name / "home"))
        text = run_tiny(CLAIMS, base, tmp_path / name, workers=workers)
        timed = r"(?m)^.*(cost-|CPU time per step).*$|^In all:.*$| The verdict does not survive .* \(Holm\)\.|\| (yes|no) \|"
        texts.append(re.sub(timed, "", text))
        pictures = {path.name: path.read_bytes() for path in (tmp_path / name / "claims").glob("*.svg")}
        pictures.pop("cost-sgdpo.svg")
        texts.append(pictures)
    assert texts[0] == texts[2]
    assert texts[1] == texts[3]
    assert len(texts[1]) == len(CLAIMS) - 1
    assert "preliminary" not in texts[0].split("## All claims")[1]
    assert "confirmed" in texts[0].split("sgdpo-half-gradient")[1][:40]
    assert "20 of 20 runs are finished" in texts[0]
