"""Suggestions for misspelled names."""

from __future__ import annotations

import pytest

import lab
from lab.errors import FigureError, did_you_mean
from lab.run.config import TrainConfig
from lab.store import StoreReader, StoreWriter
from lab.training.run_folder import create_run


@pytest.mark.parametrize(
    ("word", "names", "suggestion"),
    [
        ("step", ["seed", "steps"], " Did you mean 'steps'?"),
        ("SGDPO", ["dpo", "sgdpo"], " Did you mean 'sgdpo'?"),
        ("zebra", ["seed", "steps"], ""),
        (3, ["seed"], ""),
        ("x", [], ""),
    ],
)
def test_the_closest_name_is_suggested(word, names, suggestion):
    assert did_you_mean(word, names) == suggestion


def test_settings_objectives_and_parameters_are_suggested():
    for fields, suggestion in (
        ({"objective": "dpo", "step": 3}, "'steps'"),
        ({"objective": "sgpdo"}, "'sgdpo'"),
        ({"objective": {"name": "sgdpo", "bta": 1}}, "'beta'"),
    ):
        with pytest.raises(lab.ConfigError, match=f"Did you mean {suggestion}"):
            TrainConfig.parse(**fields)


def test_figures_are_suggested(tmp_path):
    from lab.plots import run_figure

    StoreWriter(tmp_path).close()
    with pytest.raises(ValueError, match="Did you mean 'margins'"):
        run_figure(StoreReader(tmp_path), "margin")


def test_figures_are_drawn_of_a_run_and_of_nothing_else(tmp_path):
    from lab.plots import figure_file

    folder = tmp_path / "run"
    create_run(folder, TrainConfig.parse(objective="dpo"), pairs_store="gone", pairs_version=0, pairs_name="gone")
    StoreWriter(folder).close()
    assert figure_file(lab.open_run(folder), "loss", "CSV").startswith(b"step")
    for source in (folder, str(folder), None):
        with pytest.raises(FigureError, match="is no run; give a run"):
            figure_file(source, "loss", "CSV")
