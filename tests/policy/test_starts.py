"""Runs that start from an adapter or a GGUF file, which is converted once."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import peft
import pytest
import torch
import transformers
from peft import LoraConfig, get_peft_model

import lab
import lab.export.weights
from lab.cli import main
from lab.policy import ModelError, load_policy
from lab.policy.checks.arbitrary_row import arbitrary_logps
from lab.policy.loading import check_model
from lab.policy.sources import converted
from lab.policy.sources.converted import loadable, models_dir
from lab.whatif import examine, free
from lab.whatif.tokenizer import tokenizer_of
from tests.models import load_trained

pytestmark = pytest.mark.extended

FAST = {"steps": 4, "batch_size": 4, "learning_rate": 1e-2, "save_every": 2, "device": "cpu", "probe_budget": 0, "evaluate": False}
ADAPTERS = {
    "lora": {},
    "dora": {"use_dora": True},
    "on the output layer": {"target_modules": ["q_proj", "lm_head"]},
    "on the embedding": {"target_modules": ["embed_tokens"]},
    "with a whole output layer": {"modules_to_save": ["lm_head"]},
    "rank stabilized": {"use_rslora": True},
}


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    """A cache in which nothing was converted yet."""
    monkeypatch.setenv("LAB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def make_adapter(base: Path, folder: Path, seed: int = 1, **settings) -> Path:
    """A random adapter that moves the model, saved by peft."""
    torch.manual_seed(seed)
    how = {"r": 2, "target_modules": "all-linear", "task_type": "CAUSAL_LM", "init_lora_weights": False} | settings
    model = get_peft_model(transformers.AutoModelForCausalLM.from_pretrained(base), LoraConfig(**how))
    model.save_pretrained(folder)
    return folder


@pytest.fixture
def adapter(model_folder, tmp_path, own_cache) -> Path:
    return make_adapter(model_folder("llama"), tmp_path / "adapter")


def tied(model_folder, folder: Path) -> Path:
    model = transformers.AutoModelForCausalLM.from_pretrained(model_folder("llama"))
    model.config.tie_word_embeddings = True
    model.tie_weights()
    model.save_pretrained(folder)
    transformers.AutoTokenizer.from_pretrained(model_folder("llama")).save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    ("kind", "ties"),
    [
        pytest.param(kind, ties, marks=pytest.mark.slow if ties and "layer" not in kind and "embedding" not in kind else ())
        for kind in ADAPTERS
        for ties in (False, True)
    ],
)
def test_the_start_is_base_and_adapter(kind, ties, model_folder, tmp_path, own_cache):
    base = tied(model_folder, tmp_path / "base") if ties else model_folder("llama")
    folder = make_adapter(base, tmp_path / "adapter", **ADAPTERS[kind])
    check_model(str(folder))
    expected = arbitrary_logps(peft.AutoPeftModelForCausalLM.from_pretrained(folder))
    assert (arbitrary_logps(transformers.AutoModelForCausalLM.from_pretrained(base)) - expected).abs().max() > 0.01
    policy = load_policy(str(folder), device="cpu")
    torch.testing.assert_close(arbitrary_logps(policy.model), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("rank", [pytest.param(0, marks=pytest.mark.slow), 2])
def test_a_run_from_an_adapter_goes_all_the_way(rank, adapter, rows, tmp_path, own_cache):
    start = arbitrary_logps(peft.AutoPeftModelForCausalLM.from_pretrained(adapter))
    lab.preflight("dpo", rows, adapter, lora_rank=rank, **FAST)
    stopped = lambda step, _: lab.open_run(tmp_path / "run").stop() if step == 2 else None  # noqa: E731
    given = FAST | {"lora_rank": rank, "run_dir": tmp_path / "run"}
    run = lab.train("dpo", rows, adapter, on_step=stopped, background=False, **given)
    assert run.state == "stopped", run.error
    assert run.scalars(["loss"])["loss"].iloc[0] == pytest.approx(0.6931, abs=1e-4), "the reference is the merged model"
    run = lab.train(run_dir=run.dir, resume=True, background=False)
    assert run.state == "finished", run.error
    branch = lab.train(branch_from=run, at=2, steps=5, background=False)
    assert branch.state == "finished", branch.error
    torch.testing.assert_close(arbitrary_logps(examine(run, 0).policy.model), start, rtol=0, atol=1e-4)
    end = arbitrary_logps(examine(run).policy.model)
    assert (end - start).abs().max() > 0.01
    assert len(tokenizer_of(run)) > 200
    torch.testing.assert_close(arbitrary_logps(load_trained(run.checkpoints()[-1]).model), end, rtol=0, atol=1e-4)
    kinds = {"adapter": peft.AutoPeftModelForCausalLM, "merged": transformers.AutoModelForCausalLM} if rank else {}
    for what, kind in (kinds or {"model": transformers.AutoModelForCausalLM}).items():
        out = lab.export_run(run, tmp_path / "out" / what, what=what, trl_script=True)
        card = (out / "README.md").read_text()
        assert "The run began with the folder `adapter`, converted to a model in float32" in card
        assert ("the folder `base_model` next to this file" in card) == (what == "adapter")
        free()
        shutil.rmtree(own_cache)  # what is exported needs neither the lab nor its cache
        torch.testing.assert_close(arbitrary_logps(kind.from_pretrained(out)), end, rtol=0, atol=1e-3)
        compile((out / "train_trl.py").read_text(), "train_trl.py", "exec")


@pytest.mark.slow
def test_a_checkpoint_of_the_lab_and_an_export_are_starts_like_any_other(adapter, rows, tmp_path):
    """Adapters on adapters: a run's checkpoint as the model of the next."""
    first = lab.train("dpo", rows, adapter, background=False, lora_rank=2, **FAST)
    end = arbitrary_logps(examine(first).policy.model)
    for place in (first.checkpoints()[-1], lab.export_run(first, tmp_path / "out")):
        policy = load_policy(str(place), device="cpu")
        torch.testing.assert_close(arbitrary_logps(policy.model), end, rtol=0, atol=1e-4)
    second = lab.train("dpo", rows, first.checkpoints()[-1], background=False, lora_rank=2, **FAST | {"steps": 1})
    assert second.state == "finished", second.error


