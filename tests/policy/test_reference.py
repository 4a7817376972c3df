"""The reference cache: keyed by content, kept across restarts, an error for a missing entry."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from filelock import FileLock

from lab.policy import Lora, PromptAnswer, ReferenceCache, load_policy


def completions():
    return [PromptAnswer((0, 10, 11), (20, 21, 1)), PromptAnswer((0, 10, 11), (22, 1)), PromptAnswer((0, 12), (23, 24, 25, 1))]


def test_computed_once_and_kept(model_folder, tmp_path):
    policy = load_policy(str(model_folder("llama")), device="cpu")
    cache = ReferenceCache(tmp_path, policy)
    assert cache.prepare(policy, completions()) == 3
    assert cache.prepare(policy, completions()) == 0
    again = ReferenceCache(tmp_path, load_policy(str(model_folder("llama")), device="cpu"))
    assert again.prepare(policy, [*completions(), PromptAnswer((0, 12), (26, 1))]) == 1  # an edited pair recomputes one entry
    with torch.no_grad():
        direct = policy.logps(completions()).logps.numpy()
    for row, completion in enumerate(completions()):
        assert np.allclose(again.lookup(completion), direct[row, : len(completion.answer)], atol=1e-5)


def test_a_missing_entry_is_an_error(model_folder, tmp_path):
    cache = ReferenceCache(tmp_path, load_policy(str(model_folder("llama")), device="cpu"))
    with pytest.raises(KeyError, match="not computed before the run"):
        cache.lookup(completions()[0])


def test_the_boundary_between_prompt_and_answer_is_part_of_the_key(model_folder, tmp_path):
    policy = load_policy(str(model_folder("llama")), device="cpu")
    cache = ReferenceCache(tmp_path, policy)
    cache.prepare(policy, [PromptAnswer((0, 5), (6, 7))])
    assert not cache.holds(PromptAnswer((0, 5, 6), (7,)))


def test_other_weights_share_nothing(model_folder, tmp_path):
    policy = load_policy(str(model_folder("llama")), device="cpu")
    ReferenceCache(tmp_path, policy).prepare(policy, completions())
    other = load_policy(str(model_folder("llama")), device="cpu")
    with torch.no_grad():
        next(other.model.parameters()).add_(0.1)
    from lab.policy.loading import weights_hash

    other.fingerprint = weights_hash(other.model)
    assert not ReferenceCache(tmp_path, other).holds(completions()[0])


def test_with_an_adapter_the_reference_is_the_adapter_switched_off(model_folder, tmp_path):
    policy = load_policy(str(model_folder("llama")), lora=Lora(rank=4), device="cpu")
    plain = load_policy(str(model_folder("llama")), device="cpu")
    with torch.no_grad():
        for parameter in policy.parameters().values():
            parameter.add_(0.05)
        trained, reference = policy.logps(completions()).logps, plain.logps(completions()).logps
    assert not torch.allclose(trained, reference, atol=1e-2)
    cache = ReferenceCache(tmp_path, policy)
    cache.prepare(policy, completions())
    assert np.allclose(cache.lookup(completions()[2]), reference[2, :4].numpy(), atol=1e-5)
    assert policy.fingerprint == plain.fingerprint


def test_the_same_weights_under_another_configuration_share_nothing(model_folder):
    one = load_policy(str(model_folder("llama")), device="cpu")
    other = load_policy(str(model_folder("llama")), device="cpu")
    from lab.policy.loading import weights_hash

    assert one.fingerprint == other.fingerprint
    other.model.config.sliding_window = 16
    assert weights_hash(other.model) != one.fingerprint


def many(count=40):
    rng = np.random.default_rng(0)
    return [PromptAnswer((0, 10 + i % 5), (*map(int, rng.integers(20, 60, 1 + i % 11)), 1)) for i in range(count)]


def test_the_order_of_the_completions_changes_no_bit(model_folder, tmp_path):
    policy = load_policy(str(model_folder("llama")), device="cpu")
    caches = [ReferenceCache(tmp_path / name, policy) for name in ("one", "two")]
    caches[0].prepare(policy, many(), tokens_per_batch=64)
    caches[1].prepare(policy, many()[::-1], tokens_per_batch=64)
    assert all((caches[0].lookup(each) == caches[1].lookup(each)).all() for each in many())


def test_a_run_waits_while_another_one_computes_and_can_be_stopped_meanwhile(model_folder, tmp_path):
    policy = load_policy(str(model_folder("llama")), device="cpu")
    cache = ReferenceCache(tmp_path, policy)
    other = ReferenceCache(tmp_path, policy)
    waited = []

    def compute_and_release(done, total):
        waited.append((done, total))
        if lock.is_locked:
            other.prepare(policy, many())
            lock.release()

    def stop(done, total):
        raise KeyboardInterrupt

    lock = FileLock(f"{next(tmp_path.rglob('*.sqlite'))}.computing.lock")
    lock.acquire()
    with pytest.raises(KeyboardInterrupt):
        cache.prepare(policy, many(), progress=stop, exclusive=True)
    assert cache.prepare(policy, many(), progress=compute_and_release, exclusive=True) == 0
    assert waited == [(0, len({(c.prompt, c.answer) for c in many()}))]
    assert other.prepare(policy, [PromptAnswer((0, 9), (8, 1))], exclusive=True) == 1, "the lock is free again"
