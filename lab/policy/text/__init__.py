"""Text and token ids: chat templates, encoding, and the pieces of text behind tokens."""