def test_an_adapter_whose_base_is_an_adapter(adapter, tmp_path):
    on_top = make_adapter(Path(loadable(str(adapter))), tmp_path / "second", seed=2)
    config = json.loads((on_top / "adapter_config.json").read_text())
    expected = arbitrary_logps(peft.AutoPeftModelForCausalLM.from_pretrained(on_top))
    (on_top / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": str(adapter)}))
    torch.testing.assert_close(arbitrary_logps(load_policy(str(on_top), device="cpu").model), expected, rtol=0, atol=1e-4)
    (adapter / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": str(on_top)}))
    with pytest.raises(ModelError, match="have each other as base model"):
        load_policy(str(on_top), device="cpu")


def test_a_start_is_converted_once_and_by_content(adapter, model_folder, tmp_path, monkeypatch):
    first = loadable(str(adapter))
    copied = shutil.copytree(adapter, tmp_path / "copy")
    with monkeypatch.context() as within:
        within.setattr(converted, "_merge", None)  # would fail
        assert loadable(str(adapter)) == loadable(str(copied)) == first
    make_adapter(model_folder("llama"), adapter, seed=9)
    assert loadable(str(adapter)) != first
    assert not [p for p in models_dir().iterdir() if p.name.endswith(".draft")]


def test_a_merge_that_is_a_thousandth_of_a_nat_off_is_refused(adapter, rows, tmp_path, monkeypatch):
    """Rounding explains 1e-4 at most, in a conversion as in an export."""

    def spoil(base):
        base.get_output_embeddings().weight.data.mul_(1.001)

    run = lab.train("dpo", rows, model_of(adapter), background=False, lora_rank=2, **FAST)
    with monkeypatch.context() as within:
        within.setattr(lab.export.weights, "untie", spoil)
        with pytest.raises(lab.RunError, match=r"differs from model and adapter by 0\.00\d+ nats, more than rounding explains"):
            lab.export_run(run, tmp_path / "out", what="merged")
        within.setattr(converted, "untie", spoil)
        with pytest.raises(ModelError, match=r"the result differs from it by 0\.00\d+ nats"):
            loadable(str(adapter))
    assert lab.export_run(run, tmp_path / "out", what="merged")


def model_of(adapter: Path) -> str:
    return json.loads((adapter / "adapter_config.json").read_text())["base_model_name_or_path"]


def test_a_start_that_changed_is_not_what_a_run_goes_on_with(adapter, model_folder, rows, tmp_path):
    run = lab.train("dpo", rows, adapter, background=False, lora_rank=2, **FAST)
    make_adapter(model_folder("llama"), adapter, seed=9)
    branch = lab.train(branch_from=run, steps=6, background=False)
    assert branch.state == "failed"
    assert "has changed since" in branch.error
    shutil.rmtree(models_dir())
    with pytest.raises(lab.RunError, match="has changed since this run began with it"):
        lab.export_run(run, tmp_path / "out")


def without_base(folder: Path) -> None:
    content = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps(content | {"base_model_name_or_path": None}))


def based_on(name: str):
    def damage(folder: Path) -> None:
        content = json.loads((folder / "adapter_config.json").read_text())
        (folder / "adapter_config.json").write_text(json.dumps(content | {"base_model_name_or_path": name}))

    return damage


def entry(**entries):
    def damage(folder: Path) -> None:
        content = json.loads((folder / "adapter_config.json").read_text())
        (folder / "adapter_config.json").write_text(json.dumps(content | entries))

    return damage


def tensors(change):
    def damage(folder: Path) -> None:
        from safetensors.torch import load_file, save_file

        file = folder / "adapter_model.safetensors"
        save_file(change(load_file(file)), file)

    return damage


BAD_ADAPTERS = {
    "no base": (without_base, "does not name its base model"),
    "a base that is gone": (based_on("/no/such/folder"), "belongs to the base model /no/such/folder, which is not there"),
    "a base of the hub": (based_on("meta/llama-9"), r"base model meta/llama-9, which is not there.*HF_HUB_OFFLINE"),
    "no weights": (lambda f: (f / "adapter_model.safetensors").unlink(), "adapter_model.safetensors is missing"),
    "pickled": (lambda f: (f / "adapter_model.safetensors").rename(f / "adapter_model.bin"), r"a pickle \(adapter_model.bin\)"),
    "half of it": (
        lambda f: (f / "adapter_model.safetensors").write_bytes((f / "adapter_model.safetensors").read_bytes()[:3000]),
        "the download did not finish",
    ),
    "half a configuration": (lambda f: (f / "adapter_config.json").write_text("{"), "is no valid JSON"),
    "a classifier's": (entry(task_type="SEQ_CLS"), "was trained for SEQ_CLS"),
    "of an unknown kind": (entry(peft_type="QUANTUM"), "cannot be loaded"),
    "without a kind": (entry(peft_type=None), "cannot be loaded"),
    "another rank": (entry(r=4), "cannot be loaded"),
    "fewer layers": (
        tensors(lambda t: {k: v for k, v in t.items() if "layers.1." not in k}),
        "is missing in its file",
    ),
    "other layers": (
        tensors(lambda t: t | {k.replace("layers.1.", "layers.7."): v.clone() for k, v in t.items() if "layers.1." in k}),
        "fits no layer of its base model",
    ),
    "NaN": (tensors(lambda t: {k: v * float("nan") for k, v in t.items()}), "not finite"),
    "a model beside it": (lambda f: (f / "model.safetensors").write_bytes(b""), "holds both an adapter .* and a whole model"),
}
SEEN_WHEN_MERGED = ("of an unknown kind", "without a kind", "another rank", "fewer layers", "other layers", "NaN")
SLOW_BAD = ("without a kind", "another rank", "other layers")  # refused by the same checks as cases beside them


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow if name in SLOW_BAD else ()) for name in BAD_ADAPTERS])
def test_adapters_that_do_not_work_are_refused_in_one_sentence(name, adapter, rows, tmp_path, capsys):
    BAD_ADAPTERS[name][0](adapter)
    with pytest.raises(ModelError, match=BAD_ADAPTERS[name][1]) as dry:
        lab.preflight("dpo", rows, adapter, **FAST)
    sentence = str(dry.value)
    assert "\n" not in sentence
    assert str(adapter) in sentence
    if name in SEEN_WHEN_MERGED:
        run = lab.train("dpo", rows, adapter, background=False, **FAST)
        assert (run.state, run.error) == ("failed", sentence)
        return
    with pytest.raises(ModelError) as trained:
        lab.train("dpo", rows, adapter, background=False, **FAST)
    assert str(trained.value) == sentence
    assert not lab.runs()


