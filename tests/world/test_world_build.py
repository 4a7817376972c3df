"""Build, cache and load a world, with the tiny one."""

from __future__ import annotations

import json
import multiprocessing
import shutil
import threading
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from lab.pairs import read_pairs
from lab.world import World, WorldError, WorldSpec, content_hash, ensure, folder_name, is_world_name, pairs_file, world_of

TINY = WorldSpec.tiny()


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def world(cache: Path) -> World:
    return ensure(TINY, cache=cache)


def count_builds(calls: list[str]) -> int:
    return calls.count("writing the pairs")


def rebuilt(cache: Path, spec: WorldSpec = TINY) -> tuple[World, bool]:
    calls: list[str] = []
    found = ensure(spec, cache=cache, progress=lambda what, share: calls.append(what))
    return found, bool(calls)


def test_it_is_an_ordinary_model_folder(world: World) -> None:
    model, tokenizer = AutoModelForCausalLM.from_pretrained(world.model_dir), AutoTokenizer.from_pretrained(world.model_dir)
    assert model.config.model_type == "llama"
    assert model.dtype == torch.float32
    assert tokenizer.chat_template is None
    assert tokenizer.model_max_length == model.config.max_position_embeddings
    for holder in (model.config, model.generation_config):
        assert (holder.bos_token_id, holder.eos_token_id, holder.pad_token_id) == (
            tokenizer.bos_token_id,
            tokenizer.eos_token_id,
            tokenizer.pad_token_id,
        )
    assert len({tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id}) == 3
    assert len(tokenizer) == model.config.vocab_size
    for text in ("How do I wax a bench?\n", "1. Rub.\n2. Wax.", "  two  blanks ", "你好 🙂\t\x00"):
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert [tokenizer.bos_token_id, *ids] == tokenizer(text)["input_ids"]
        assert tokenizer.decode(ids) == text
    ids = torch.tensor([tokenizer("How do I wax a bench?\n")["input_ids"]])
    assert model.generate(ids, max_new_tokens=4).shape[1] > ids.shape[1]


def test_its_pairs_are_pairs(world: World) -> None:
    pairs = read_pairs(world.pairs_path)
    assert len(pairs) == len(world.pairs()) == TINY.pairs
    assert pairs[0].prompt.endswith("\n")
    assert pairs[0].meta["true_gap"] == world.pairs()[0]["true_gap"]
    assert len(world.held_out_pairs()) == TINY.held_out_pairs


def test_nothing_held_out_is_trained_on(world: World) -> None:
    seen = {row["prompt"] for row in world.pairs()}
    assert len(world.held_out_prompts) == TINY.held_out_prompts
    assert not seen & set(world.held_out_prompts)
    assert {row["prompt"] for row in world.held_out_pairs()} <= set(world.held_out_prompts)
    trained = {row["task"] for row in world.pairs()}
    new = [prompt for prompt, group in world.held_out_groups.items() if group == "new task"]
    assert len(new) == 4
    assert not any(task in prompt for task in trained for prompt in new)


def test_people_can_read_about_it(world: World) -> None:
    assert "64 for training" in world.describe()
    table = world.sample_table(3)
    assert table.count("chosen (") == 3
    assert world.pairs()[0]["why_rejected"] in table


def test_the_same_seed_gives_the_same_bytes(world: World, tmp_path: Path) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    threads = torch.get_num_threads()
    again = ensure(TINY, cache=tmp_path)
    assert again.metadata["files"] == world.metadata["files"]
    assert torch.equal(torch.rand(3), expected), "the global generator was touched"
    assert torch.get_num_threads() == threads
    assert not torch.are_deterministic_algorithms_enabled()


def test_more_pairs_leave_the_rest_as_it_is(world: World, tmp_path: Path) -> None:
    more = ensure(replace(TINY, pairs=80), cache=tmp_path)
    assert more.folder.name != world.folder.name
    differing = {name for name, digest in more.metadata["files"].items() if digest != world.metadata["files"][name]}
    assert differing == {"world.jsonl"}
    assert more.pairs()[:64] == world.pairs()


def test_another_seed_is_another_world() -> None:
    assert content_hash(TINY) != content_hash(WorldSpec.tiny(seed=1)) != content_hash(WorldSpec())


def test_a_finished_world_is_only_loaded(world: World, cache: Path) -> None:
    found, built = rebuilt(cache)
    assert not built
    assert found == world


@pytest.mark.parametrize("damage", ["truncate", "delete", "manifest", "manifest list", "no manifest", "empty folder"])
def test_a_damaged_world_is_built_again(world: World, tmp_path: Path, damage: str) -> None:
    folder = tmp_path / world.folder.name
    shutil.copytree(world.folder, folder)
    manifest = folder / "manifest.json"
    if damage == "truncate":
        weights = folder / "model" / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:-1])
    elif damage == "delete":
        (folder / "world.jsonl").unlink()
    elif damage == "manifest":
        manifest.write_text(manifest.read_text()[:40])
    elif damage == "manifest list":
        manifest.write_text("[]")
    elif damage == "no manifest":
        manifest.unlink()
    else:
        shutil.rmtree(folder)
        folder.mkdir()
    found, built = rebuilt(tmp_path)
    assert built
    assert found.metadata["files"] == world.metadata["files"]


