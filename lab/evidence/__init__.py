"""Evidence from training about the pairs: never learned, forgotten, probably flipped; and planted defects to measure it."""

from .planting import DEFECTS, LOOK_ALIKES, Defect, Planted, plant

__all__ = ["DEFECTS", "LOOK_ALIKES", "Defect", "Planted", "plant"]
