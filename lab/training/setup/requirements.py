"""Checks of a configuration against this machine before a run is created, so that no failed run is left behind."""

from __future__ import annotations

from lab.run.config import TrainConfig
from lab.training.trackers import tracker_names


def check_requirements(config: TrainConfig) -> None:
    """Check trackers, device, precision, 4-bit support and the reward model's configuration, without loading anything.

    The model itself is checked by `check_model`.

    Raises:
        ConfigError: A tracker or a setting does not work here.
        ModelError: The device, or the reward model, does not work here.
    """
    tracker_names(config.trackers)
    if not _needs_torch(config):
        return
    from lab.policy.loading import check_precision, choose_device, four_bits
    from lab.policy.reward_model import check_reward_model

    device = choose_device(config.device)
    check_precision(config.precision, device)
    if config.quantize == "4bit":
        four_bits(device, config.lora)
    if config.reward_model:
        check_reward_model(config.reward_model)


def _needs_torch(config: TrainConfig) -> bool:
    """Return whether a check asks torch; the defaults work on every machine, and importing torch takes seconds."""
    half_on_gpu = config.precision == "bfloat16" and config.device != "cpu"
    return config.device not in ("auto", "cpu") or half_on_gpu or config.quantize != "none" or bool(config.reward_model)
