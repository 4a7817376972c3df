"""Every architecture is either computed like its own forward pass of one text in float64, or refused."""

from __future__ import annotations

import re

import pytest
import torch
import transformers

import lab
from lab.policy import ModelError, choose_layout
from lab.policy.checks.dropout import switch_dropout_off
from lab.policy.sources.adapters import unused_parts
from tests.models import tokenizer
from tests.policy import architectures
from tests.policy.architectures import REFUSED, TRAINED, make_random, policy_of, row_of, texts

pytestmark = pytest.mark.extended

QUICK = {
    "llama",
    "gemma2",
    "gemma3",
    "gpt2",
    "opt",
    "xglm",
    "cohere",
    "granite",
    "mixtral",
    "lfm2",
    "jamba",
    "llama4_text",
    "doge",
    "rwkv",
}
SETTINGS = {"steps": 2, "batch_size": 4, "device": "cpu", "evaluate": False, "background": False, "save_every": 0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """folder("lfm2") is a random model of that architecture with a byte-level tokenizer."""

    def made(kind: str, model=None):
        path = tmp_path_factory.mktemp(kind)
        message = tokenizer()
        (model or make_random(kind, vocabulary=len(message))).save_pretrained(path)
        message.save_pretrained(path)
        return path

    return made


@pytest.mark.parametrize("kind", [pytest.param(k, marks=() if k in QUICK else pytest.mark.slow) for k in TRAINED])
def test_equal_to_one_by_one_in_float64(kind):
    row = row_of(kind)
    assert not row.refused
    assert row.spread > 0.02  # a fault would show
    assert row.difference < 1e-5
    assert row.gradient < 1e-5
    if kind in (
        "lfm2",
        "jamba",
        "mamba",
        "rwkv",
        "doge",
        "gpt_oss",
    ):  # states run along the row, or attention has inputs of its own
        assert row.check.layout == "plain"
    if kind in ("llama", "gemma2", "gemma3", "gpt2", "opt", "cohere", "granite", "mixtral", "afmoe"):
        assert (row.check.layout, row.check.logits, row.check.reason) == ("shared", "split", None)
    if kind in ("llama4_text", "recurrent_gemma"):
        assert row.check.logits == "whole"


@pytest.mark.parametrize("kind", [pytest.param(k, marks=pytest.mark.slow if k == "prophetnet" else ()) for k in REFUSED])
def test_refused_in_one_sentence(kind):
    row = row_of(kind)
    assert REFUSED[kind] in row.refused
    assert row.refused.count(". ") == 0
    assert row.refused.endswith(".")


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        ("deepseek_v4", {"max_position_embeddings": 400}),  # a part that begins to work after 128 tokens
        ("bloom", {"slow_but_exact": True, "pretraining_tp": 2}),  # weights that are used without their module
    ],
)
def test_parts_that_are_reached_in_an_unusual_way_are_no_reason_to_refuse(kind, more):
    row = row_of(kind, make_random(kind, **more))
    assert not row.refused
    assert max(row.difference, row.gradient) < 1e-5
    assert row.check.unreached == ()


def test_a_model_that_cannot_make_its_own_cache_gets_an_adapter():
    """transformers' default cache does not know a model of linear attention alone."""
    model = make_random("lfm3")
    with pytest.raises(ValueError, match="Cache"):
        model(input_ids=torch.arange(8)[None], use_cache=True)
    assert unused_parts(model) == []


def test_the_table_has_thirty_architectures():
    assert len(TRAINED) + len(REFUSED) >= 60
    rows = [row_of("llama"), row_of("bert")]
    lines = architectures.markdown(rows).splitlines()
    assert "equal to one-by-one float64" in lines[2]
    assert "refused because BertLMHeadModel is not causal" in lines[3]


DROPS = {
    "opt": {"dropout": 0.1, "layerdrop": 0.4},
    "biogpt": {"hidden_dropout_prob": 0.1, "layerdrop": 0.4},
    "xglm": {"activation_dropout": 0.1, "layerdrop": 0.4},
    "bloom": {"hidden_dropout": 0.1},
    "starcoder2": {"residual_dropout": 0.1, "embedding_dropout": 0.1},
    "gpt_neo": {"embed_dropout": 0.1},
    "gptj": {"attn_pdrop": 0.2},
    "qwen2": {"attention_dropout": 0.2},
    "qwen2_moe": {"attention_dropout": 0.2},
}


@pytest.mark.parametrize("kind", DROPS)
def test_dropout_is_switched_off_in_every_form_and_would_be_noticed(kind):
    with pytest.raises(ModelError, match=r"is random in training mode in .*two passes differ"):
        choose_layout_of(make_random(kind, **DROPS[kind]), off=False)
    model = make_random(kind, **DROPS[kind])
    assert choose_layout_of(model).difference < 1e-5
    ids = torch.arange(2, 40)[None]
    with torch.no_grad():
        assert torch.equal(model(ids).logits, model(ids).logits)


def choose_layout_of(model, *, off=True):
    policy = policy_of(model) if off else architectures.Policy(model, architectures.TOKENIZER, torch.device("cpu"))
    return choose_layout(policy, texts()[:4])


def test_a_number_that_evaluation_needs_is_no_rate():
    """Phimoe's router_jitter_noise is a threshold of its router, too."""
    model = make_random("phimoe").eval()
    ids = torch.arange(2, 200)[None]
    with torch.no_grad():
        before = model(ids).logits
        switch_dropout_off(model)
        assert torch.equal(model(ids).logits, before)


@pytest.mark.parametrize(
    ("kind", "layout", "logits"), [("lfm2", "plain", "split"), ("llama4_text", "shared", "whole"), ("opt", "shared", "split")]
)
def test_a_run_trains_in_the_layout_that_was_found(kind, layout, logits, folder, rows):
    run = lab.train("dpo", rows[:8], folder(kind), **SETTINGS)
    assert run.state == "finished", run.error
    check = next(d for d in run.events("check")["detail"] if "layout" in d)
    assert (check["layout"], check["logits"]) == (layout, logits)
    assert check["difference"] < 1e-5
    loss = next(d for d in run.events("check")["detail"] if d["what"] == "loss at the first step")
    assert loss["passed"]
    assert loss["found"] == pytest.approx(0.6931472, abs=1e-5)


def test_models_that_are_not_causal_are_refused_by_train_preflight_and_token_logps(folder, rows):
    whole = transformers.BartForConditionalGeneration(architectures.configuration("bart", len(tokenizer())))
    for path, message in (
        (folder("bert"), "not causal"),
        (folder("bart", whole), r"is no whole BartForCausalLM: .* would be drawn at random"),
    ):
        with pytest.raises(ModelError, match=message):
            lab.preflight("dpo", rows[:8], path, steps=2, batch_size=4, device="cpu")
        try:
            refusal = lab.train("dpo", rows[:8], path, **SETTINGS).error
        except ModelError as error:
            refusal = str(error)
        assert re.search(message, refusal)
        assert "Traceback" not in refusal
    with pytest.raises(ModelError, match="not causal"):
        lab.token_logps(make_random("bert", vocabulary=len(tokenizer())), tokenizer(), rows[:2])
