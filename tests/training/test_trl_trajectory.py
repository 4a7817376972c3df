"""Fifty steps beside TRL 1.16's trainers: same weights, same pairs in the same order, whole path on both sides.

Ours is `lab.train`, theirs `DPOTrainer`, `CPOTrainer`, `ORPOTrainer` and `KTOTrainer`, each with its own tokenising,
padding, reference model, optimizer, schedule and logging. Compared at every step: loss, gradient norm before clipping,
log-probs and rewards of both sides, and the learning rate. The model is a tiny random one in float32 on the CPU, the
learning rate so high that the loss moves far, and what must agree is

    |ours - theirs| <= 1e-4 max(1, |theirs|)   for loss and rewards (a reward is a difference that starts at 0),
    |ours - theirs| <= 1e-4 |theirs|           for gradient norm and log-probs.

Rounding alone grows to about 1e-6 here. What has to be set on TRL's side for the two to be the same computation:

| TRL's default | here | why |
|---|---|---|
| shuffled data | sequential, in the order of `BatchSchedule` | order of data is the premise |
| bf16, gradient_checkpointing | off (checkpointing: on in a test of its own, on both sides) | float32 on the CPU |
| linear schedule | ours: cosine, constant or linear, after a warm-up | TRL has all of them |
| exo_pair: label_smoothing 0 | as in `SHARED` | refused there |
| hinge: beta 0.1 | 0.02 | margins stay below 1 for longer: behind it loss and gradient are 0 |
| sppo_hard | learning rate 1e-5 | squares that swing about their targets amplify rounding: at 2e-4 TRL differs from |
| | | itself by 2.5e-3 when it accumulates 2 + 2 pairs instead of taking 4 at once |
| pad token | EOS | Qwen2's tokenizer class brings one that a small vocabulary does not hold, and TRL fails on it |
| cpo, orpo: likelihood over all tokens of a batch | chosen answers of one length | ours averages each pair, see `CPO` and `ORPO` |
| orpo: likelihood of prompt and answer | a prompt that is BOS alone | ours leaves the prompt out |
| kto: one KL, from shifted completions | each side its own micro-batch, KL from the other side's answers | see `KTO` |
| apo_zero_unpaired: mean over 2B answers | clipped at half the norm, AdamW's eps halved, then doubled | ours adds the sides |

Metrics that TRL names alike and means otherwise, so that they are converted or left out: `logps/*` of CPOTrainer's simpo
and of ORPOTrainer are averages per token, ours are sums (as DPOTrainer's are); ORPOTrainer's `rewards/*` carry the weight of
the odds ratio, ours do not; `rewards/*` with ld_alpha are re-weighted there; KTOTrainer logs no margin where a micro-batch
has one side; `num_tokens` counts prompts there (one for each answer) and answers alone here.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import transformers
from tokenizers.processors import TemplateProcessing

import lab
from lab.policy import Encoder, Lora, load_policy
from lab.run.config import TrainConfig
from lab.training.data.encoded_pairs import encode_pair
from lab.training.data.schedule import BatchSchedule

pytest.importorskip("trl")
from datasets import Dataset, disable_progress_bars
from transformers.trainer_callback import PrinterCallback
from trl import DPOConfig, DPOTrainer, KTOConfig, KTOTrainer
from trl.experimental.cpo import CPOConfig, CPOTrainer
from trl.experimental.orpo import ORPOConfig, ORPOTrainer

from tests.objectives.test_objectives_trl import SHARED

disable_progress_bars()

STEPS, BATCH = 50, 4
SETTINGS: dict[str, Any] = {
    "steps": STEPS,
    "batch_size": BATCH,
    "learning_rate": 2e-4,
    "schedule": "constant",
    "warmup_ratio": 0.0,
    "save_every": 0,
    "device": "cpu",
    "token_steps": STEPS,
    "evaluate": False,
}
SIDES = ("chosen", "rejected")
LOGPS = tuple(f"logps/{side}" for side in SIDES)
REWARDS = tuple(f"rewards/{side}" for side in SIDES)
NUMBERS = ("loss", "grad_norm", "learning_rate", *LOGPS, *REWARDS, "rewards/margins")
TOLERANCE = 1e-4


@pytest.fixture
def folder(model_folder, tmp_path) -> Callable[[str], str]:
    """Return folder("llama"): a tiny random model whose tokenizer adds BOS before a text, as Llama's does."""

    def make(kind: str) -> str:
        target = tmp_path / "models" / kind
        if not target.exists():
            shutil.copytree(model_folder(kind), target)
            tokenizer = transformers.AutoTokenizer.from_pretrained(target)
            tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
                single=f"{tokenizer.bos_token} $A", special_tokens=[(tokenizer.bos_token, tokenizer.bos_token_id)]
            )
            tokenizer.pad_token = tokenizer.eos_token
            tokenizer.save_pretrained(target)
        return str(target)

    return make


