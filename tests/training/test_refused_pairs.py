"""Pairs that a chat template refuses: all at once with their lines, or left out on request."""

from __future__ import annotations

import json
import shutil

import pytest
from transformers import AutoTokenizer

import lab
from lab.cli import main
from tests.tokenizers import GEMMA, HERMES

FAST = {"steps": 2, "batch_size": 2, "evaluate": False, "probe_budget": 0, "device": "cpu"}
STRICT = GEMMA.replace("{% for m in messages %}", "{% for m in messages %}{% if m['role'] == 'user' and loop.index0 % 2 %}{{ raise_exception('Roles must alternate') }}{% endif %}", 1)  # fmt: skip  # noqa: E501


def conversation(number, *roles):
    prompt = [{"role": role, "content": f"turn {i} of {number}"} for i, role in enumerate(roles or ("user",))]
    chosen, rejected = ([{"role": "assistant", "content": f"{text} {number}"}] for text in ("Yes", "No"))
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected}


@pytest.fixture
def chat_model(model_folder, tmp_path):
    folder = tmp_path / "chat"
    shutil.copytree(model_folder("llama"), folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)

    def with_template(template):
        tokenizer.chat_template = template
        tokenizer.save_pretrained(folder)
        return folder

    return with_template


@pytest.fixture
def source(tmp_path):
    rows = [conversation(i) for i in range(9)]
    rows[2], rows[5], rows[7] = conversation(2, "user", "user"), conversation(5, "system", "user"), conversation(7, "user", "user")
    path = tmp_path / "pairs.jsonl"
    path.write_text("\n\n".join(map(json.dumps, rows)))  # every second line is empty
    return path


def test_all_refused_pairs_are_listed_with_their_lines(source, chat_model):
    with pytest.raises(ValueError) as caught:
        lab.preflight("dpo", source, chat_model(STRICT), **FAST | {"steps": 9})
    message = str(caught.value)
    assert message.startswith("3 of 9 pairs are refused. Line 5 (")
    assert "line 15 (" in message
    assert "System role not supported" in message
    assert message.count("Roles must alternate") == 1
    assert "Line 11 (" in message
    assert "skip_bad_rows=True (--skip-bad-rows)" in message


def test_they_are_left_out_on_request(source, chat_model, capsys):
    model = chat_model(STRICT)
    run = lab.train("dpo", source, model, skip_bad_rows=True, background=False, **FAST | {"steps": 9})
    assert run.state == "finished"
    assert len(run.events("held_out")["detail"].iloc[-1]["refused"]) == 3
    assert run.events("preflight")["detail"].iloc[-1]["pairs"] == 6
    command = ["train", "--objective", "dpo", "--pairs", str(source), "--model", str(model), "--dry-run", "--skip-bad-rows"]
    assert main([*command, "--evaluate", "false"]) == 0
    assert "3 pairs are left out (skip_bad_rows)" in capsys.readouterr().out


def test_bad_rows_of_the_file_are_left_out_too(source, chat_model):
    source.write_text(source.read_text() + "\n{broken")
    with pytest.raises(lab.pairs.PairsError, match="line 18: this is not valid JSON"):
        lab.train("dpo", source, chat_model(HERMES), **FAST)
    run = lab.train("dpo", source, chat_model(HERMES), skip_bad_rows=True, background=False, **FAST)
    assert run.state == "finished"


def test_a_run_trains_on_tool_calls_and_says_what_a_template_does_not_write(chat_model):
    calls = [{"type": "function", "function": {"name": "water", "arguments": {"pot": 0}}}]
    tools = [{"type": "function", "function": {"name": "water"}}]
    rows = [conversation(i) | {"tools": tools} for i in range(4)]
    done = {"role": "tool", "content": "done"}
    rows[0]["chosen"] = [
        {"role": "assistant", "content": None, "tool_calls": calls},
        done,
        {"role": "assistant", "content": "Wet."},
    ]
    run = lab.train("dpo", rows, chat_model(HERMES), background=False, **FAST)
    assert run.state == "finished"
    with pytest.raises(ValueError, match=r"Every pair .* does not write tools"):
        lab.preflight("dpo", rows, chat_model(GEMMA), **FAST)


def test_split_and_configuration_reach_the_source(tmp_path, model_folder):
    path = tmp_path / "two.json"
    rows = [{"prompt": f"p{i}", "chosen": "a", "rejected": "b"} for i in range(4)]
    path.write_text(json.dumps({"dev": rows[:3], "test": rows}))
    report = lab.preflight("dpo", path, model_folder("llama"), split="dev", **FAST)
    assert report.pairs == 3
    with pytest.raises(lab.pairs.PairsError, match="A configuration belongs to"):
        lab.preflight("dpo", path, model_folder("llama"), split="dev", configuration="x", **FAST)
