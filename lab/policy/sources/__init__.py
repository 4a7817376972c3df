"""Model sources: check and read a model given as a folder, hub id, adapter or GGUF file."""
