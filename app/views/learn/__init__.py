"""The Learn page: objectives explored as fields, batches, and steps of a real model."""
