"""Tables and sentences of an experiment, from Python and from the command line."""

from __future__ import annotations

import json

import numpy as np
import pytest

import lab
from lab.cli import main
from lab.experiments import Driver, Experiment
from lab.experiments.results import variant_table
from lab.run import RunLock
from lab.run.config import ConfigError
from tests.experiments.faked import WrittenRuns, content, folder_with

PROMPTS = [f"p{i}" for i in range(12)]


def evaluations(run):
    """SGDPO has 0.5 more reward than DPO with every seed; both move equally far."""
    better = 0.5 * (run.config.objective.name == "sgdpo")
    rng = np.random.default_rng([run.seed, int(2 * better)])
    made = []
    for step in (0, 5, 9):
        rewards = step / 9 * (1 + better) + 0.1 * rng.normal(size=12)
        scalars = {"eval/oracle_reward": float(rewards.mean()), "eval/kl": step / 9, "eval/loss": 0.7 - step / 90}
        made.append((step, scalars, {"prompt": PROMPTS, "eval/oracle_reward": rewards.tolist()}))
    return made


@pytest.fixture
def experiment(lab_home):
    return made(content(["dpo", "sgdpo"], 4, steps=9))


def made(declared, ends=None, refused=None, by=evaluations):
    folder = folder_with(declared)
    executor = WrittenRuns(by)
    keys = [run.key for run in folder.read().runs]
    executor.ends = {keys[at]: state for at, state in (ends or {}).items()}
    lock = RunLock(folder.path)
    Driver(folder, executor).run()
    lock.release()
    return Experiment(folder)


def test_figures_show_differences_and_bands(experiment):
    compared = experiment.compare(["eval/oracle_reward", "eval/loss"], at=["end", "kl"])
    figure = compared.figure()
    _, interval, dots = figure.data
    row = compared.table().iloc[0]
    assert list(dots.x) == list(compared.table().query("metric == 'eval/oracle_reward'")["difference"])
    assert list(interval.x[:2]) == [row["low"], row["high"]]
    assert [note.text for note in figure.layout.annotations] == [
        "dpo − sgdpo, after training", "dpo − sgdpo, at equal KL (1 nats an answer)"
    ]  # fmt: skip
    assert list(dots.marker.symbol) == ["circle", "circle"]
    assert compared.figure("eval/loss").layout.title.text.startswith("Differences in loss, held out")
    table = experiment.table()
    numbers = variant_table(table, ["eval/oracle_reward"])
    assert list(numbers["eval/oracle_reward"]) == pytest.approx(list(table.groupby("variant")["eval/oracle_reward"].mean()))
    assert (numbers["eval/oracle_reward low"] < numbers["eval/oracle_reward"]).all()
    curves = experiment.figure("eval/oracle_reward")
    assert sum("95 % band" in str(trace.name) for trace in curves.data) == 2
    mean = next(trace for trace in curves.data if str(trace.name).startswith("sgdpo"))
    assert list(mean.x) == [0, 5, 9]
    assert mean.y[-1] == pytest.approx(numbers["eval/oracle_reward"]["sgdpo"], rel=1e-5)
    seeds = experiment.figure("eval/loss", "kl", variants=["sgdpo"], seeds=True)
    assert {str(trace.name) for trace in seeds.data if trace.name} >= {"seed 0", "seed 3"}
    for wrong in ({"metric": "eval/los"}, {"by": "pairs"}, {"variants": ["simpo"]}):
        with pytest.raises(ConfigError):
            experiment.figure(**wrong)


