"""The objectives, one file per paper or family. Importing a module registers its objectives."""
