"""Two processes that train one run, as `accelerate launch` starts them, have the losses of a single process."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import multiprocessing

import lab
from lab.objectives import PairLogps, with_credit
from lab.pairs import PairStore
from lab.run.config import TrainConfig
from lab.store import StoreReader, list_checkpoints
from lab.training.distributed import Workers
from lab.training.lifecycle import recording_failure, start
from lab.training.run_folder import create_run
from lab.training.step import concatenate
from tests.helpers import until
from tests.objectives.helpers import random_pairs, variants

LAUNCH = {"DDP": ["--multi_gpu"], "FSDP": ["--use_fsdp", "--fsdp_version", "2"]}
COMMON: dict[str, Any] = {
    "steps": 4,
    "batch_size": 5,  # which two processes cannot halve
    "learning_rate": 1e-3,
    "save_every": 2,
    "keep_checkpoints": 9,
    "device": "cpu",
    "eval_every": 2,
    "eval_prompts": 2,
    "eval_tokens": 6,
    "held_out": 0.1,
}


def flags(settings: dict[str, Any]) -> list[str]:
    """Return settings, and parameters of the objective, as arguments of the command line."""
    own = {key: value for key, value in settings.items() if key in TrainConfig.model_fields}
    named = [part for key, value in own.items() for part in (f"--{key.replace('_', '-')}", str(value))]
    return named + [part for key, value in settings.items() if key not in own for part in ("--set", f"{key}={value}")]


@pytest.fixture
def pairs(rows: list[dict[str, str]]) -> PairStore:
    """Fifty pairs, some of them with a weight or a degree."""
    store = lab.open_pairs(rows)
    for number, id in enumerate(store.ids()):
        if number % 3 == 0:
            store.edit(id, weight=(number % 4) / 2, degree=1 / 3 + number % 2 / 2)
    return store


@pytest.fixture
def together(pairs: PairStore, model_folder: Callable[[str], Path], tmp_path: Path) -> Callable[..., lab.Run]:
    """Return together("DDP", "--objective", name, **settings): a run that two processes have trained.

    meanwhile: Called with the run's folder in a thread while they train.
    """

    def launch(
        how: str, *arguments: str, folder: str = "two", meanwhile: Callable[[Path], None] | None = None, **settings: Any
    ) -> lab.Run:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        fixed = ["--num_processes", "2", "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
        train = ["-m", "lab", "train", "--json", "--run-dir", str(tmp_path / folder), *arguments]
        if "--resume" not in arguments:
            train += ["--pairs", str(pairs.path), "--model", str(model_folder("llama")), *flags(COMMON | settings)]
        if meanwhile is not None:
            threading.Thread(target=meanwhile, args=(tmp_path / folder,)).start()
        done = subprocess.run(
            [sys.executable, "-m", "accelerate.commands.launch", *LAUNCH[how], *fixed, "--main_process_port", str(port), *train],
            capture_output=True,
            text=True,
            timeout=240,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return lab.open_run(tmp_path / folder)

    return launch


def alone(objective: Any, pairs: PairStore, model: Path, **settings: Any) -> lab.Run:
    run = lab.train(objective, pairs, model, background=False, **COMMON | settings)
    assert run.state == "finished", run.error
    return run


def assert_alike(run: lab.Run, expected: lab.Run) -> None:
    """Assert equal numbers of two runs up to rounding."""
    assert run.state == "finished"
    names = ["loss", "grad_norm", "logps/chosen", "rewards/margins", "eval/loss", "eval/rewards/margins", "num_tokens"]
    ours, theirs = run.scalars(names), expected.scalars(names)
    assert ours.index.tolist() == theirs.index.tolist()
    assert torch.allclose(torch.tensor(ours.values), torch.tensor(theirs.values), rtol=1e-4, atol=1e-5, equal_nan=True)
    assert run.pairs()["pair"].tolist() == expected.pairs()["pair"].tolist()
    both = (run, expected)
    panel, wanted = (one.panel().query("step in [0, 2, 4]").reset_index(drop=True) for one in both)
    assert panel[["step", "pair", "greedy_tokens"]].equals(wanted[["step", "pair", "greedy_tokens"]])
    assert set(panel["step"]) == {0, 2, 4}
    sums = ["chosen", "rejected", "greedy"]
    assert torch.allclose(torch.tensor(panel[sums].values), torch.tensor(wanted[sums].values), rtol=1e-4, atol=1e-3)
    weights, expected_weights = (load_file(list_checkpoints(one.dir)[-1] / "model.safetensors") for one in both)
    for name, weight in expected_weights.items():
        assert torch.allclose(weights[name], weight, atol=2e-5), name


@pytest.mark.extended
def test_ddp_equals_one_process(together, pairs, model_folder):
    """With an objective whose pairs depend on each other, so that log-probs have to be gathered."""
    run, expected = together("DDP", "--objective", "aot"), alone("aot", pairs, model_folder("llama"))
    assert_alike(run, expected)
    first, wanted = (r.layers().query("step == 1").reset_index(drop=True) for r in (run, expected))
    assert first["layer"].tolist() == wanted["layer"].tolist() != []
    numbers = ["norm_chosen", "norm_rejected", "cosine"]
    assert torch.allclose(torch.tensor(first[numbers].values), torch.tensor(wanted[numbers].values), rtol=1e-3, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("objective", "settings"),
    [("sgdpo", {"micro_batch_size": 2, "batch_size": 6}), ("alpha_dpo", {"lora_rank": 2}), ("spo", {"annotated_degrees": True})],
)
def test_ddp_with_micro_batches_adapter_and_degree_head(objective, settings, together, pairs, model_folder):
    run = together("DDP", "--objective", objective, **settings)
    if "lora_rank" in settings:
        names = ["loss", "grad_norm"]
        expected = alone(objective, pairs, model_folder("llama"), **settings).scalars(names)
        assert torch.allclose(torch.tensor(run.scalars(names).values), torch.tensor(expected.values), rtol=1e-4, atol=1e-5)
    else:
        assert_alike(run, alone(objective, pairs, model_folder("llama"), **settings))


@pytest.mark.slow
def test_processes_that_follow_edits_take_them_together(together, pairs, model_folder):
    def edit(folder: Path) -> None:
        until(lambda: (folder / "run.json").exists(), 100)
        for id in pairs.ids():
            pairs.edit(id, chosen=f"Mix, knead, wait and bake {id}.")
        pairs.drop(pairs.ids()[0])

    settings = {"steps": 200, "eval_every": 0, "save_every": 0, "learning_rate": 0.0}
    run = together("DDP", "--objective", "dpo", meanwhile=edit, pairs_version="follow", **settings)
    last = run.pair_versions()[-1]
    assert last.version == pairs.version
    expected = alone("dpo", pairs, model_folder("llama"), **settings)
    ours, theirs = (one.pairs().set_index("pair").sort_index() for one in (run, expected))
    trained_late = ours.index[ours["step"] >= last.first].intersection(theirs.index)
    numbers = ["version", "loss", "logps_chosen"]
    assert len(trained_late) > 30
    assert torch.allclose(*(torch.tensor(one.loc[trained_late, numbers].values) for one in (ours, theirs)), atol=1e-4)


@pytest.mark.slow
def test_an_fsdp_run_can_be_resumed_by_any_number_of_processes(together, pairs, model_folder):
    """The checkpoints of a sharded run contain unsharded weights."""
    even: dict[str, Any] = {"batch_size": 6}  # micro-batches need as many pairs in every process
    expected = alone("dpo", pairs, model_folder("llama"), **even)
    assert_alike(together("FSDP", "--objective", "dpo", micro_batch_size=1, **even), expected)
    for again in ("alone", "FSDP"):
        part = together("FSDP", "--objective", "dpo", folder=f"part-{again}", **even)
        for checkpoint in list_checkpoints(part.dir)[1:]:
            for path in checkpoint.iterdir():
                path.unlink()
            checkpoint.rmdir()
        if again == "alone":
            run = lab.train(run_dir=part.dir, resume=True, background=False)
        else:
            run = together("FSDP", "--resume", folder=f"part-{again}")
        assert_alike(run, expected)


@pytest.mark.slow
def test_runs_that_cannot_be_shared_are_refused(together, tmp_path):
    for objective, settings, reason in (("dpo", {"batch_size": 1}, "cannot share"), ("spo", {}, "cannot be sharded")):
        with pytest.raises(AssertionError, match=reason):
            together("FSDP", "--objective", objective, folder=f"no-{objective}", **settings)


def _objectives_of_one_process(rank: int, folder: str) -> None:
    """Call objectives for three batches as process `rank` of two does in a step, and save losses, credit and states."""
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    workers = Workers(rank, 2)

    def whole(batch: PairLogps) -> PairLogps:
        return concatenate(workers.gather(batch.map(lambda x: x[workers.share(len(batch))])))

    torch.save(_called(whole), f"{folder}/{rank}.pt")
    workers.leave()


def _called(seen: Callable[[PairLogps], PairLogps]) -> dict[str, Any]:
    """Return losses, credit and next state of every variant of every objective for three batches in turn.

    seen: Returns the batch that the process calls the objective with.
    """
    numbers = {}
    for variant in variants():
        batches = [random_pairs(seed, [(3, 4), (2, 2), (5, 3), (4, 4), (2, 6)], objective=variant) for seed in range(3)]
        state = variant.dataset_state(batches) if variant.needs_dataset else variant.initial_state()
        for number, batch in enumerate(batches):
            p = seen(batch)
            credited = with_credit(variant, p, state, variant.draw(p, torch.Generator().manual_seed(0)), training=True)
            state = credited.state
            parts = {"losses": credited.outcome.losses, "chosen": credited.chosen, "rejected": credited.rejected, **state}
            numbers |= {f"{variant.spec()}:{number}:{name}": value for name, value in parts.items()}
    return numbers


def test_objectives_of_two_processes_equal_those_of_one(tmp_path):
    """Losses, credit and moving statistics, bit for bit: an objective sees the whole batch and never communicates itself."""
    multiprocessing.spawn(_objectives_of_one_process, args=(str(tmp_path),), nprocs=2)
    expected = _called(lambda batch: concatenate([batch.map(lambda x: x[:2]), batch.map(lambda x: x[2:])]))  # in micro-batches
    assert any(name.endswith(":2:std") for name in expected)
    for rank in (0, 1):
        numbers = torch.load(tmp_path / f"{rank}.pt")
        assert numbers.keys() == expected.keys()
        assert [name for name, value in expected.items() if not torch.equal(numbers[name], value)] == []


@pytest.mark.parametrize("count", [1, 2, 3, 7])
@pytest.mark.parametrize("size", [7, 8, 20])
def test_shares_cover_a_batch(count, size):
    parts = [range(size)[Workers(rank, count).share(size)] for rank in range(count)]
    assert [i for part in parts for i in part] == list(range(size))
    assert max(len(p) for p in parts) - min(len(p) for p in parts) <= 1


def test_more_processes_than_pairs_is_an_error():
    with pytest.raises(ValueError, match="raise batch_size"):
        Workers(0, 4).share(3)


def test_micro_batches_need_equal_shares(model_folder):
    from lab.policy import ModelError, load_policy
    from lab.run.config import TrainConfig
    from lab.training.setup.prepare import _check_workers

    policy = load_policy(str(model_folder("llama")), device="cpu")
    config = TrainConfig.parse(objective="dpo", batch_size=5, micro_batch_size=1)
    with pytest.raises(ModelError, match="a multiple of 2"):
        _check_workers(config, policy, Workers(0, 2))
    _check_workers(config.model_copy(update={"batch_size": 6}), policy, Workers(0, 2))


def test_the_main_process_reports_the_failure_of_another(tmp_path):
    """The main process itself only notices that the connection is lost."""
    config = TrainConfig.parse(objective="dpo")
    create_run(tmp_path / "run", config)
    with pytest.raises(RuntimeError), recording_failure(tmp_path / "run", Workers(1, 2)):
        raise RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")

    def lost(store):
        raise RuntimeError("[../third_party/gloo/gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:41")

    def wrong(store):
        raise ValueError("A setting is wrong.")

    def error_of(make, workers):
        start(tmp_path / "run", make, background=False, workers=workers)
        return StoreReader(tmp_path / "run").status()["error"]

    message = error_of(lost, Workers(0, 2))
    assert message.startswith("Out of memory: lower micro_batch_size")
    assert message.endswith("(Reported by process 1 of 2.)")
    assert error_of(wrong, Workers(0, 2)) == "A setting is wrong."
    assert "Connection closed" in error_of(lost, Workers(0, 1))  # the file of an earlier run with more processes is not read
    with recording_failure(tmp_path / "run", Workers(1, 2)):
        pass  # removes the file when that process begins again
    assert "Connection closed" in error_of(lost, Workers(0, 2))


def test_the_launcher_prints_the_error_line(tmp_path, monkeypatch, capsys):
    """Torch's launcher prints the content of TORCHELASTIC_ERROR_FILE last."""
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

    from lab.cli import main

    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(tmp_path / "error.json"))
    assert main(["train", "--objective", "nope"]) == 1
    line = capsys.readouterr().err.strip()
    assert line.startswith("error: ")
    failure = ProcessFailure(local_rank=0, pid=1, exitcode=1, error_file=str(tmp_path / "error.json"))
    printed = str(ChildFailedError("lab", {0: failure})).strip().splitlines()
    assert line in printed[-2]


@pytest.mark.slow
def test_several_processes_wait_for_the_device(together, rows, model_folder):
    first = lab.train("dpo", rows, model_folder("llama"), steps=100_000, save_every=0, device="cpu")

    def stop_first_once_other_waits():
        try:
            until(lambda: (places := lab.queue()) and places[-1].place == 1, run=first, seconds=200)
        finally:
            first.stop()

    threading.Thread(target=stop_first_once_other_waits).start()
    run = together("DDP", "--objective", "dpo", steps=2)
    assert first.state == "stopped"
    assert run.events("state")["detail"].iloc[-1] == {"state": "finished"}
    assert any("in each of 2 processes" in line for line in run.preflight().lines())
