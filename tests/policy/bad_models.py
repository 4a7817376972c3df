"""Broken or unsuitable model folders as they occur in practice, each with its expected refusal."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import load_file, save_file

from tests.models import configuration, make_model, make_reward_model, tokenizer

POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'4d7a2146' * 8}\nsize 12345\n"
Damage = Callable[[Path], None]


def weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> None:
    """Replace the tensors of a folder's weights file."""
    file = folder / "model.safetensors"
    save_file(change(load_file(file)), file, metadata={"format": "pt"})


def config(folder: Path, name: str = "config.json", **entries: Any) -> None:
    """Set entries of a JSON file; None removes one."""
    content = json.loads((folder / name).read_text())
    content |= entries
    (folder / name).write_text(json.dumps({key: value for key, value in content.items() if value is not None}))


def shard(folder: Path) -> list[Path]:
    """Split the weights into shards with an index."""
    transformers.AutoModelForCausalLM.from_pretrained(folder).save_pretrained(folder, max_shard_size="30KB")
    (folder / "model.safetensors").unlink(missing_ok=True)
    return sorted(folder.glob("model-*.safetensors"))


def halve(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def zero_the_end(file: Path) -> None:
    data = file.read_bytes()
    file.write_bytes(data[: len(data) // 2] + bytes(len(data) - len(data) // 2))


def as_pickle(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def classifier(folder: Path, kind: str = "llama") -> None:
    shutil.rmtree(folder)
    make_reward_model(folder, kind)


def backbone(folder: Path) -> None:
    transformers.AutoModel.from_pretrained(folder).save_pretrained(folder)


def encoder(folder: Path) -> None:
    small = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 320}
    transformers.ViTModel(transformers.ViTConfig(**{k: v for k, v in small.items() if k != "vocab_size"})).save_pretrained(folder)


def newer_tokenizer(folder: Path, **entries: Any) -> None:
    config(folder, "tokenizer.json", **entries)


def bert_words(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").unlink()


def without_end(folder: Path) -> None:
    message = tokenizer()
    message.eos_token = None
    message.save_pretrained(folder)


def replace_nan(value: float) -> Damage:
    def damage(folder: Path) -> None:
        def change(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
            tensors["model.layers.1.mlp.up_proj.weight"][3, 5] = value
            return tensors

        weights(folder, change)

    return damage


def gptq(folder: Path) -> None:
    """GPTQ's tensors, of which somebody took the entry out of config.json."""

    def change(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        name = "model.layers.0.mlp.up_proj"
        del tensors[f"{name}.weight"]
        return tensors | {f"{name}.qweight": torch.zeros(4, 64, dtype=torch.int32), f"{name}.scales": torch.ones(1, 64)}

    weights(folder, change)


BAD: dict[str, tuple[Damage, str]] = {
    # Not whole, or another model.
    "classifier": (classifier, r"lm_head.weight is missing .* score.weight .* LlamaForSequenceClassification"),
    "tied classifier": (lambda f: classifier(f, "gpt2"), r"no place for \(score.weight\).*GPT2ForSequenceClassification"),
    "backbone": (backbone, r"lm_head.weight is missing in its files and would be drawn at random"),
    "without a norm": (
        lambda f: weights(f, lambda t: {k: v for k, v in t.items() if k != "model.norm.weight"}),
        "model.norm.weight is missing",
    ),
    "without half of the layers": (
        lambda f: weights(f, lambda t: {k: v for k, v in t.items() if "layers.1." not in k}),
        r"model.layers.1.* and \d more are missing",
    ),
    "renamed": (lambda f: weights(f, lambda t: {f"module.{k}": v for k, v in t.items()}), r"missing in its files .* module\."),
    "one renamed": (
        lambda f: weights(f, lambda t: {k.replace("0.mlp.up_proj", "0.mlp.up"): v for k, v in t.items()}),
        r"model.layers.0.mlp.up_proj.weight is missing .* model.layers.0.mlp.up.weight of the files has no place",
    ),
    "more layers than the configuration": (
        lambda f: config(f, num_hidden_layers=1, layer_types=None),
        "no place for .*layers.1",
    ),
    "fewer layers": (lambda f: config(f, num_hidden_layers=3, layer_types=None), "layers.2.* missing in its files"),
    "another width": (
        lambda f: config(f, hidden_size=48, head_dim=None),
        r"do not fit its config.json: .* has shape \[.*\]",
    ),
    "another vocabulary": (lambda f: config(f, vocab_size=400), r"has shape \[306, 32\] in the file and \[400, 32\] in the model"),
    "a head of values": (
        lambda f: weights(f, lambda t: t | {"v_head.summary.weight": torch.ones(1, 32)}),
        r"no place for \(v_head.summary.weight\)",
    ),
    "biases that the configuration denies": (
        lambda f: weights(f, lambda t: t | {"model.layers.0.self_attn.q_proj.bias": torch.ones(32)}),
        "no place for .*q_proj.bias",
    ),
    "NaN": (replace_nan(float("nan")), r"not finite \(model.layers.1.mlp.up_proj.weight holds NaN or infinity\)"),
    "infinity": (replace_nan(float("-inf")), "not finite"),
    # Files.
    "pointer": (lambda f: (f / "model.safetensors").write_text(POINTER), "model.safetensors is a Git LFS pointer.*git lfs pull"),
    "pointer to a tokenizer": (lambda f: (f / "tokenizer.json").write_text(POINTER), "tokenizer.json is a Git LFS pointer"),
    "pointer to a configuration": (lambda f: (f / "config.json").write_text(POINTER), "config.json is a Git LFS pointer"),
    "half a file": (
        lambda f: halve(f / "model.safetensors"),
        r"has [\d,]+ of [\d,]+ bytes, so the download did not",
    ),
    "half of it zeros": (lambda f: zero_the_end(f / "model.safetensors"), r"ends in [\d,]+ bytes of zeros"),
    "an empty file": (lambda f: (f / "model.safetensors").write_bytes(b""), r"is empty \(0 bytes\)"),
    "the beginning of a header": (
        lambda f: (f / "model.safetensors").write_bytes((f / "model.safetensors").read_bytes()[:100]),
        "ends within its header",
    ),
    "a page of an error": (
        lambda f: (f / "model.safetensors").write_text("<!DOCTYPE html><html><body>404</body></html>" * 9),
        "is no safetensors file",
    ),
    "bytes behind the end": (
        lambda f: (f / "model.safetensors").write_bytes((f / "model.safetensors").read_bytes() + b"x" * 50),
        "so it is damaged",
    ),
    "a missing shard": (lambda f: shard(f)[1].unlink(), r"1 of \d weight files are missing \(model-00002-of-"),
    "half a shard": (lambda f: halve(shard(f)[-1]), r"model-0000\d.*has .* bytes, so the download did not finish"),
    "a shard of another model": (
        lambda f: shutil.copy(shard(f)[0], shard(f)[1]),
        "missing in its files",
    ),
    "a broken index": (lambda f: (shard(f), (f / "model.safetensors.index.json").write_text("{}")), "names no weight files"),
    "a link to nothing": (
        lambda f: ((f / "model.safetensors").unlink(), (f / "model.safetensors").symlink_to(f / "blobs" / "abc")),
        "is a link to .*blobs/abc, which does not exist",
    ),
    "pickles": (as_pickle, r"PyTorch pickles only \(pytorch_model.bin\).*convert them to safetensors"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "but no weights"),
    "weights of a variant": (
        lambda f: (f / "model.safetensors").rename(f / "model.fp16.safetensors"),
        "no model.safetensors and no .*index.json, only model.fp16.safetensors",
    ),
    "an unfinished download": (
        lambda f: (f / "model.safetensors").rename(f / "model.safetensors.incomplete"),
        "download of the model in .* did not finish",
    ),
    # The configuration.
    "no configuration": (lambda f: (f / "config.json").unlink(), "holds no model .config.json is missing"),
    "half a configuration": (lambda f: halve(f / "config.json"), "config.json is no valid JSON"),
    "a configuration that is a list": (lambda f: (f / "config.json").write_text("[]"), "must hold a JSON object"),
    "binary": (lambda f: (f / "config.json").write_bytes(b"\xff\xfe\x00"), "config.json is no valid JSON"),
    "a newer architecture": (lambda f: config(f, model_type="llama9"), "model_type 'llama9', which transformers .* does not know"),
    "no architecture": (lambda f: config(f, model_type=None), "names no model_type"),
    "code of its own": (
        lambda f: config(f, model_type="mine", auto_map={"AutoModelForCausalLM": "modeling_mine.Mine"}),
        "needs code of its own",
    ),
    "values of the wrong type": (lambda f: config(f, hidden_size="large"), "cannot be loaded"),
    "impossible values": (lambda f: config(f, num_attention_heads=0, head_dim=None), "cannot be loaded"),
    "a picture model": (encoder, "is no causal language model .ViTConfig"),
    "bitsandbytes": (
        lambda f: config(f, quantization_config={"quant_method": "bitsandbytes", "load_in_4bit": True}),
        r"quantized weights \(bitsandbytes\).*quantize=4bit",
    ),
    "gptq": (lambda f: config(f, quantization_config={"quant_method": "gptq", "bits": 4}), r"quantized weights \(gptq\)"),
    "awq": (lambda f: config(f, quantization_config={"quant_method": "awq", "bits": 4}), r"quantized weights \(awq\)"),
    "fp8": (lambda f: config(f, quantization_config={"quant_method": "fp8"}), r"quantized weights \(fp8\)"),
    "mlx": (lambda f: config(f, quantization={"group_size": 64, "bits": 4}), r"quantized weights"),
    "gptq without its entry": (gptq, "up_proj.weight is missing .*up_proj.qweight"),
    "codes without their entry": (
        lambda f: weights(f, lambda t: t | {"model.layers.0.mlp.up_proj.weight": torch.ones(64, 32, dtype=torch.int8)}),
        r"quantized weights \(model.layers.0.mlp.up_proj.weight of type I8\)",
    ),
    # The tokenizer.
    "no tokenizer": (bert_words, "holds no tokenizer"),
    "a tokenizer of a newer version": (lambda f: newer_tokenizer(f, version="2.0"), "newer version than tokenizers"),
    "a tokenizer of a newer kind": (
        lambda f: newer_tokenizer(f, model={"type": "Quantum", "vocab": {}}),
        "newer version than tokenizers",
    ),
    "half a tokenizer": (lambda f: halve(f / "tokenizer.json"), "tokenizer.json is no valid JSON"),
    "half of its configuration": (lambda f: halve(f / "tokenizer_config.json"), "tokenizer_config.json is no valid JSON"),
    "a tokenizer with code": (
        lambda f: config(f, "tokenizer_config.json", auto_map={"AutoTokenizer": ["mine.MyTokenizer", None]}),
        "tokenizer in .* needs code of its own",
    ),
    "no end of sequence": (without_end, "no end-of-sequence token"),
}
"""Name -> (what is done to a whole folder, what the refusal says)."""


def make_bad(folder: Path, name: str, whole: Path) -> Path:
    """A bad folder, from a whole one."""
    shutil.copytree(whole, folder)
    BAD[name][0](folder)
    return folder


__all__ = ["BAD", "config", "configuration", "make_bad", "make_model", "shard", "weights"]
