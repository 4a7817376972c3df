"""What cannot work on this machine is refused before a run is made of it, so that no failed run is left behind."""

from __future__ import annotations

from lab.policy.loading import check_precision, choose_device, four_bits
from lab.policy.reward_model import check_reward_model
from lab.run.config import TrainConfig
from lab.training.trackers import tracker_names


def refuse_what_cannot_work(config: TrainConfig) -> None:
    """Looks at trackers, device, precision, 4 bits and the reward model's configuration; loads nothing. The model itself is
    `check_model`'s. Raises ConfigError or ModelError in one sentence."""
    tracker_names(config.trackers)
    device = choose_device(config.device)
    check_precision(config.precision, device)
    if config.quantize == "4bit":
        four_bits(device, config.lora)
    if config.reward_model:
        check_reward_model(config.reward_model)
