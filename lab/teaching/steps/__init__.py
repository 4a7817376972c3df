"""The training of the embedded world's model, one optimizer step at a time."""
