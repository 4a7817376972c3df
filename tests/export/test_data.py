"""What is exported as "trained on" is what was trained on, at every checkpoint."""

from __future__ import annotations

import json

import pytest

import lab
from lab.export import find_source
from lab.export.data import find_data
from lab.export.trl import PAIRS
from lab.training.data.held_out import split

LOOKS = {"evaluate": True, "eval_prompts": 0, "held_out": 0.2}


def data_of(run, step=None):
    return find_data(run, find_source(run, step))


def written(run, folder, **more):
    """Prompts in the file beside the script for TRL, and the card."""
    out = lab.export_run(run, folder, trl_script=True, **more)
    lines = (out / PAIRS).read_text().splitlines()
    return [json.loads(line)["prompt"] for line in lines], (out / "README.md").read_text()


@pytest.mark.parametrize("looks", [{}, LOOKS])
def test_pairs_that_were_left_out_as_too_long_are_not_in_it(looks, rows, trained, tmp_path):
    long = [row | {"chosen": row["chosen"] * 9} if i % 5 == 0 else row for i, row in enumerate(rows)]
    run = trained(pairs=long, too_long="drop", max_length=60, steps=30, save_every=30, **looks)
    left_out = run.events("held_out")["detail"].iloc[-1]["too_long"]
    assert 5 < len(left_out) <= 10
    data = data_of(run)
    assert {pair.id for pair in data.pairs} == set(run.pairs()["pair"])
    assert data.too_long == len(left_out)
    assert len(data.pairs) + data.held_out + data.too_long == 50
    prompts, card = written(run, tmp_path / "out")
    assert prompts == [pair.prompt for pair in data.pairs]
    assert f"version 0: {len(prompts)} pairs, as they were imported." in card
    assert f"{len(left_out)} more were left out because an answer did not fit into max_length." in card
    assert ("held out from training" in card) == bool(looks)


def test_pairs_that_edits_moved_are_where_they_are(rows, trained, tmp_path):
    pairs, folder = lab.open_pairs(rows), tmp_path / "run"
    training, held_out = split(pairs.all(), 0.2, 0)

    def on_step(step, scalars):
        if step == 2:
            pairs.edit(training[0].id, prompt=held_out[0].prompt)
            pairs.edit(held_out[1].id, prompt=training[1].prompt)
            lab.open_run(folder).take_edits()
        if step == 4:  # nothing moves
            pairs.edit(training[2].id, chosen="Mix it.")
            lab.open_run(folder).take_edits()

    settings = LOOKS | {"steps": 6, "save_every": 1, "keep_checkpoints": 9}
    run = trained(pairs=pairs, run_dir=folder, on_step=on_step, **settings)
    assert run.events("held_out")["step"].tolist() == [0, 2]
    for step, version in ((1, 0), (2, 0), (3, 2), (4, 2), (5, 3), (6, 3)):
        expected, kept_apart = split(pairs.all(version), 0.2, 0)
        data = data_of(run, step)
        assert (data.version, data.pairs, data.held_out) == (version, expected, len(kept_apart))
    prompts, card = written(run, tmp_path / "out")
    assert prompts.count(training[1].prompt) == 2
    assert held_out[0].prompt not in prompts
    assert f"version 3: {len(prompts)} pairs" in card

    for checkpoint in run.checkpoints()[2:]:
        checkpoint.rename(checkpoint.with_name(f".{checkpoint.name}.gone"))
    resumed = lab.train(run_dir=folder, resume=True, background=False)
    assert resumed.state == "finished", resumed.error
    assert data_of(resumed).pairs == split(pairs.all(3), 0.2, 0)[0]
    assert data_of(resumed, 2).pairs == training

    branch = lab.train(branch_from=resumed, at=4, background=False)
    assert branch.state == "finished", branch.error
    assert data_of(branch).pairs == split(pairs.all(2), 0.2, 0)[0]
