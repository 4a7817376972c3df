"""Training of a run: the loop, its steps, checkpoints and evaluations, and the thread or process that trains it."""
