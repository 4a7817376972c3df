"""A reward model in a local folder: scores and refusals."""

from __future__ import annotations

import pytest
import torch
import transformers

from lab.policy import ModelError
from lab.policy.reward_model import RewardModel, check_reward_model
from tests.models import make_reward_model, tokenizer

PROMPTS = ["How do I bake bread?\n", "Why?\n", "How do I bake bread?\n"]
ANSWERS = ["First mix the flour and the water, then knead the soft dough.", "No idea.", "Ask somebody."]


@pytest.fixture
def folder(tmp_path):
    make_reward_model(tmp_path / "reward")
    return str(tmp_path / "reward")


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_scores_are_the_models_own_in_any_batch(kind, tmp_path):
    make_reward_model(tmp_path / kind, kind)
    before = torch.get_rng_state()
    judge = RewardModel(str(tmp_path / kind), device="cpu")
    assert torch.equal(torch.get_rng_state(), before)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / kind).eval()
    message = tokenizer()
    with torch.no_grad():
        expected = [model(torch.tensor([message(p + a)["input_ids"]])).logits.item() for p, a in zip(PROMPTS, ANSWERS)]
    for size in (1, 2, 16):
        assert judge.score(PROMPTS, ANSWERS, batch_size=size) == pytest.approx(expected, abs=1e-5)
    assert len(set(expected)) == 3


def test_conversations_go_through_the_models_own_template(folder):
    judge = RewardModel(folder, device="cpu")
    talk = [[{"role": "user", "content": "Why?"}]]
    with pytest.raises(ModelError, match="no chat template"):
        judge.score(talk, ["Because."])
    judge.tokenizer.chat_template = "{{ bos_token }}{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '|' }}{% endfor %}"
    assert judge.score(talk, ["Because."]) == pytest.approx(judge.score(["user: Why?|"], ["assistant: Because.|"]), abs=1e-6)


def test_a_text_too_long_loses_its_beginning(folder):
    judge = RewardModel(folder, device="cpu")
    judge.max_length = 20
    long = "Question. " * 100
    assert judge.score([long], ["No idea."]) == pytest.approx(judge.score(["Something else. " + long], ["No idea."]))
    assert judge.score([long], ["No idea."]) != judge.score([long], ["Ask somebody."])


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        ("gone", "cannot be loaded"),
        ("causal", "is no reward model"),
        ("classes", "has 3 outputs"),
        ("pickle", "cannot be loaded"),
        ("headless", "is missing"),
    ],
)
def test_what_is_no_reward_model_is_refused_in_one_sentence(damage, sentence, folder, model_folder, tmp_path):
    if damage == "gone":
        folder = str(tmp_path / "nothing")
    elif damage == "causal":
        folder = str(model_folder("llama"))
    elif damage == "classes":
        make_reward_model(tmp_path / "three", labels=3)
        folder = str(tmp_path / "three")
    else:
        weights = tmp_path / "reward" / "model.safetensors"
        from safetensors.torch import load_file, save_file

        tensors = load_file(weights)
        weights.unlink()
        if damage == "pickle":
            torch.save(tensors, weights.with_name("pytorch_model.bin"))
        else:
            save_file({k: v for k, v in tensors.items() if k != "score.weight"}, weights, metadata={"format": "pt"})
    with pytest.raises(ModelError, match=sentence) as caught:
        RewardModel(folder, device="cpu")
    assert "\n" not in str(caught.value)
    if damage in ("gone", "causal", "classes"):
        with pytest.raises(ModelError, match=sentence):
            check_reward_model(folder)
