"""Train a few steps in this process and print, as JSON, the estimated and the measured peak of memory.

python -m tests.training.measured_memory FOLDER KIND HIDDEN LAYERS VOCABULARY TOKENS SETTINGS

FOLDER: contains the model and the pairs (without SETTINGS they are made, in a separate process, so that this is not measured).
KIND: llama, gpt2 or world.   TOKENS: of the longest prompt and of the longest answer.   SETTINGS: JSON.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

PAIRS = 48


def resident(name: str) -> int:
    """Return VmRSS or VmHWM (the largest VmRSS so far) in bytes."""
    line = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert line
    return int(line[1]) * 1024


def make(folder: Path, kind: str, hidden: int, layers: int, vocabulary: int, tokens: int) -> None:
    """Write a random model of a shape and pairs of uneven lengths."""
    import random

    import transformers

    from tests.models import tokenizer

    special = {"vocab_size": vocabulary, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
    if kind == "gpt2":
        config: Any = transformers.GPT2Config(n_embd=hidden, n_layer=layers, n_head=8, n_positions=2048, **special)
    else:
        config = transformers.LlamaConfig(
            hidden_size=hidden,
            intermediate_size=4 * hidden,
            num_hidden_layers=layers,
            num_attention_heads=8,
            max_position_embeddings=2048,
            **special,
        )
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(folder / "model")
    tokenizer().save_pretrained(folder / "model")
    draw = random.Random(0)

    def text(most: int) -> str:
        return "".join(draw.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(draw.randint(most // 4, most)))

    rows = [{"prompt": text(tokens), "chosen": text(tokens), "rejected": text(tokens)} for _ in range(PAIRS)]
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def measure(folder: Path, kind: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Train; return the estimated peak, and the measured peak of this process."""
    import torch

    import lab

    torch.set_num_threads(1)
    given = {"steps": 3, "batch_size": 8, "save_every": 2, "device": "cpu", "max_length": 2048, "eval_tokens": 16} | settings
    sources = () if kind == "world" else (folder / "pairs.jsonl", folder / "model")
    before = resident("VmRSS")
    run = lab.train("dpo", *sources, run_dir=folder / "run", executor="thread", listed=False, background=False, **given)
    report = run.preflight()
    assert report is not None
    assert run.state == "finished", run.error
    memory = report.memory
    return {
        "estimated": memory.total,
        "measured": resident("VmHWM"),
        "before": before,
        "parts": memory.model_dump(exclude={"device", "free"}),
        "micro": report.micro_batch_size,
    }


def measured(folder: Path, shape: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Return the result of `measure` in a separate process. shape: "KIND HIDDEN LAYERS VOCABULARY TOKENS"."""
    command = [sys.executable, "-m", "tests.training.measured_memory", str(folder), *shape.split(), json.dumps(settings)]
    if not (folder / "pairs.jsonl").exists() and not shape.startswith("world"):
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run(command[:-1], check=True, capture_output=True)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def main(arguments: list[str]) -> None:
    """Make the model and the pairs, or measure where settings are given."""
    folder, kind = Path(arguments[0]), arguments[1]
    if len(arguments) == 6:
        make(folder, kind, *map(int, arguments[2:6]))
    else:
        print(json.dumps(measure(folder, kind, json.loads(arguments[6]))))


if __name__ == "__main__":
    main(sys.argv[1:])
