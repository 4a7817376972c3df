"""What is exported loads without the lab, and gives the log-probs that the checkpoint gives."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch
from peft import AutoPeftModelForCausalLM
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoTokenizer

import lab
from lab.cli import main
from lab.export import ExportError, find_source, writing
from lab.store import RunError
from tests.models import load_trained

pytestmark = pytest.mark.extended


def logps(model, tokenizer, rows):
    found = lab.token_logps(model, tokenizer, rows[:6])
    return torch.cat([found.chosen.sum(-1), found.rejected.sum(-1)])


def expected(checkpoint, rows):
    policy = load_trained(checkpoint)
    return logps(policy.model, policy.tokenizer, rows)


def loaded(kind, folder, rows, **how):
    return logps(kind.from_pretrained(folder, **how), AutoTokenizer.from_pretrained(folder), rows)


@pytest.mark.parametrize("shape", ["gpt2", "gemma2"])
def test_adapter_and_merged_model(shape, trained, model_folder, rows, tmp_path):
    run = trained(model=model_folder(shape), lora_rank=2)
    should = expected(run.checkpoints()[-1], rows)
    untrained = logps(
        AutoModelForCausalLM.from_pretrained(model_folder(shape)), AutoTokenizer.from_pretrained(model_folder(shape)), rows
    )
    assert (should - untrained).abs().max() > 0.1, "four steps must have moved something"
    adapter = lab.export_run(run, tmp_path / "out" / "adapter")
    assert adapter == tmp_path / "out" / "adapter"
    assert {path.name for path in adapter.iterdir()} >= {"README.md", "adapter_config.json", "adapter_model.safetensors"}
    assert not list(adapter.glob("trainer*"))
    torch.testing.assert_close(loaded(AutoPeftModelForCausalLM, adapter, rows), should, rtol=0, atol=1e-4)
    torch.testing.assert_close(loaded(AutoModelForCausalLM, adapter, rows), should, rtol=0, atol=1e-4)
    merged = lab.export_run(run, tmp_path / "merged", what="merged")
    assert not (merged / "adapter_config.json").exists()
    torch.testing.assert_close(loaded(AutoModelForCausalLM, merged, rows), should, rtol=0, atol=1e-3)


def test_whole_model(trained, rows, tmp_path):
    run = trained("simpo")
    folder = lab.export_run(run, tmp_path / "model")
    assert torch.equal(loaded(AutoModelForCausalLM, folder, rows), expected(run.checkpoints()[-1], rows))
    assert not list(folder.glob("trainer*"))


LOAD_ALONE = """
import json, sys, torch
from peft import AutoPeftModelForCausalLM
from transformers import AutoModelForCausalLM, AutoTokenizer
adapter, merged, prompt, answer = sys.argv[1:]
found = []
for kind, folder in ((AutoPeftModelForCausalLM, adapter), (AutoModelForCausalLM, merged)):
    tokenizer, model = AutoTokenizer.from_pretrained(folder), kind.from_pretrained(folder).eval()
    ids = [tokenizer.bos_token_id] + tokenizer(prompt, add_special_tokens=False)["input_ids"]
    rest = tokenizer(answer, add_special_tokens=False)["input_ids"] + [tokenizer.eos_token_id]
    with torch.no_grad():
        lines = model(input_ids=torch.tensor([ids + rest])).logits[0, len(ids) - 1 : -1].float().log_softmax(-1)
    found.append(float(lines.gather(1, torch.tensor(rest)[:, None]).sum()))