def test_measures_that_are_other_quantities_are_called_so(lab_home):
    def measured(run):
        simpo, scale = run.config.objective.name == "simpo", getattr(run.config.objective, "beta", 0.1)
        margin = (9.0 if simpo else 1.0 + scale) + run.seed / 100
        scalars = {"eval/loss": 0.5 + margin / 100, "eval/rewards/margins": margin, "eval/rewards/accuracies": margin / 20}
        return [(step, scalars, {}) for step in (0, 9)]

    objectives = [{"name": "dpo", "beta": [0.1, 0.5]}, {"name": "spo", "base": {"name": "sgdpo", "beta": 0.1}}, "simpo"]
    experiment = made(content(objectives, 3, steps=9), by=measured)
    low, high, spo, simpo = experiment.variants

    def said(one, metric, at="end", metric_of_other=low):
        made = experiment.compare(metric, at=at, baseline=metric_of_other)
        return next(each.sentence for each in made if each.one == one)

    assert f"{simpo} is higher than {low} in" in said(simpo, "eval/rewards/margins")
    assert "; each by its own reward, from log-prob per token and log-ratio; " in said(simpo, "eval/rewards/margins")
    assert f"{simpo} is better than {low} in" in said(simpo, "eval/rewards/accuracies")
    assert "; each by its own reward, from log-prob" in said(simpo, "eval/rewards/accuracies")
    assert "; each by its own reward, with beta 0.5 and 0.1; " in said(high, "eval/rewards/margins")
    assert "; each" not in said(high, "eval/rewards/accuracies") + said(spo, "eval/rewards/margins")
    assert "; each has its own loss; " in said(simpo, "eval/loss")
    assert "; each by its own reward" in said(simpo, "eval/loss", at="accuracy")
    assert "is better than" not in said(simpo, "eval/loss")


def test_some_variants_are_compared_and_corrected_alone(lab_home):
    experiment = made(content([{"name": "dpo", "beta": [0.1, 0.2, 0.3, 0.4, 0.5]}], 3, steps=9))
    labels = experiment.variants
    assert len(experiment.compare("eval/loss", at="end")) == 4, "each with the first"
    (one,) = experiment.compare("eval/loss", at="end", variants=[labels[3], labels[1]])
    assert (one.one, one.other, one.together) == (labels[3], labels[1], 1)
    assert {each.other for each in experiment.compare("eval/loss", at="end", variants=labels[2:4], baseline=labels[0])} == {
        labels[0]
    }
    with pytest.raises(ConfigError, match="There is no variant 'simpo'"):
        experiment.compare(variants=["simpo"])


def test_an_experiment_that_was_never_started_waits(lab_home):
    assert Experiment(folder_with(content("dpo", 2, steps=9))).state().state == "waiting"


def test_deleting_a_run_of_an_experiment_is_announced(experiment, capsys):
    names = [folder.name for folder in experiment.run_folders().values()]
    after = "Results of finished runs stay with the experiment; unfinished ones are trained again when it continues."
    message = f"1 run belongs to the experiment mine. {after}"
    assert main(["runs", "delete", names[0], "--dry-run"]) == 0
    assert capsys.readouterr().err.splitlines() == [message]
    assert main(["runs", "delete", names[0]]) == 0
    assert message in capsys.readouterr().err
    assert len(experiment.run_folders()) == 7
    assert len(experiment.table()["eval/kl"].dropna()) == 8


def test_tables(experiment):
    table = experiment.table()
    assert list(table["variant"]) == ["dpo", "sgdpo"] * 4
    assert list(table["eval/kl"]) == [1.0] * 8
    assert set(table["best_step"]) == {9}
    assert list(table["best/oracle_reward"]) == list(table["eval/oracle_reward"])
    assert experiment.evaluations().shape[0] == 8 * 3
    by_prompt = experiment.by_prompt()
    assert by_prompt.shape[0] == 8 * 3 * 12
    last = by_prompt[by_prompt["step"] == 9].groupby("key")["eval/oracle_reward"].mean()
    assert list(last[table.index]) == pytest.approx(list(table["eval/oracle_reward"]))


