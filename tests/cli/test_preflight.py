"""The report on the command line: before a run, beside its JSON lines, and without a run at all."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import pytest

import lab
from lab.cli import main
from lab.run.preflight_report import Preflight


@pytest.fixture
def train(rows, tmp_path, model_folder):
    path = tmp_path / "mine.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    common = ["--pairs", str(path), "--model", str(model_folder("gpt2")), "--steps", "3", "--batch-size", "4", "--device", "cpu"]
    common += ["--evaluate", "false"]
    return ["train", "--objective", "dpo", *common]


def test_a_dry_run_prints_the_report_and_makes_no_run(train, capsys):
    assert main([*train, "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert [line.split()[0] for line in out.splitlines()] == [
        "pairs",
        "prompt",
        "chosen",
        "rejected",
        "note",
        "fit",
        "memory",
        "time",
    ]
    assert "50; 3 steps of 4 are 0.24 epochs" in out
    assert lab.runs() == []


def test_a_dry_run_in_json_is_the_report(train, capsys):
    assert main([*train, "--dry-run", "--json", "--max-length", "24"]) == 0
    report = Preflight.model_validate(json.loads(capsys.readouterr().out))
    assert (report.pairs, report.max_length) == (50, 24)
    assert report.findings[0].kind == "answer_cut"


def test_training_prints_the_report_first(train, capsys):
    assert main(train) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("pairs ")
    assert sum(line.startswith("memory ") for line in lines) == 1
    assert lines[-1].startswith("finished at step 3")


def test_with_json_lines_the_report_stands_on_standard_error(train, capsys):
    assert main([*train, "--json"]) == 0
    out = capsys.readouterr()
    assert [json.loads(line)["step"] for line in out.out.splitlines()] == [1, 2, 3]
    assert "time     about" in out.err


def test_show_puts_what_was_measured_beside_what_was_expected(train, capsys):
    assert main(train) == 0
    (run,) = lab.runs()
    capsys.readouterr()
    assert main(["show", run.dir.name]) == 0
    out = capsys.readouterr().out
    assert "memory   about" in out
    assert "a step," in out.split("since ")[1]
    assert main(["show", run.dir.name, "--json"]) == 0
    assert Preflight.model_validate(json.loads(capsys.readouterr().out)["preflight"]) == run.preflight()


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (["--max-length", "16", "--too-long", "drop"], "Every one of 50 pairs"),
        (["--too-long", "fold"], "too_long"),
        (["--model", "/nowhere"], "/nowhere"),
    ],
)
def test_what_cannot_work_is_one_line(train, more, sentence, capsys):
    assert main([*train, *more, "--dry-run"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert len(error.strip().splitlines()) == 1
    assert sentence in error


def test_a_run_that_exists_has_its_report_already(capsys, tmp_path):
    assert main(["train", "--resume", "--run-dir", str(tmp_path), "--dry-run"]) == 1
    assert "show RUN" in capsys.readouterr().err


@pytest.mark.parametrize("fault", ["a run is there", "a file is in the way", "read-only", "known here alone"])
def test_a_dry_run_refuses_what_train_refuses(fault, train, tmp_path, capsys, monkeypatch):
    folder = tmp_path / "runs" / "mine"
    more = ["--run-dir", str(folder)]
    if fault == "a run is there":
        folder.mkdir(parents=True)
        (folder / "run.json").write_text("{}")
    elif fault == "a file is in the way":
        folder.parent.write_text("")
    elif fault == "read-only":
        write = Path.write_text
        refused = lambda path, *args, **more: (read_only if ".run.json" in path.name else write)(path, *args, **more)  # noqa: E731
        monkeypatch.setattr(Path, "write_text", refused)
    else:
        monkeypatch.setitem(lab.OBJECTIVES, "known_here", type("KnownHere", (lab.OBJECTIVES["dpo"],), {"name": "known_here"}))
        train[train.index("dpo")] = "known_here"
        more.append("--detach")
    before = sorted(tmp_path.rglob("*"))
    assert main([*train, *more, "--dry-run"]) == 1
    dry = capsys.readouterr().err
    assert [path for path in sorted(tmp_path.rglob("*")) if "lab-home" not in path.parts] == before, "the pairs are stored at home"
    assert main([*train, *more]) == 1
    assert capsys.readouterr().err == dry
    assert len(dry.strip().splitlines()) == 1


def read_only(path, *args, **more):
    raise OSError(errno.EROFS, "Read-only file system", str(path))


def test_a_dry_run_leaves_no_folder(train, tmp_path):
    assert main([*train, "--run-dir", str(tmp_path / "a" / "b"), "--dry-run"]) == 0
    assert not (tmp_path / "a").exists()
