"""Incomplete models are refused with the same sentence wherever they are given; complete ones of any kind are loaded."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
import transformers

import lab
from lab.cli import main
from lab.policy import Lora, ModelError, load_policy
from lab.policy.loading import check_model
from lab.policy.sources.weight_loading import read_weights
from tests.helpers import quick_first
from tests.models import multimodal
from tests.policy.bad_models import BAD, config, make_bad, shard, weights

FAST = {"steps": 2, "batch_size": 4, "device": "cpu", "probe_budget": 0, "evaluate": False}
READ_ONLY_WHEN_LOADED = ("NaN", "infinity")
"""What shows only in the numbers, so that a run is made before it is refused."""


def one_sentence(message: str, folder) -> bool:
    return "\n" not in message and str(folder.resolve()) in message and message.endswith(".") and "Traceback" not in message


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_whole_model_is_refused_by_every_way_in_with_one_sentence(name, model_folder, rows, tmp_path, capsys):
    folder = make_bad(tmp_path / "bad", name, model_folder("llama"))
    with pytest.raises(ModelError, match=BAD[name][1]) as dry:
        lab.preflight("dpo", rows, folder, **FAST)
    sentence = str(dry.value)
    assert one_sentence(sentence, folder), sentence
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text("\n".join(map(json.dumps, rows)))
    capsys.readouterr()
    command = ["train", "--objective", "dpo", "--model", str(folder), "--pairs", str(pairs), "--device", "cpu", "--steps", "2"]
    assert main([*command, "--dry-run"]) == 1
    assert capsys.readouterr().err.strip() == f"error: {sentence}"
    if name in READ_ONLY_WHEN_LOADED:
        run = lab.train("dpo", rows, folder, background=False, **FAST)
        assert (run.state, run.error) == ("failed", sentence)
        return
    with pytest.raises(ModelError) as trained:
        lab.train("dpo", rows, folder, background=False, **FAST)
    assert str(trained.value) == sentence
    assert not lab.runs(), "no run is left behind"
    with pytest.raises(ModelError) as loaded:  # the frozen reference, what-if and the trainer's own loading
        load_policy(str(folder), device="cpu")
    assert str(loaded.value) == sentence


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("./nowhere", "There is no folder ./nowhere"),
        ("~/no/such/folder", "There is no folder ~/no/such/folder"),
        ("a/b/c", "There is no folder a/b/c"),
        ("no/such-model", r"There is no folder no/such-model, .*HF_HUB_OFFLINE"),
        ("nowhere.gguf", "There is no folder nowhere.gguf"),
        ("", "No model is named"),
        ("x" * 5000, "cannot be the path of a model"),
        ("a\0b", "There is no folder"),
        ("not an id!", "not an id!"),
    ],
)
def test_what_is_no_place_is_refused(source, sentence, rows):
    with pytest.raises(ValueError, match=sentence) as dry:
        lab.preflight("dpo", rows, source, **FAST)
    with pytest.raises(ValueError) as trained:
        lab.train("dpo", rows, source, background=False, **FAST)
    assert str(dry.value) == str(trained.value)
    assert "\n" not in str(dry.value)
    assert not lab.runs()


def test_a_folder_above_the_model_names_the_one_below(model_folder, tmp_path):
    shutil.copytree(model_folder("llama"), tmp_path / "out" / "checkpoint-20")
    with pytest.raises(ModelError, match=r"holds no model itself .* for example .*checkpoint-20"):
        check_model(str(tmp_path / "out"))
    shutil.copytree(model_folder("llama"), tmp_path / "models--a--b" / "snapshots" / "0123")
    with pytest.raises(ModelError, match="snapshots/0123"):
        check_model(str(tmp_path / "models--a--b"))


@pytest.mark.parametrize(
    "error",
    [
        OSError(5, "Input/output error", "model.safetensors"),
        PermissionError(13, "Permission denied", "model.safetensors"),
        ImportError("no module named fancy"),
        RuntimeError("Error(s) in\nloading"),
        AttributeError("'NoneType' object has no attribute 'x'"),
        Exception("anything"),
        KeyError("weird"),
        IndexError(),
        AssertionError(),
    ],
)
@pytest.mark.parametrize("where", ["AutoModelForCausalLM", "AutoTokenizer", "AutoConfig"])
def test_any_error_of_a_library_becomes_one_sentence(error, where, model_folder, rows, monkeypatch):
    folder = model_folder("llama")

    def fail(*_, **__):
        raise error

    monkeypatch.setattr(getattr(transformers, where), "from_pretrained", fail)
    with pytest.raises(ModelError) as dry:
        lab.preflight("dpo", rows, folder, **FAST)
    assert one_sentence(str(dry.value), folder)
    with pytest.raises(ModelError) as trained:
        lab.train("dpo", rows, folder, background=False, **FAST)
    assert str(dry.value) == str(trained.value)
    if isinstance(error, PermissionError):
        assert "change the permissions" in str(dry.value)


def test_memory_that_runs_out_while_a_model_loads_keeps_its_own_advice(model_folder, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")

    monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", fail)
    with pytest.raises(RuntimeError, match="can't allocate memory"):
        load_policy(str(model_folder("llama")), device="cpu")


ATTENTION = ["flash_attention_2", "flash_attention_3", "flex_attention", "kernels-community/flash-attn2", "paged|sdpa", "nonsense"]


@pytest.mark.parametrize("entry", ["attn_implementation", "_attn_implementation"])
@pytest.mark.parametrize("name", ATTENTION)
def test_an_attention_that_is_not_here_is_overridden(entry, name, model_folder, tmp_path):
    shutil.copytree(model_folder("llama"), tmp_path / "model")
    config(tmp_path / "model", **{entry: name})
    check_model(str(tmp_path / "model"))
    own, plain = (load_policy(str(f), device="cpu") for f in (tmp_path / "model", model_folder("llama")))
    row = torch.arange(8)[None]
    with torch.no_grad(), own.as_loaded(), plain.as_loaded():
        assert torch.equal(own.model(row).logits, plain.model(row).logits)


def test_shards_tied_weights_and_old_buffers_are_whole(model_folder, tmp_path):
    shutil.copytree(model_folder("llama"), tmp_path / "shards")
    shard(tmp_path / "shards")
    old = tmp_path / "old"
    shutil.copytree(model_folder("llama"), old)
    weights(old, lambda t: t | {f"model.layers.{i}.self_attn.rotary_emb.inv_freq": torch.ones(4) for i in range(2)})
    bare = tmp_path / "bare"
    shutil.copytree(model_folder("gpt2"), bare)
    transformers.AutoModel.from_pretrained(bare).save_pretrained(bare)  # tied: the body holds all there is, as hub's gpt2
    plain = load_policy(str(model_folder("llama")), device="cpu").fingerprint
    for folder in (tmp_path / "shards", old):
        check_model(str(folder))
        assert load_policy(str(folder), device="cpu").fingerprint == plain
    check_model(str(bare))
    ours, expected = load_policy(str(bare), device="cpu"), load_policy(str(model_folder("gpt2")), device="cpu")
    for name, value in expected.model.state_dict().items():
        assert torch.equal(ours.model.state_dict()[name], value), name


def test_a_weight_that_an_architecture_calls_dispensable_is_still_missed(model_folder, tmp_path, monkeypatch):
    """transformers leaves names out of its report where a class lists them, and draws those weights in silence."""
    folder = tmp_path / "model"
    shutil.copytree(model_folder("llama"), folder)
    weights(folder, lambda t: {k: v for k, v in t.items() if k != "lm_head.weight"})
    monkeypatch.setattr(transformers.LlamaForCausalLM, "_keys_to_ignore_on_load_missing", [r"lm_head"])
    with pytest.raises(ModelError, match=r"lm_head\.weight is missing"):
        check_model(str(folder))
    with pytest.raises(ModelError, match=r"lm_head\.weight is missing"):
        read_weights(transformers.AutoModelForCausalLM, str(folder), None)


@pytest.mark.parametrize("keeps", [False, True])
def test_numbers_drawn_while_a_model_loads_matter_where_they_stay(keeps, model_folder, monkeypatch):
    """Mamba draws an initial step size although the file has it; what is drawn and kept would be another model each time."""
    whole = transformers.AutoModelForCausalLM.from_pretrained

    def draws(*given, **more):
        model, report = whole(*given, **more)
        with torch.no_grad():
            noise = torch.randn(32)
            if keeps:
                model.model.norm.weight.copy_(noise)
        return model, report

    monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", draws)
    if keeps:
        with pytest.raises(ModelError, match=r"model\.norm\.weight\) are drawn at random"):
            load_policy(str(model_folder("llama")), device="cpu")
    else:
        load_policy(str(model_folder("llama")), device="cpu")


def test_nothing_of_a_whole_model_depends_on_the_seed(model_folder):
    one, other = (load_policy(str(model_folder("llama")), device="cpu", seed=seed) for seed in (0, 1))
    assert one.fingerprint == other.fingerprint


GENERATION = [
    "[]",
    "null",
    "{",
    '{"eos_token_id": "x"}',
    '{"eos_token_id": 1.5}',
    '{"eos_token_id": [[1]], "pad_token_id": 1}',
    '{"pad_token_id": [1], "eos_token_id": 1}',
    '{"max_new_tokens": -5}',
    '{"watermarking_config": 5}',
    '{"cache_implementation": "quantum"}',
]


@pytest.mark.parametrize("content", GENERATION)
def test_no_generation_config_is_a_reason_to_refuse_a_model(content, model_folder, tmp_path):
    folder = shutil.copytree(model_folder("llama"), tmp_path / "model")
    (folder / "generation_config.json").write_text(content)
    config(folder, return_dict=False, output_attentions=True)  # nor these
    check_model(str(folder))
    policy = load_policy(str(folder), device="cpu")
    assert policy.encoder()("Do I?", "Yes.").answer[-1] == 1
    policy.save(tmp_path / "saved")
    assert load_policy(str(tmp_path / "saved"), device="cpu").fingerprint == policy.fingerprint


def test_a_model_with_too_few_positions_is_refused(model_folder, rows, tmp_path):
    folder = shutil.copytree(model_folder("llama"), tmp_path / "model")
    config(folder, max_position_embeddings=8)
    with pytest.raises(ModelError, match="has 8 positions"):
        lab.preflight("dpo", rows, folder, **FAST)


def test_loading_prints_nothing(model_folder, capfd):
    load_policy(str(model_folder("llama")), device="cpu")
    assert capfd.readouterr() == ("", "")


def test_checkpoints_are_checked_too(model_folder, rows, tmp_path):
    """A branch, a what-if and a resumed run take no weight that a checkpoint does not hold."""
    from safetensors.torch import load_file, save_file

    for rank, name in ((0, "model.safetensors"), (2, "adapter_model.safetensors")):
        run = lab.train("dpo", rows, model_folder("llama"), background=False, lora_rank=rank, **FAST)
        file = run.checkpoints()[-1] / name
        tensors = load_file(file)
        first = min(tensors)
        save_file({("x" + k[1:] if k == first else k): v for k, v in tensors.items()}, file, metadata={"format": "pt"})
        facts = json.loads((file.parent / "trainer.json").read_text())
        facts["files"][name] = file.stat().st_size
        (file.parent / "trainer.json").write_text(json.dumps(facts))
        branch = lab.train(branch_from=run, steps=4, background=False)
        assert branch.state == "failed"
        assert first in branch.error
        assert "is damaged" in branch.error


@pytest.mark.parametrize(
    ("targets", "sentence"),
    [
        ("", "lora_targets is empty"),
        (" , ", "lora_targets is empty"),
        ("q_projection", "no module of that name; choose from .*q_proj"),
        ("q_proj,nonsense", "names 'nonsense'"),
        ("embed_tokens", "names 'embed_tokens', which is no linear layer but an Embedding"),
        ("embed_tokens,lm_head", "names 'embed_tokens'"),
        ("norm", "LlamaRMSNorm"),
        ("mlp", "LlamaMLP"),
    ],
)
@pytest.mark.parametrize("tied", [False, True])
def test_targets_of_an_adapter_are_refused_by_name(targets, sentence, tied, model_folder, rows, tmp_path):
    folder = model_folder("llama")
    if tied:
        folder = tmp_path / "tied"
        model = transformers.AutoModelForCausalLM.from_pretrained(model_folder("llama"))
        model.config.tie_word_embeddings = True
        model.tie_weights()
        model.save_pretrained(folder)
        transformers.AutoTokenizer.from_pretrained(model_folder("llama")).save_pretrained(folder)
    given = FAST | {"lora_rank": 2, "lora_targets": targets}
    with pytest.raises(ValueError, match=sentence) as dry:
        lab.preflight("dpo", rows, folder, **given)
    with pytest.raises(ValueError) as trained:
        lab.train("dpo", rows, folder, background=False, **given)
    assert str(dry.value) == str(trained.value)
    assert not lab.runs()


@pytest.mark.parametrize("targets", quick_first("q_proj, v_proj", "lm_head", "layers.0.mlp.up_proj", "All-Linear"))
def test_targets_that_are_linear_work(targets, model_folder, rows):
    given = FAST | {"lora_rank": 2, "lora_targets": targets, "background": False}
    run = lab.train("dpo", rows, model_folder("llama"), **given)
    assert run.state == "finished", run.error
    again = lab.train(branch_from=run, steps=3, background=False)
    assert again.state == "finished", again.error


def test_a_multimodal_model_gets_adapters_in_its_language_layers_only(rows, tmp_path):
    multimodal(tmp_path / "gemma")
    check_model(str(tmp_path / "gemma"), lora=Lora(2))
    policy = load_policy(str(tmp_path / "gemma"), device="cpu", lora=Lora(2))
    policy.model(torch.arange(2, 12)[None]).logits.square().mean().backward()
    names = policy.parameters()
    assert names
    for name, parameter in names.items():
        assert "vision" not in name
        assert "projector" not in name
        if "lora_B" in name:
            assert parameter.grad is not None, name
            assert bool(parameter.grad.any()), name
    assert len(names) == 2 * 2 * 7
    run = lab.train("dpo", rows, tmp_path / "gemma", background=False, lora_rank=2, **FAST)
    assert run.state == "finished", run.error


def test_experts_that_no_token_is_sent_to_keep_their_adapters():
    """Which experts eight tokens reach says nothing about which a run will reach."""
    from torch import nn

    from lab.policy.sources.adapters import unused_parts

    class Router(nn.Linear):
        def forward(self, states):
            return super().forward(states), 1

    class Routed(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = nn.Embedding(9, 4)
            self.experts = nn.ModuleList(nn.Sequential(nn.Linear(4, 4)) for _ in range(3))
            self.router = Router(4, 3)
            self.tower = nn.Sequential(nn.Linear(4, 4), nn.ModuleList([nn.Linear(4, 4)]))
            self.parts = nn.ModuleDict({"used": nn.Linear(4, 4), "heads": nn.ModuleList([nn.Linear(4, 4)])})

        def get_input_embeddings(self):
            return self.embedding

        def forward(self, input_ids, attention_mask, use_cache=False):
            states = self.embedding(input_ids)
            self.router(states)
            return self.parts["used"](self.experts[1](states))

    assert unused_parts(Routed()) == ["parts.heads.*", "router", "tower.*", "tower.*.*"]