print(json.dumps({"found": found, "lab": "lab" in sys.modules}))
"""


def test_a_fresh_process_without_the_lab_finds_the_same_log_probs(trained, chat_model, rows, tmp_path):
    run = trained("sgdpo", model=chat_model, lora_rank=2)
    folders = [lab.export_run(run, tmp_path / "adapter"), lab.export_run(run, tmp_path / "merged", what="merged")]
    command = [sys.executable, "-c", LOAD_ALONE, *map(str, folders), rows[0]["prompt"], rows[0]["chosen"]]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=120)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    should = float(expected(run.checkpoints()[-1], rows)[0])
    assert said == {"found": [pytest.approx(should, abs=1e-3)] * 2, "lab": False}


def test_chat_template_and_generation_config_come_along(trained, chat_model, tmp_path):
    messages = [{"role": "user", "content": "Hello"}]
    part, whole = trained(model=chat_model, lora_rank=2), trained(model=chat_model)
    for run, what in ((part, "merged"), (part, "adapter"), (whole, "model")):
        folder = lab.export_run(run, tmp_path / what, what=what)
        tokenizer = AutoTokenizer.from_pretrained(folder)
        assert tokenizer.apply_chat_template(messages, tokenize=False) == "[user] Hello</s>"
        assert tokenizer("x")["input_ids"][0] == tokenizer.bos_token_id
        if what != "adapter":
            assert AutoModelForCausalLM.from_pretrained(folder).generation_config.max_new_tokens == 7


def test_an_adapter_on_a_tied_output_layer_is_not_merged_into_the_embedding(trained, model_folder, rows, tmp_path):
    config = json.loads((model_folder("llama") / "config.json").read_text())
    model = AutoModelForCausalLM.from_pretrained(model_folder("llama"))
    model.config.tie_word_embeddings = config["tie_word_embeddings"] = True
    model.tie_weights()
    model.save_pretrained(tmp_path / "tied")
    AutoTokenizer.from_pretrained(model_folder("llama")).save_pretrained(tmp_path / "tied")
    run = trained(model=tmp_path / "tied", lora_rank=2, lora_targets="q_proj,lm_head")
    should = loaded(AutoPeftModelForCausalLM, lab.export_run(run, tmp_path / "adapter"), rows)
    merged = lab.export_run(run, tmp_path / "merged", what="merged")
    torch.testing.assert_close(loaded(AutoModelForCausalLM, merged, rows), should, rtol=0, atol=1e-3)


def test_weights_in_bfloat16(trained, tmp_path, rows):
    from safetensors.torch import load_file

    part, whole = trained(lora_rank=2), trained()
    for run, what, kind in (
        (part, "adapter", AutoPeftModelForCausalLM),
        (part, "merged", AutoModelForCausalLM),
        (whole, "model", AutoModelForCausalLM),
    ):
        folder = lab.export_run(run, tmp_path / what, what=what, dtype="bfloat16")
        (weights,) = folder.glob("*.safetensors")
        assert {tensor.dtype for tensor in load_file(weights).values()} == {torch.bfloat16}
        near = loaded(kind, folder, rows, dtype=torch.float32)
        torch.testing.assert_close(near, expected(run.checkpoints()[-1], rows), rtol=0.05, atol=1)


def test_the_checkpoint_that_is_asked_for(trained, rows, tmp_path, monkeypatch):
    run = trained()
    first, last = run.checkpoints()
    assert find_source(run).folder == last
    monkeypatch.setattr(type(run), "best_checkpoint", lambda self: first, raising=False)
    assert find_source(run).folder == first
    assert torch.equal(loaded(AutoModelForCausalLM, lab.export_run(run, tmp_path / "two", step=2), rows), expected(first, rows))
    assert "Checkpoint of step 2 of 4" in (tmp_path / "two" / "README.md").read_text()
    with pytest.raises(ExportError, match="no checkpoint of step 3; the nearest is that of step 2"):
        lab.export_run(run, tmp_path / "three", step=3)


def test_what_cannot_be_exported_is_said_and_nothing_is_written(trained, tmp_path, model_folder, rows):
    whole, part = trained(), trained(lora_rank=2)
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "mine.txt").write_text("mine")
    for run, folder, how, sentence in (
        (whole, taken, {}, "is not empty"),
        (whole, taken / "mine.txt", {}, "is not a folder"),
        (whole, tmp_path / "x", {"what": "adapter"}, "trained the whole model"),
        (part, tmp_path / "x", {"what": "model"}, "trained an adapter"),
        (part, tmp_path / "x", {"what": "everything"}, "no export of 'everything'"),
        (part, tmp_path / "x", {"dtype": "float16"}, "cannot be written as float16"),
        (whole, taken / "mine.txt" / "below", {}, "cannot be written"),
    ):
        with pytest.raises(RunError, match=sentence) as raised:
            lab.export_run(run, folder, **how)
        assert "\n" not in str(raised.value)
    assert (taken / "mine.txt").read_text() == "mine"
    assert not (tmp_path / "x").exists()
    assert not list(tmp_path.glob(".*.draft"))


@pytest.mark.parametrize("error", [SafetensorError("I/O error: No space left\non device"), OSError(28, "No space left on device")])
def test_a_full_disk_leaves_nothing_behind(error, trained, tmp_path, monkeypatch):
    def full(source, folder, dtype):
        (folder / "model.safetensors").write_bytes(b"half")
        raise error

    monkeypatch.setitem(writing.KINDS, "model", ("the whole model", full))
    with pytest.raises(ExportError, match=r"cannot be written \(.*No space left on device"):
        lab.export_run(trained(), tmp_path / "out" / "model")
    assert not list((tmp_path / "out").iterdir())


def test_an_empty_folder_may_be_filled(trained, tmp_path):
    (tmp_path / "empty").mkdir()
    assert (lab.export_run(trained(), tmp_path / "empty") / "model.safetensors").exists()


def test_a_base_that_is_gone_or_broken(trained, chat_model, tmp_path):
    part, whole = trained(model=chat_model, lora_rank=2), trained(model=chat_model)
    (chat_model / "model.safetensors").write_bytes(b"rubbish")
    with pytest.raises(ExportError, match="cannot be loaded, so nothing was exported"):
        lab.export_run(part, tmp_path / "merged", what="merged")
    chat_model.rename(tmp_path / "elsewhere")
    with pytest.raises(ExportError, match="restore it and export again"):
        lab.export_run(part, tmp_path / "adapter")
    assert (lab.export_run(whole, tmp_path / "whole") / "README.md").exists(), "a whole model needs no base"
    assert not (tmp_path / "adapter").exists()


def test_a_run_without_a_checkpoint(trained, tmp_path):
    import shutil

    run = trained()
    shutil.rmtree(run.dir / "checkpoints")
    with pytest.raises(ExportError, match="no checkpoint yet"):
        lab.export_run(run, tmp_path / "out")


def test_the_command_line(trained, tmp_path, capsys):
    run = trained(lora_rank=2)
    assert main(["export", run.dir.name, str(tmp_path / "merged"), "--merged", "--step", "2", "--dtype", "bfloat16"]) == 0
    out = capsys.readouterr()
    assert out.out.strip() == str(tmp_path / "merged")
    assert "step 2" in out.err
    assert main(["export", run.dir.name, str(tmp_path / "adapter"), "--trl"]) == 0
    assert (tmp_path / "adapter" / "train_trl.py").exists()
    capsys.readouterr()
    assert main(["export", run.dir.name, str(tmp_path / "adapter")]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert len(error.strip().splitlines()) == 1
    with pytest.raises(SystemExit) as end:
        main(["export", "--help"])
    assert end.value.code == 0