def test_an_adapter_that_cannot_be_merged_is_refused_by_its_kind(model_folder, rows, tmp_path, own_cache):
    model = transformers.AutoModelForCausalLM.from_pretrained(model_folder("llama"))
    prompts = peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4)
    get_peft_model(model, prompts).save_pretrained(tmp_path / "prompts")
    with pytest.raises(ModelError, match="of the type PROMPT_TUNING, which cannot be merged"):
        lab.preflight("dpo", rows, tmp_path / "prompts", **FAST)


def test_an_adapter_of_the_hub_is_refused_in_one_sentence(rows, tmp_path, monkeypatch):
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda source, name: str(tmp_path / name))
    for refuse in (lab.preflight, lambda *given, **more: lab.train(*given, background=False, **more)):
        with pytest.raises(ModelError, match=r"The model owner/adapter on the hub is an adapter .*; download it .* that folder\.$"):
            refuse("dpo", rows, "owner/adapter", **FAST)
    assert not lab.runs()


def test_a_start_from_an_adapter_on_a_model_of_the_hub(adapter, model_folder, rows, monkeypatch):
    """The base is fetched when the model is loaded, and not by the checks before."""
    import huggingface_hub

    fetched = []

    def fetch(name, local_files_only=False, **_):
        if local_files_only and not fetched:
            raise OSError("not here yet")
        fetched.append(name)
        return str(model_folder("llama"))

    based_on("owner/base")(adapter)
    expected = arbitrary_logps(load_policy(str(model_folder("llama")), device="cpu").model)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    assert converted.check_source(str(adapter)) == "owner/base"
    assert fetched == []
    policy = load_policy(str(adapter), device="cpu")
    assert set(fetched) == {"owner/base"}
    assert (arbitrary_logps(policy.model) - expected).abs().max() > 1e-3