@pytest.fixture
def rows() -> list[dict[str, str]]:
    """Return pairs of many lengths; some share a prompt."""
    steps = ["mix the flour and the water", "knead the soft dough", "warm the old oven", "bake the round bread"]
    return [
        {
            "prompt": f"Question {i // 3}: " + "please, " * (i // 3 % 4) + "how do I bake bread?\n",
            "chosen": " ".join(f"First {step}." for step in steps[: 1 + i % 3]) + f" Then wait {i} minutes.",
            "rejected": "No idea" + ", really" * (i % 5) + f", ask somebody else {i}.",
        }
        for i in range(42)
    ]


def even(rows: list[dict[str, str]], prompt: str | None = None) -> list[dict[str, str]]:
    """Replace the chosen answers by answers of equal length in tokens, and the prompts by `prompt` if given."""
    return [
        row | {"chosen": f"First mix the flour, then wait {10 + i} minutes."} | ({"prompt": prompt} if prompt else {})
        for i, row in enumerate(rows)
    ]


def ours(objective: Any, rows: list[dict[str, str]], model: str, **settings: Any) -> lab.Run:
    run = lab.train(objective, rows, model, background=False, **SETTINGS | settings)
    assert run.state == "finished", run.error
    return run


def in_order(rows: list[dict[str, str]], run: lab.Run) -> list[dict[str, str]]:
    """Return the rows in the order in which the run trains on them."""
    return [rows[i] for i in order(run.config, len(rows))]


def order(config: TrainConfig, count: int) -> list[int]:
    order = BatchSchedule.of(count, config.batch_size, config.seed)
    return [i for step in range(1, config.steps + 1) for i in order.batch(step)]


def arguments(config: TrainConfig, out: Path, **special: Any) -> dict[str, Any]:
    """Return a run's settings as TRL's arguments, with everything switched off that the lab does not do."""
    schedules = {"cosine": "cosine", "linear": "linear", "constant": "constant_with_warmup"}
    return {
        "output_dir": str(out),
        "max_steps": config.steps,
        "per_device_train_batch_size": config.batch_size,
        "train_sampling_strategy": "sequential",
        "learning_rate": config.learning_rate,
        "lr_scheduler_type": schedules[config.schedule],
        "warmup_steps": config.warmup_steps,
        "weight_decay": config.weight_decay,
        "adam_beta1": config.adam_beta1,
        "adam_beta2": config.adam_beta2,
        "adam_epsilon": 1e-8,
        "max_grad_norm": config.max_grad_norm,
        "max_length": config.max_length,
        "gradient_checkpointing": config.gradient_checkpointing,
        "bf16": False,
        "use_cpu": True,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
    } | special


def theirs(trainer: Any) -> pd.DataFrame:
    """Train with TRL; return its log with one row per step."""
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    return pd.DataFrame([entry for entry in trainer.state.log_history if "loss" in entry]).set_index("step")


def recorded(run: lab.Run, column: str, side: str) -> list[list[np.ndarray]]:
    """Return a recorded column of token values of every answer, by step, in the order of the batch."""
    ids = [pair.id for pair in lab.open_pairs(run.manifest["pairs_store"]).all()]
    steps = []
    for step in range(1, STEPS + 1):
        frame = run.reader.tokens.read(step)
        by_pair = frame[frame["side"] == side].set_index("pair")[column]
        steps.append([by_pair[ids[i]] for i in BatchSchedule.of(len(ids), BATCH, run.config.seed).batch(step)])
    return steps


def assert_same_tokens(run: lab.Run, rows: list[dict[str, str]], model: str, ids: dict[str, list[list[int]]]) -> None:
    """Assert that prompts and answers have the trainer's token ids, both by our encoder and as recorded by the run."""
    encoder = Encoder(transformers.AutoTokenizer.from_pretrained(model), run.config.max_length)
    pairs = [encode_pair(pair, encoder) for pair in lab.open_pairs(rows).all()]
    assert [list(pairs[i].chosen.prompt) for i in order(run.config, len(rows))] == ids["prompt"]
    for side in SIDES:
        assert [answer.tolist() for batch in recorded(run, "ids", side) for answer in batch] == ids[side]


def assert_equal(run: lab.Run, expected: pd.DataFrame, *, without: tuple[str, ...] = (), per_token: bool = False) -> None:
    """Assert that all numbers of all steps agree, and that they change enough for another trajectory to be noticed.

    per_token: the trainer's `logps/*` are means over pairs of the average per token.
    """
    names = [name for name in NUMBERS if name not in without]
    actual = run.scalars(names)
    if per_token:
        actual[list(LOGPS)] = averages(run)
    assert actual.index.tolist() == expected.index.tolist() == list(range(1, STEPS + 1))
    for name in names:
        a, b = actual[name].to_numpy(), expected[name].to_numpy()
        scale = np.abs(b) if name in ("grad_norm", *LOGPS) else np.maximum(1, np.abs(b))
        assert (np.abs(a - b) <= TOLERANCE * scale).all(), f"{name} differs by {np.abs(a - b).max():.2g}: {a} {b}"
        if name != "learning_rate":
            assert np.ptp(b) > 100 * TOLERANCE * scale.max(), f"{name} hardly moves"


def averages(run: lab.Run) -> np.ndarray:
    """Return the average log-prob per token of both sides, mean over the batch, [steps, 2], from the recorded tokens."""
    sides = [[np.mean([row.mean() for row in batch]) for batch in recorded(run, "logps", side)] for side in SIDES]
    return np.array(sides).T


def dpo_trainer(rows: list[dict[str, str]], run: lab.Run, model: Any, out: Path, **special: Any) -> DPOTrainer:
    args = DPOConfig(**arguments(run.config, out, beta=0.1) | special)
    return DPOTrainer(model, args=args, train_dataset=Dataset.from_list(in_order(rows, run)))


def dpo_ids(trainer: DPOTrainer) -> dict[str, list[list[int]]]:
    return {name: list(trainer.train_dataset[f"{name}_ids"]) for name in ("prompt", *SIDES)}


def test_dpo_with_cosine_schedule_and_warm_up(rows, folder, tmp_path):
    model = folder("llama")
    schedule = {"schedule": "cosine", "warmup_ratio": 0.1}
    run = ours("dpo", rows, model, **schedule)
    trainer = dpo_trainer(rows, run, model, tmp_path)
    assert_same_tokens(run, rows, model, dpo_ids(trainer))
    expected = theirs(trainer)
    assert expected["loss"].iloc[0] == pytest.approx(math.log(2), abs=1e-6)
    assert expected["loss"].min() < 0.3
    assert_equal(run, expected)
    # Accumulating over micro-batches equals the large batch.
    assert_equal(ours("dpo", rows, model, **schedule, micro_batch_size=2), expected)


def experimental(trainer: Any, config: Any, rows: list[dict[str, str]], run: lab.Run, model: str, out: Path, **special: Any) -> Any:
    """Return a TRL trainer that does not load model and tokenizer itself."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(model)
    tokenizer.pad_token = tokenizer.eos_token
    network = transformers.AutoModelForCausalLM.from_pretrained(model)
    args = config(**arguments(run.config, out, **special))
    return trainer(network, args=args, train_dataset=Dataset.from_list(in_order(rows, run)), processing_class=tokenizer)


def experimental_ids(trainer: Any) -> dict[str, list[list[int]]]:
    table = trainer.train_dataset
    answers = {
        side: [[token for token in row if token != -100] for row in table[f"{side}_labels"]]  # the prompt's labels are -100
        for side in SIDES
    }
    return {"prompt": list(table["prompt_input_ids"]), **answers}


@pytest.mark.slow  # DPO's trajectory stands for the quick ones; SimPO's value and gradient are in test_objectives_trl
def test_simpo(rows, folder, tmp_path):
    model = folder("llama")
    run = ours({"name": "simpo", "beta": 2.0, "gamma_beta_ratio": 0.5}, rows, model)
    special = {"loss_type": "simpo", "beta": 2.0, "simpo_gamma": 1.0, "cpo_alpha": 0.0}
    trainer = experimental(CPOTrainer, CPOConfig, rows, run, model, tmp_path, **special)
    assert_same_tokens(run, rows, model, experimental_ids(trainer))
    assert_equal(run, theirs(trainer), per_token=True)


@pytest.mark.slow
@pytest.mark.parametrize(("loss_type", "name", "special", "parameters"), SHARED, ids=[f"{a}-{b}" for a, b, *_ in SHARED])
def test_every_loss_of_dpo_trainer(loss_type, name, special, parameters, rows, folder, tmp_path):
    model = folder("llama")
    special = {("discopop_tau" if key == "tau" else key): value for key, value in special.items()}
    beta = 0.02 if name == "hinge" else 0.1
    rate = {"learning_rate": 1e-5} if name == "sppo_hard" else {}
    objective = {"name": name, "beta": beta, **parameters}
    run = ours(objective, rows, model, **rate)
    expected = theirs(dpo_trainer(rows, run, model, tmp_path, loss_type=loss_type, **special | {"beta": beta}))
    without = (*LOGPS, *REWARDS, "rewards/margins") if name == "ld_dpo" else ()
    assert_equal(run, expected, without=without)
    assert_equal(ours(objective, rows, model, micro_batch_size=2, **rate), expected, without=without)


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        {"layout": "plain"},
        {"gradient_checkpointing": True},
        {"weight_decay": 0.1, "adam_beta1": 0.8, "adam_beta2": 0.95, "max_grad_norm": 0.0},
        {"schedule": "linear", "warmup_ratio": 0.2, "seed": 3, "max_grad_norm": 0.1},
    ],
    ids=["plain-rows", "checkpointing", "decay-no-clipping", "linear-seed-3"],
)
@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_settings(kind, settings, rows, folder, tmp_path):
    model = folder(kind)
    run = ours("dpo", rows, model, **settings)
    assert_equal(run, theirs(dpo_trainer(rows, run, model, tmp_path)))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["qwen2", "qwen3", "mistral", "gemma2", "phi3", "gpt_neox"])
def test_other_models(kind, rows, folder, tmp_path):
    model = folder(kind)
    run = ours("dpo", rows, model)
    assert_equal(run, theirs(dpo_trainer(rows, run, model, tmp_path)))


@pytest.mark.slow
def test_lora(rows, folder, tmp_path):
    model = folder("llama")
    run = ours("dpo", rows, model, lora_rank=4, lora_alpha=8.0)
    policy = load_policy(model, lora=Lora(4, 8.0), device="cpu", seed=run.config.seed)  # the same first weights of the adapter
    policy.use_plain_rows()
    trainer = dpo_trainer(rows, run, policy.model, tmp_path)
    assert trainer.ref_model is None
    assert_equal(run, theirs(trainer))


@pytest.mark.slow
def test_cpo(rows, folder, tmp_path):
    model, rows = folder("llama"), even(rows)
    run = ours({"name": "cpo", "beta": 0.1, "nll_weight": 0.5}, rows, model)
    trainer = experimental(CPOTrainer, CPOConfig, rows, run, model, tmp_path, loss_type="sigmoid", beta=0.1, cpo_alpha=0.5)
    ids = experimental_ids(trainer)
    assert len({len(answer) for answer in ids["chosen"]}) == 1
    assert_same_tokens(run, rows, model, ids)
    assert_equal(run, theirs(trainer))


@pytest.mark.slow
def test_orpo(rows, folder, tmp_path):
    model, rows = folder("llama"), even(rows, prompt="<s>")
    run = ours({"name": "orpo", "weight": 0.2}, rows, model)
    trainer = experimental(ORPOTrainer, ORPOConfig, rows, run, model, tmp_path, beta=0.2)
    ids = experimental_ids(trainer)
    assert len({len(answer) for answer in ids["chosen"]}) == 1
    assert all(prompt == [0] for prompt in ids["prompt"])
    assert_same_tokens(run, rows, model, ids)
    expected = theirs(trainer)
    expected[[*REWARDS, "rewards/margins"]] /= 0.2
    assert_equal(run, expected, per_token=True)


@pytest.mark.slow
@pytest.mark.parametrize(("loss_type", "name", "halves"), [("kto", "kto_pair", 1), ("apo_zero_unpaired", "apo_zero", 2)])
def test_kto_trainer(loss_type, name, halves, rows, folder, tmp_path):
    model = folder("llama")
    run = ours({"name": name, "beta": 0.1}, rows, model)
    seen = in_order(rows, run)
    blocks = [seen[start : start + BATCH] for start in range(0, len(seen), BATCH)]
    unpaired = [
        {"prompt": row["prompt"], "completion": row[side], "label": side == "chosen"}
        for block in blocks
        for side in SIDES
        for row in block
    ]
    clipped = {"max_grad_norm": run.config.max_grad_norm / halves, "adam_epsilon": 1e-8 / halves}
    args = arguments(run.config, tmp_path, loss_type=loss_type, beta=0.1, gradient_accumulation_steps=2, **clipped)
    trainer = KTOTrainer(model, args=KTOConfig(**args), train_dataset=Dataset.from_list(unpaired))
    answers = list(trainer.train_dataset["completion_ids"])
    if loss_type == "kto":
        # Micro-batches alternate between the sides: each measures its KL on the answers of the other, behind the same prompts.
        swapped = [answers[i + BATCH if i // BATCH % 2 == 0 else i - BATCH] for i in range(len(answers))]
        table = trainer.train_dataset.remove_columns("KL_completion_ids")
        trainer.train_dataset = table.add_column("KL_completion_ids", swapped)
    sides = [i // BATCH % 2 == 0 for i in range(len(answers))]
    chosen = [answer for answer, first in zip(answers, sides) if first]
    rejected = [answer for answer, first in zip(answers, sides) if not first]
    prompts = [prompt for prompt, first in zip(trainer.train_dataset["prompt_ids"], sides) if first]
    assert_same_tokens(run, rows, model, {"prompt": prompts, "chosen": chosen, "rejected": rejected})
    expected = theirs(trainer)
    expected[["loss", "grad_norm"]] *= halves
    assert_equal(run, expected, without=("rewards/margins",))
    assert_equal(ours({"name": name, "beta": 0.1}, rows, model, micro_batch_size=2), expected, without=("rewards/margins",))