def test_comparisons(experiment):
    end, kl = experiment.compare()
    assert (end.metric.name, end.level.name, kl.level.name) == ("eval/oracle_reward", "end", "kl")
    assert end.estimate.prompts == 12
    assert end.better == kl.better == "sgdpo"
    assert end.interval[0] < -0.5 < end.interval[1]
    assert end.sentence.startswith("sgdpo is better than dpo in oracle reward of sampled answers by 0.")
    assert end.sentence.endswith("after training over 4 seeds; corrected for 2 comparisons.")
    (one,) = experiment.compare("eval/loss", at="step=5")
    assert "at step 5 over 4 seeds: the interval [0, 0] includes 0" in one.sentence
    with pytest.raises(ConfigError, match=r"Did you mean 'eval/loss'\?"):
        experiment.compare("eval/los")
    with pytest.raises(ConfigError, match="There is no variant 'simpo'"):
        experiment.compare(baseline="simpo")


def test_the_rule_can_be_declared(lab_home):
    rule = {"metrics": ["eval/loss"], "at": "end", "baseline": "dpo", "smallest": 0.3}
    (made_one,) = made(content(["dpo", "sgdpo"], 2, compare=rule, steps=9)).compare()
    assert (made_one.metric.name, made_one.one, made_one.other, made_one.smallest) == ("eval/loss", "sgdpo", "dpo", 0.3)


def test_a_run_that_was_changed_is_not_compared(lab_home):
    experiment = made(content(["dpo", "sgdpo"], 3, steps=9))
    key = experiment.runs[0].key
    record = experiment._folder.record(key)
    experiment._folder.write_record(key, record | {"changes": ["after step 3"]})
    again = lab.open_experiment(experiment.name)
    assert list(again.table()["changed"]) == [True] + [False] * 5
    assert again.compare()[0].seeds == (1, 2)
    assert "left out: seed 0 not finished, or changed by hand, in one of them" in again.compare()[0].sentence


def test_different_versions_are_said(experiment):
    key = experiment.runs[0].key
    record = experiment._folder.record(key)
    assert experiment.notes() == []
    experiment._folder.write_record(key, record | {"versions": record["versions"] | {"torch": "1.0"}})
    (note,) = lab.open_experiment("mine").notes()
    assert note.startswith("Runs were trained with different versions of torch (")
    assert "1 with 1.0" in note


def test_show_prints_table_and_sentences(experiment, capsys):
    assert main(["sweep", "mine"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "mine is finished: 8 of 8 runs finished"
    assert lines[1].startswith("variant  finished  Oracle reward")
    assert lines[2].startswith("dpo      4 of 4")
    assert lines[4].startswith("- sgdpo is better than dpo")
    assert main(["sweep", "mine", "--only-table"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 4
    assert main(["sweep", "mine", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert len(shown["runs"]) == 8
    assert shown["comparisons"][0]["better"] == "sgdpo"
    assert main(["sweep"]) == 0
    assert capsys.readouterr().out == "mine  finished: 8 of 8 runs finished\n"
    (experiment.folder.parent / "other").mkdir()
    (experiment.folder.parent / "other" / "experiment.json").write_text("{")
    assert main(["sweep"]) == 0
    out, error = capsys.readouterr()
    assert len(out.splitlines()) == 1
    assert error.startswith("other cannot be read: ")


def test_failed_runs_are_named(lab_home, capsys):
    made(content(["dpo", "sgdpo"], 1, steps=9), ends={0: "failed"})
    assert main(["sweep", "mine"]) == 0
    out = capsys.readouterr().out
    assert "dpo, seed 0 failed: The loss is not finite." in out
    assert "no seed can be compared" in out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["mime"], "There is no experiment 'mime'; there is mine. Did you mean 'mine'?"),
        (["nothing.yaml"], "nothing.yaml cannot be read"),
        (["mine", "--stop"], "no process starts its runs, so it cannot stop"),
        (["a.yaml", "--resume"], "--resume takes the name of an experiment"),
        (["--resume"], "Give the name of an experiment"),
        (["mine", "--workers", "2"], "--detach and --workers go with the file of an experiment, or --resume: sweep mine --resume"),
    ],
)
def test_a_wrong_command_ends_in_one_line(experiment, capsys, arguments, sentence):
    assert main(["sweep", *arguments]) == 1
    error = capsys.readouterr().err
    assert sentence in error
    assert len(error.splitlines()) == 1
