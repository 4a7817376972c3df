"""A chat template that prints the date gets the same time in a run, its resumption, branches, twins and exports."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

import lab
from lab.api import make_run, start_run
from lab.policy.text import template_time
from lab.run.config import ConfigError, TrainConfig
from lab.run.handle import Run
from lab.whatif import examine

pytestmark = pytest.mark.extended

DATED = (
    "{{ strftime_now('%Y-%m-%d %H:%M') + '\n' }}{% for m in messages %}{{ m.role }}: {{ m.content }}{{ eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)
FEW: dict[str, Any] = {
    "steps": 2,
    "batch_size": 2,
    "save_every": 1,
    "keep_checkpoints": 9,
    "device": "cpu",
    "probe_budget": 0,
    "evaluate": False,
    "background": False,
    "queue": False,
    "lora_rank": 2,
}
DAYS = [datetime(2024, 2, 3, 4, 5, 6), datetime(2025, 12, 31, 23, 59, 59)]


@pytest.fixture
def dated_model(model_folder: Callable[[str], Path], tmp_path: Path) -> Path:
    folder = tmp_path / "dated-model"
    shutil.copytree(model_folder("llama"), folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = DATED
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def conversations(rows: list[dict[str, str]]) -> list[dict[str, Any]]:
    return [
        {name: [{"role": "user" if name == "prompt" else "assistant", "content": text}] for name, text in row.items()}
        for row in rows[:6]
    ]


@pytest.fixture
def on_day(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Return on_day(n): sets the lab's clock to DAYS[n]."""

    class Clock(datetime):
        day = 0

        @classmethod
        def now(cls, tz: Any = None) -> datetime:
            return DAYS[cls.day].astimezone(tz) if tz else DAYS[cls.day]

    monkeypatch.setattr(template_time, "datetime", Clock)
    return lambda number: setattr(Clock, "day", number)


def prompt_of(run: Run) -> str:
    """Return the first line of the first prompt as the model gets it."""
    examined = examine(run, at=0)
    (pair, *_) = examined.pairs()
    return examined.policy.tokenizer.decode(examined.encode(pair).chosen.prompt).removeprefix("<s>").splitlines()[0]


def chosen_logps(run: Run) -> list[float]:
    assert run.state == "finished", run.error
    return run.scalars(["logps/chosen"])["logps/chosen"].tolist()


def test_continuations_on_another_day_have_the_same_prompts(dated_model, conversations, on_day, tmp_path):
    run = lab.train("dpo", conversations, dated_model, **FEW)
    assert run.manifest["config"]["template_time"] == "2024-02-03T04:05:06"
    shutil.copytree(run.dir, tmp_path / "half")
    shutil.rmtree(tmp_path / "half" / "checkpoints" / "step-000002")
    on_day(1)
    resumed = start_run(tmp_path / "half", queue=False, background=False)
    branch = lab.train(branch_from=run, at=1, **{k: v for k, v in FEW.items() if k in ("background", "queue")})
    twin = lab.train_twin(run, "ipo", queue=False, background=False)
    new = lab.train("dpo", conversations, dated_model, **FEW)
    assert chosen_logps(resumed)[1:] == chosen_logps(branch) == chosen_logps(run)[1:]
    assert chosen_logps(new) != chosen_logps(run)
    for same in (run, resumed, branch, twin):
        assert same.config.template_time == "2024-02-03T04:05:06"
    assert prompt_of(run) == prompt_of(twin) == "2024-02-03 04:05"
    assert prompt_of(new) == "2025-12-31 23:59"
    same = lab.train("dpo", conversations, dated_model, template_time="2024-02-03T04:05:06", **FEW)
    assert chosen_logps(same) == chosen_logps(run)


def test_a_run_of_an_earlier_version_uses_its_creation_time(dated_model, conversations, on_day, tmp_path):
    on_day(1)
    settings = {k: v for k, v in FEW.items() if k not in ("background", "queue")}
    folder = make_run("dpo", conversations, dated_model, run_dir=tmp_path / "old", **settings)
    manifest = json.loads((folder / "run.json").read_text())
    del manifest["config"]["template_time"]
    manifest["created"] = "2024-02-03T04:05:06+00:00"
    (folder / "run.json").write_text(json.dumps(manifest))
    run = start_run(folder, queue=False, background=False)
    assert run.state == "finished", run.error
    assert prompt_of(run) == "2024-02-03 04:05"


def test_twins_share_their_template_time(dated_model, conversations, monkeypatch):
    moments = iter(datetime(2024, 2, 3, hour) for hour in range(24))
    monkeypatch.setattr("lab.twins.now", lambda: next(moments))
    a, b = lab.train_twins(("dpo", "ipo"), conversations, dated_model, **FEW)
    assert a.config.template_time == b.config.template_time == "2024-02-03T00:00:00"


@pytest.mark.slow
def test_two_template_times_in_one_process(dated_model, conversations):
    alone = {day: lab.train("dpo", conversations, dated_model, template_time=day, **FEW) for day in ("2024-01-01", "1999-01-01")}
    together = {}

    def train(day: str) -> None:
        together[day] = lab.train("dpo", conversations, dated_model, template_time=day, **FEW)

    threads = [threading.Thread(target=train, args=(day,)) for day in alone]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {day: chosen_logps(run) for day, run in together.items()} == {day: chosen_logps(run) for day, run in alone.items()}
    assert chosen_logps(alone["2024-01-01"]) != chosen_logps(alone["1999-01-01"])


def test_an_export_contains_the_template_time(dated_model, conversations, rows, model_folder, tmp_path):
    run = lab.train("dpo", conversations, dated_model, template_time="2024-02-03T04:05", **FEW)
    folder = lab.export_run(run, tmp_path / "out", trl_script=True)
    card = (folder / "README.md").read_text()
    assert "`2024-02-03T04:05:00`" in card
    assert "train_chat_template.jinja" in card
    (assignment,) = [line.strip() for line in (folder / "train_trl.py").read_text().splitlines() if "chat_template =" in line]
    tokenizer = AutoTokenizer.from_pretrained(dated_model)
    exec(assignment, {"HERE": folder, "tokenizer": tokenizer})
    user = {"role": "user", "content": "x"}
    assert tokenizer.apply_chat_template([user], tokenize=False).startswith("2024-02-03 04:05\n")
    assert AutoTokenizer.from_pretrained(folder).chat_template == DATED  # users of the model get the present date
    plain = lab.train("dpo", rows, model_folder("llama"), **FEW)
    other = lab.export_run(plain, tmp_path / "plain")
    assert not (other / "train_chat_template.jinja").exists()
    assert "train_chat_template" not in (other / "README.md").read_text()


def test_a_template_time_that_is_no_date_is_refused():
    with pytest.raises(ConfigError, match="'yesterday' is no date or time; write 2026-01-31"):
        TrainConfig.parse(objective="dpo", template_time="yesterday")
    assert TrainConfig.parse(objective="dpo", template_time="2024-02-03").template_time == "2024-02-03T00:00:00"
