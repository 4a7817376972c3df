"""The command line: exit codes, one-line errors, JSON lines, and runs that other readers see."""

from __future__ import annotations

import io
import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

import lab
from lab import home, starting
from lab.cli import main
from lab.cli.parameters import with_parameters
from lab.cli.screens import Bar
from lab.pairs import BulkChange
from lab.run.config import TrainConfig
from lab.store import StoreWriter
from lab.training.run_folder import create_run
from tests.helpers import until


@pytest.fixture
def data(rows, tmp_path):
    path = tmp_path / "mine.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def train_arguments(data, model_folder, *more):
    return [
        "train",
        "--pairs",
        str(data),
        "--model",
        str(model_folder("gpt2")),
        "--steps",
        "4",
        "--batch-size",
        "4",
        "--device",
        "cpu",
        "--eval-tokens",
        "8",
        *more,
    ]


def test_train_prints_json_lines(data, model_folder, tmp_path, capsys):
    folder = tmp_path / "run"
    arguments = train_arguments(
        data, model_folder, "--objective", "sgdpo", "--set", "r1=0.7", "--json", "--run-dir", str(folder), "--seed", "3"
    )
    assert main(arguments) == 0
    out = capsys.readouterr()
    lines = [json.loads(line) for line in out.out.splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4]
    assert lines[0]["loss"] == pytest.approx(0.693147, abs=1e-4)
    assert "finished at step 4" in out.err
    assert "margin of held-out pairs: " in out.err
    assert "KL from the reference, nats an answer: " in out.err
    run = lab.open_run(folder)
    assert run.config.objective.r1 == 0.7
    assert run.config.seed == 3
    assert [r.dir.resolve() for r in lab.runs()] == [folder.resolve()]


def test_train_from_a_file_and_flags_win(data, model_folder, tmp_path, capsys):
    config = tmp_path / "run.yaml"
    config.write_text("objective:\n  name: simpo\n  beta: 2.0\nsteps: 99\nlora_rank: 2\n")
    assert main(train_arguments(data, model_folder, "--config", str(config), "--set", "gamma_beta_ratio=0.3")) == 0
    run = lab.runs()[0]
    assert run.config.steps == 4
    assert run.config.lora_rank == 2
    assert (run.config.objective.beta, run.config.objective.gamma_beta_ratio) == (2.0, 0.3)
    assert "finished at step 4" in capsys.readouterr().out


@pytest.mark.parametrize("width", [40, 60, 80, 100, 120, 200])
def test_the_progress_bar_is_as_wide_as_the_terminal(width, monkeypatch):
    numbers = {"loss": 0.6931, "rewards/margins": 0.003, "pairs_per_second": 123.0, "rewards/accuracies": 0.5}
    console = Console(width=width, force_terminal=True, file=io.StringIO())
    bar = Bar()
    bar.progress.live.console, bar.progress.disable, bar.total = console, False, 20_000
    bar.report = SimpleNamespace(show=lambda: None)
    for stage in ("training", "sampling answers 50 of 100"):
        bar.step(12_345, numbers)
        bar.show(SimpleNamespace(status={"stage": stage}))
        (line,) = console.render_lines(bar.progress.get_renderable(), pad=False)
        text = "".join(segment.text for segment in line)
        assert len(text.rstrip()) <= width
        assert "…" not in text
        assert text.count("━") + text.count("╸") + text.count("╺") >= (10 if width >= 60 else 4)
        assert ("step 12345/20000" in text) == (stage == "training" or width >= 80)
        assert ("accuracy" in text) == (width >= (100 if stage == "training" else 120))
    bar.close()


def test_parameters_of_a_nested_objective():
    assert with_parameters("spo", ["base=sgdpo", "base.r1=0.7", "weight=0.2"]) == {
        "name": "spo",
        "base": {"name": "sgdpo", "r1": "0.7"},
        "weight": "0.2",
    }


