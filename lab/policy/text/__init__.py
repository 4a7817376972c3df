"""Text and token ids: chat templates, encoding, and the text of each token."""
