"""The objectives, one file per paper or family; importing a module registers its objectives."""