def test_runs_and_show_and_steer(data, model_folder, tmp_path, capsys):
    assert main(["runs"]) == 0
    assert "There is no run yet" in capsys.readouterr().out
    run = lab.train(
        "dpo", data, model_folder("gpt2"), steps=100_000, batch_size=4, save_every=0, device="cpu", evaluate=False, name="mine"
    )
    until(lambda: run.step >= 2)
    assert main(["runs", "--json"]) == 0
    row = json.loads(capsys.readouterr().out)
    assert row["state"] == "running"
    assert row["objective"] == "dpo"
    assert main(["show", run.dir.name, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["latest"]["loss"] > 0
    assert main(["show", run.dir.name, "--stop"]) == 0
    assert run.wait(60) == "stopped"
    assert main(["show", run.dir.name, "--pause"]) == 1
    assert "only a live run can" in capsys.readouterr().err
    exports_numbers(run, tmp_path, capsys)


def exports_numbers(run, tmp_path, capsys):
    name, path = run.dir.name, tmp_path / "out.parquet"
    assert main(["show", name, "--export", "scalars", "--to", str(path)]) == 0
    assert capsys.readouterr().out.strip().endswith(str(path))
    np.testing.assert_array_equal(pd.read_parquet(path)["loss"], run.scalars()["loss"])
    assert main(["show", name, "--export", "figure:loss", "--to", str(tmp_path / "loss.csv")]) == 0
    np.testing.assert_allclose(pd.read_csv(tmp_path / "loss.csv")["loss"], run.scalars()["loss"])
    assert main(["show", name, "--export", "figure:loss", "--to", str(tmp_path / "loss.html")]) == 0
    assert "plotly" in (tmp_path / "loss.html").read_text()[:20_000].lower()
    for arguments, sentence in [
        (("--export", "scalars", "--to", str(path)), "left unchanged"),
        (("--export", "scalars"), "Give both --export WHAT and --to FILE"),
        (("--export", "losses", "--to", str(tmp_path / "x.csv")), "There is no table 'losses'"),
        (("--export", "figure:none", "--to", str(tmp_path / "x.csv")), "There is no figure 'none'"),
        (("--export", "pairs", "--to", "x.txt"), "ends in .csv or .parquet"),
        (("--export", "pairs", "--to", "x.html"), "ends in .csv or .parquet"),
        (("--export", "figure:loss", "--to", str(tmp_path / "loss.html")), "left unchanged"),
    ]:
        capsys.readouterr()
        assert main(["show", name, *arguments]) == 1
        said = capsys.readouterr().err
        assert sentence in said
        assert said.count("\n") == 1


def test_a_run_is_found_by_its_name_and_by_how_that_begins(tmp_path, lab_home, capsys):
    config, about = TrainConfig.parse(objective="dpo"), {"pairs_store": "gone", "pairs_version": 0, "pairs_name": "gone"}
    folders = [lab_home / "runs" / "20260101-dpo", lab_home / "runs" / "20260102-dpo", tmp_path / "elsewhere" / "far"]
    for folder, name in zip(folders, ["first try", "", "second try"]):
        create_run(folder, config.model_copy(update={"name": name}), **about)
        StoreWriter(folder).close()
        home.list_run(folder)
    for word, folder in (
        ("first try", folders[0]),  # the name people gave it
        ("first", folders[0]),
        ("20260102-dpo", folders[1]),  # its folder's
        ("20260102", folders[1]),
        ("far", folders[2]),  # that of a folder that is linked
        ("second", folders[2]),
        (str(folders[2]), folders[2]),
        (folders[2], folders[2]),
    ):
        assert lab.open_run(word).dir.resolve() == folder.resolve(), word
    with pytest.raises(lab.RunError, match="2 runs have a name that begins with '2026': 2026010"):
        lab.open_run("2026")
    with pytest.raises(lab.RunError, match="There is no run 'third'"):
        lab.open_run("third")
    for word in ("first/try", "."):
        with pytest.raises(lab.RunError, match="holds no run"):
            lab.open_run(word)
    create_run(lab_home / "runs" / "20260103-dpo", config.model_copy(update={"name": "first try"}), **about)
    StoreWriter(lab_home / "runs" / "20260103-dpo").close()
    with pytest.raises(lab.RunError, match=r"2 runs have the name 'first try': .*; give the whole name of one's folder"):
        lab.open_run("first try")
    assert main(["runs"]) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split() == ["run", "name", "state", "step", "steps", "objective", "pairs", "model"]
    assert sum("first try" in line for line in lines) == 2
    for command in (["show", "second"], ["export", "second", str(tmp_path / "out")], ["train", "--branch", "second@3"]):
        assert main(command) == (0 if command[0] == "show" else 1)
        assert "no run" not in capsys.readouterr().err  # found; there is nothing to export or to branch from
    assert main(["train", "--resume", "--run-dir", "first try"]) == 1
    assert "2 runs have the name" in capsys.readouterr().err


def test_the_queue_is_shown_and_changed(data, model_folder, tmp_path, capsys):
    assert main(["queue"]) == 0
    assert "No run trains or waits" in capsys.readouterr().out
    settings = {"steps": 100_000, "batch_size": 4, "save_every": 0, "device": "cpu", "evaluate": False}
    runs = [lab.train("dpo", data, model_folder("gpt2"), run_dir=tmp_path / name, **settings) for name in "abc"]
    until(lambda: runs[2].place is not None and runs[2].place.place == 2)
    folders = [str(run.dir) for run in runs]
    assert main(["queue", "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(row["device"], row["place"], row["folder"]) for row in rows] == [("cpu", i, f) for i, f in enumerate(folders)]
    assert main(["queue", "--first", folders[2]]) == 0
    assert [line.split()[1:] for line in capsys.readouterr().out.splitlines()] == [["trains", "a"], ["1", "c"], ["2", "b"]]
    assert main(["queue", "--move", folders[2], "2"]) == 0
    assert [line.split()[-1] for line in capsys.readouterr().out.splitlines()] == ["a", "b", "c"]
    assert main(["runs"]) == 0
    assert "place 2 on cpu, behind b" in capsys.readouterr().out
    for arguments, sentence in (
        (["--first", folders[0]], "is not waiting"),
        (["--move", folders[1], "0"], "no place 0"),
        (["--move", folders[1], "up"], "'up' is no place"),
        (["--first", "nothing"], "There is no run 'nothing'"),
    ):
        assert main(["queue", *arguments]) == 1
        error = capsys.readouterr().err
        assert error.startswith("error: ")
        assert sentence in error
        assert len(error.strip().splitlines()) == 1
    for run in reversed(runs):
        assert main(["show", str(run.dir), "--stop"]) == 0
        assert run.wait(60) == "stopped"


def test_pairs(data, capsys, tmp_path):
    assert main(["pairs", str(data), "--search", "Question 7:", "--limit", "2"]) == 0
    out = capsys.readouterr().out
    assert "50 pairs" in out
    assert "1 match" in out
    assert main(["pairs", str(data), "--export", str(tmp_path / "out.jsonl")]) == 0
    assert len(lab.open_pairs(tmp_path / "out.jsonl")) == 50


def test_imported_sets_are_listed_and_opened_by_name(data, rows, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["pairs"]) == 0
    assert "No pairs are imported yet" in capsys.readouterr().out
    store = lab.open_pairs(data)
    store.apply([store.ids()[0]], BulkChange("drop"))
    assert main(["pairs"]) == 0
    assert [line.split()[:2] for line in capsys.readouterr().out.splitlines()[:2]] == [["name", "pairs"], ["mine", "49"]]
    for name in ("mine", store.path.name, store.path.stem):
        assert lab.open_pairs(name).location == store.location
    assert main(["pairs", "mine", "--limit", "1"]) == 0
    assert f"mine: 49 pairs, version {store.version}" in capsys.readouterr().out
    (tmp_path / "other").mkdir()
    second = tmp_path / "other" / "mine.jsonl"
    second.write_text(data.read_text(encoding="utf-8"), encoding="utf-8")
    other = lab.open_pairs(second)
    assert main(["pairs", "mine"]) == 1
    message = capsys.readouterr().err
    assert all(text in message for text in ("2 pair sets are named 'mine'", store.path.name, other.path.name, str(second)))
    assert lab.open_pairs(other.path.name).location == other.location
    assert lab.open_pairs("mine.jsonl").location == store.location, "a file comes before a set"
    assert main(["pairs", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert {(each["name"], each["pairs"], each["source"]) for each in listed} == {
        ("mine", 49, str(data)),
        ("mine", 50, str(second)),
    }


def test_a_run_records_the_set_that_a_name_means(data, rows, model_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path / "..")
    store = lab.open_pairs(data)
    config = starting.parse("dpo", "mine", model_folder("gpt2"), {})
    assert config.pairs == store.location


def test_pairs_suspects(data, capsys, monkeypatch):
    columns = ["pair_id", "probability", "probability_if_few", "probability_if_many", "held_out_margin"]
    rows = [("one", 0.6, 0.05, 0.7, -0.5), ("two", 0.2, 0.01, 0.3, 0.4)]
    monkeypatch.setattr(lab, "suspects", lambda *given, **settings: pd.DataFrame(rows, columns=columns))
    assert main(["pairs", str(data), "--suspects"]) == 0
    printed = capsys.readouterr()
    assert "one  Models that were not trained on this pair prefer the rejected answer" in printed.out
    assert "two" not in printed.out
    assert "uncertain, 3% to 50%" in printed.err


def test_a_part_or_an_earlier_version_of_pairs_is_exported(data, capsys, tmp_path):
    store = lab.open_pairs(data)
    store.edit(store.ids()[7], chosen="edited")
    store.snapshot("before")
    store.drop(store.ids()[0])

    def exported(name, *options):
        assert main(["pairs", str(data), "--export", str(tmp_path / name), *options]) == 0
        return [json.loads(line) for line in (tmp_path / name).read_text().splitlines()]

    assert [row["chosen"] for row in exported("part.jsonl", "--search", "Question 7:")] == ["edited"]
    assert [len(exported(f"{version}.jsonl", "--pairs-version", version)) for version in ("before", "1", "2")] == [50, 50, 49]
    assert "edited" not in [row["chosen"] for row in exported("imported.jsonl", "--pairs-version", "0")]
    capsys.readouterr()
    for options, message in (
        (("--export", "x.jsonl", "--pairs-version", "no"), "has no snapshot 'no'; it has 'before'"),
        (("--export", "x.jsonl", "--pairs-version", "9"), "has no version 9"),
        (("--export", "x.jsonl", "--pairs-version", "0", "--search", "7"), "A filter applies to the present pairs only"),
        (("--pairs-version", "0"), "add --export FILE"),
    ):
        assert main(["pairs", str(data), *options]) == 1
        assert message in capsys.readouterr().err


def test_pairs_check(data, capsys, tmp_path):
    assert main(["pairs", str(data), "--check"]) == 0
    out = capsys.readouterr().out
    assert "No problems were found in the 50 pairs" in out
    assert "The longer answer is chosen in 100% of the pairs" in out
    broken = tmp_path / "broken.jsonl"
    rows = [{"prompt": f"Question {i}?", "chosen": "Yes, it is.", "rejected": "-"} for i in range(3)]
    broken.write_text("".join(json.dumps(row) + "\n" for row in rows))
    held_out = tmp_path / "held_out.jsonl"
    held_out.write_text(json.dumps({"prompt": "Question 2?", "chosen": "No.", "rejected": "Perhaps."}) + "\n")
    file = tmp_path / "findings.csv"
    command = ["pairs", str(broken), "--check", "--limit", "2", "--held-out", str(held_out), "--findings", str(file)]
    assert main(command) == 0
    out = capsys.readouterr().out
    assert "Answer without content: 3." in out
    assert "... and 1 more" in out
    assert "Held-out pair in the training set: 1." in out
    assert "4 findings written" in out
    assert len(file.read_text().splitlines()) == 5
    assert main([*command, "--json"]) == 0
    assert {finding["check"] for finding in json.loads(capsys.readouterr().out)} == {"empty_answer", "held_out_leak"}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["train"], "Say which objective"),
        (["train", "--objective", "nope"], "no objective 'nope'"),
        (["train", "--objective", "dpo", "--set", "beta"], "not KEY=VALUE"),
        (["train", "--objective", "dpo", "--set", "beta=-1"], "beta"),
        (["train", "--objective", "dpo", "--steps", "many"], "steps"),
        (["train", "--objective", "dpo", "--pairs", "no-such-file.jsonl"], "no-such-file.jsonl"),
        (["train", "--resume"], "--run-dir"),
        (["train", "--config", "missing.yaml"], "missing.yaml"),
        (["show", "nothing"], "There is no run 'nothing'"),
        (["train", "--objective", "dpo", "--set", "name=simpo"], "use --objective"),
        (["bench", "--objectives", ""], "Nothing to measure"),
    ],
)
def test_errors_are_one_line(arguments, sentence, capsys):
    assert main(arguments) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert len(error.strip().splitlines()) == 1
    assert sentence in error


@pytest.mark.parametrize("command", ["train", "runs", "show", "queue", "pairs", "world", "bench"])
def test_every_command_has_help(command, capsys):
    with pytest.raises(SystemExit) as end:
        main([command, "--help"])
    assert end.value.code == 0
    assert command in capsys.readouterr().out


def test_a_configuration_file_holds_settings_only(tmp_path, capsys):
    for content, sentence in (("run_dir: x", "'run_dir'"), ("1: 2", "1"), ("objective: dpo\nbackground: false", "'background'")):
        path = tmp_path / "c.yaml"
        path.write_text(content)
        assert main(["train", "--config", str(path)]) == 1
        error = capsys.readouterr().err
        assert error.startswith("error: ")
        assert sentence in error


def test_runs_of_another_format_are_counted(lab_home, capsys):
    for name in ("one", "two"):
        (lab_home / "runs" / name).mkdir(parents=True)
        (lab_home / "runs" / name / "run.json").write_text('{"config": {}}')
    assert main(["runs"]) == 0
    shown = capsys.readouterr()
    assert "Not listed: 2 of another format" in shown.err
    assert "There is no run yet" in shown.out


def test_a_mapping_of_pairs_is_kept_said_and_forgotten(tmp_path, capsys):
    rows = [{"frage": f"Question {i}?", "gut": f"Yes {i}.", "schlecht": f"No {i}."} for i in range(3)]
    first, second = tmp_path / "first.jsonl", tmp_path / "second.jsonl"
    for path in (first, second):
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    swapped = [f"--map={field}" for field in ("prompt=frage", "chosen=schlecht", "rejected=gut")]
    assert main(["pairs", str(first), *swapped]) == 0
    assert "This mapping is kept for files with these columns; another --map replaces it" in capsys.readouterr().err
    for _ in range(2):  # imported, and opened unchanged
        assert main(["pairs", str(second)]) == 0
        assert "read by a mapping that was kept for files with these columns" in capsys.readouterr().err
    assert main(["pairs", str(second), "--forget-map"]) == 1
    error = capsys.readouterr().err
    assert "The mapping kept for these columns is forgotten." in error
    assert "3 lines (listed above) cannot be read as pairs, so nothing was imported; correct the file" in error
    assert error.count("line 2:") == 1
    assert main(["pairs", str(second), "--map", "prompt=fragen"]) == 1
    assert "names a column 'fragen', but there are" in capsys.readouterr().err
    assert main(["pairs", str(second), "--map", "prompt=frage"]) == 1
    assert "No column is known to hold the chosen answer; name it (mapping, --map chosen=COLUMN)" in capsys.readouterr().err
    second.write_text(json.dumps({"prompt": "p", "chosen": "a", "rejected": "b"}) + "\n{}\n")
    assert main(["pairs", str(second)]) == 1
    assert capsys.readouterr().err.rstrip().endswith("--skip-bad-rows leaves them out and imports the other 1.")