def test_a_relative_base_is_looked_for_beside_the_adapter(model_folder, tmp_path, own_cache, monkeypatch):
    shutil.copytree(model_folder("llama"), tmp_path / "place" / "base")
    monkeypatch.chdir(tmp_path / "place")
    make_adapter(Path("base"), tmp_path / "place" / "adapter")
    assert json.loads((tmp_path / "place" / "adapter" / "adapter_config.json").read_text())["base_model_name_or_path"] == "base"
    check_model("adapter")
    based_on("../base")(tmp_path / "place" / "adapter")
    monkeypatch.chdir(tmp_path)
    check_model(str(tmp_path / "place" / "adapter"))


# GGUF.


def make_gguf(file: Path, model: Path, **fields) -> Path:
    """A tiny llama with its tokenizer in the format of llama.cpp; fields: entries to replace."""
    gguf = pytest.importorskip("gguf")
    network = transformers.AutoModelForCausalLM.from_pretrained(model)
    message = json.loads((model / "tokenizer.json").read_text())
    config = network.config
    heads, kv = config.num_attention_heads, config.num_key_value_heads
    writer = gguf.GGUFWriter(str(file), fields.get("architecture", "llama"))
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(float(config.rope_parameters["rope_theta"]))
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("gpt2")
    vocabulary = sorted(message["model"]["vocab"].items(), key=lambda item: item[1])
    writer.add_token_list([token for token, _ in vocabulary])
    writer.add_token_types([3 if token in ("<s>", "</s>") else 1 for token, _ in vocabulary])
    writer.add_token_merges([merge if isinstance(merge, str) else " ".join(merge) for merge in message["model"]["merges"]])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    for name, tensor in network.state_dict().items():
        data = tensor.float()
        if name.endswith(("q_proj.weight", "k_proj.weight")):  # llama.cpp pairs the halves of a rotation
            count = heads if "q_proj" in name else kv
            data = data.reshape(count, 2, data.shape[0] // count // 2, *data.shape[1:]).swapaxes(1, 2).reshape(data.shape)
        writer.add_tensor(names.get_name(name, try_suffixes=(".weight",)), data.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def test_a_start_from_gguf_is_the_model_in_the_file(model_folder, tmp_path, own_cache):
    file = make_gguf(tmp_path / "tiny.gguf", model_folder("llama"))
    should = arbitrary_logps(transformers.AutoModelForCausalLM.from_pretrained(model_folder("llama")))
    torch.testing.assert_close(arbitrary_logps(load_policy(str(file), device="cpu").model), should, rtol=0, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 2])
def test_a_run_from_gguf_goes_all_the_way(rank, model_folder, rows, tmp_path, own_cache):
    (tmp_path / "model").mkdir()
    file = make_gguf(tmp_path / "model" / "tiny.gguf", model_folder("llama"))
    should = arbitrary_logps(transformers.AutoModelForCausalLM.from_pretrained(model_folder("llama")))
    given = FAST | {"lora_rank": rank}
    lab.preflight("dpo", rows, file, **given)
    run = lab.train("dpo", rows, file.parent if rank else file, background=False, **given)  # the folder means the file in it
    assert run.state == "finished", run.error
    torch.testing.assert_close(arbitrary_logps(examine(run, 0).policy.model), should, rtol=0, atol=1e-4)
    end = arbitrary_logps(examine(run).policy.model)
    branch = lab.train(branch_from=run, steps=5, background=False)
    assert branch.state == "finished", branch.error
    kind = peft.AutoPeftModelForCausalLM if rank else transformers.AutoModelForCausalLM
    out = lab.export_run(run, tmp_path / "out")
    free()
    shutil.rmtree(own_cache)
    torch.testing.assert_close(arbitrary_logps(kind.from_pretrained(out)), end, rtol=0, atol=1e-3)
    assert "tiny.gguf" in (out / "README.md").read_text() or rank


def test_gguf_files_that_do_not_work_are_refused_in_one_sentence(model_folder, rows, tmp_path, own_cache, monkeypatch, capsys):
    whole = make_gguf(tmp_path / "whole.gguf", model_folder("llama"))
    half, other, text = tmp_path / "half.gguf", tmp_path / "other.gguf", tmp_path / "text.gguf"
    half.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    head = tmp_path / "head.gguf"
    head.write_bytes(whole.read_bytes()[:100])
    make_gguf(other, model_folder("llama"), architecture="quantum")
    text.write_text("<html></html>")
    pointer = tmp_path / "pointer.gguf"
    pointer.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    part = shutil.copy(whole, tmp_path / "big-00001-of-00003.gguf")
    several = tmp_path / "several"
    several.mkdir()
    for name in ("a.gguf", "b.gguf"):
        shutil.copy(whole, several / name)
    for source, sentence, merely in (
        (half, "cannot be loaded", True),
        (head, "cannot be loaded", True),
        (other, "quantum", True),
        (text, "is no GGUF file", False),
        (pointer, "Git LFS pointer", False),
        (part, "is one part of a GGUF model", False),
        (several, r"several GGUF files \(a.gguf, b.gguf\)", False),
    ):
        with pytest.raises(ModelError, match=sentence) as dry:
            lab.preflight("dpo", rows, source, **FAST)
        assert "\n" not in str(dry.value)
        if merely:
            run = lab.train("dpo", rows, source, background=False, **FAST)
            assert (run.state, run.error) == ("failed", str(dry.value))
        else:
            with pytest.raises(ModelError) as trained:
                lab.train("dpo", rows, source, background=False, **FAST)
            assert str(trained.value) == str(dry.value)
    monkeypatch.setattr(converted.importlib.util, "find_spec", lambda name: None)
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text("\n".join(map(json.dumps, rows)))
    assert main(["train", "--objective", "dpo", "--model", str(whole), "--pairs", str(pairs), "--dry-run"]) == 1
    assert "run `pip install gguf`" in capsys.readouterr().err


@pytest.mark.slow
def test_an_export_from_an_adapter_is_loaded_by_a_process_without_the_lab(adapter, rows, tmp_path):
    run = lab.train("dpo", rows, adapter, background=False, lora_rank=2, **FAST)
    out = lab.export_run(run, tmp_path / "out")
    code = (
        "import sys; from peft import AutoPeftModelForCausalLM; "
        "AutoPeftModelForCausalLM.from_pretrained(sys.argv[1]); assert 'lab' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code, str(out)], capture_output=True, text=True, cwd=tmp_path, timeout=120)
    assert done.returncode == 0, done.stderr