def test_a_build_that_dies_leaves_nothing_and_remains_are_cleared(tmp_path: Path) -> None:
    def die(what: str, share: float) -> None:
        if what == "tuning the model":
            raise KeyboardInterrupt

    remains = tmp_path / f".world-{content_hash(TINY)}-killed"
    remains.mkdir()
    with pytest.raises(KeyboardInterrupt):
        ensure(TINY, cache=tmp_path, progress=die)
    assert [path.name for path in tmp_path.iterdir() if not path.name.endswith(".lock")] == []


def test_progress_rises_to_one(tmp_path: Path) -> None:
    shares: list[float] = []
    ensure(TINY, cache=tmp_path, progress=lambda what, share: shares.append(share))
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0, 1)


def _ensure_and_tell(cache: str, start: object, out: object) -> None:
    calls: list[str] = []
    start.wait()  # type: ignore[attr-defined]
    found = ensure(TINY, cache=Path(cache), progress=lambda what, share: calls.append(what))
    out.put((count_builds(calls), found.metadata["files"]))  # type: ignore[attr-defined]


@pytest.mark.extended
def test_two_processes_build_it_once(world: World, tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    start, out = context.Barrier(2), context.Queue()
    processes = [context.Process(target=_ensure_and_tell, args=(str(tmp_path), start, out)) for _ in range(2)]
    for process in processes:
        process.start()
    told = [out.get(timeout=120) for _ in processes]
    for process in processes:
        process.join(30)
    assert sorted(count for count, _ in told) == [0, 1]
    assert told[0][1] == told[1][1] == world.metadata["files"]


def test_two_threads_build_it_once(tmp_path: Path) -> None:
    calls: list[str] = []
    threads = [
        threading.Thread(target=ensure, args=(TINY,), kwargs={"cache": tmp_path, "progress": lambda w, s: calls.append(w)})
        for _ in "ab"
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert count_builds(calls) == 1


def test_the_environment_names_the_cache(world: World, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAB_CACHE", str(cache))
    assert ensure(TINY) == world


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"pairs": 0}, "pairs is 0; give 1 or more"),
        ({"kind": "worlds"}, "no kind of world 'worlds'; give one of: world, world-hard"),
        ({"length_bias": float("inf")}, "length_bias is inf; give a finite number"),
        ({"temperature": 0.0}, "temperature is 0.0; give a number above 0"),
        ({"sft_rate": float("nan")}, "sft_rate is nan"),
        ({"width": 30}, "width 30 is no multiple"),
        ({"vocabulary": 100}, "vocabulary is 100"),
        ({"held_out_prompts": 500}, "held_out_prompts is 500"),
    ],
)
def test_a_spec_that_cannot_work(change: dict, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        replace(TINY, **change)


def test_the_manifest_says_what_was_built(world: World) -> None:
    facts = json.loads((world.folder / "manifest.json").read_text())
    assert facts["spec"]["pairs"] == TINY.pairs
    assert set(facts["seconds"]) >= {"tuning the model", "training the tokenizer"}
    assert facts["parameters"] > 0


def test_its_pairs_are_recognized_after_the_cache_is_gone(world: World, tmp_path: Path) -> None:
    """Else runs on a stored set would lose the oracle without a word."""
    assert world_of(str(world.pairs_path)) == WorldSpec()
    assert world_of(str(tmp_path / "elsewhere" / world.folder.name / "world.jsonl")) == WorldSpec()
    own = tmp_path / world.folder.name
    own.mkdir()
    assert world_of(str(own / "world.jsonl")) is None
    assert world_of(str(tmp_path / "world-of-mine" / "world.jsonl")) is None


@pytest.mark.parametrize("name", ["world", "world:3", "world-hard", "world-hard:12"])
def test_the_source_of_a_set_names_its_world(name: str, tmp_path: Path) -> None:
    spec = WorldSpec.named(name)
    assert (spec.name, is_world_name(name)) == (name, True)
    folder = tmp_path / "gone" / folder_name(spec)
    assert world_of(str(folder / pairs_file(spec))) == spec
    assert world_of(str(folder / "mine.jsonl")) is None


def test_seed_0_is_the_world_itself() -> None:
    assert WorldSpec.named("world:0") == WorldSpec.named("world") == WorldSpec()


@pytest.mark.parametrize(
    "name", ["world:", "world:-1", "world:x", "world:1.5", "world:٣", "world-hard: 3", "world:3\n", "world:1234567890"]
)
def test_a_name_with_a_wrong_seed(name: str) -> None:
    assert is_world_name(name), "it would be taken for a file"
    with pytest.raises(WorldError, match="name one as world, world:3"):
        WorldSpec.named(name)


@pytest.mark.parametrize("name", ["worlds", "world-of-mine", "world/pairs", "my/world:3", "./world", "", "World"])
def test_other_names_are_no_worlds(name: str) -> None:
    assert not is_world_name(name)
