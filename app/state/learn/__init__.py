"""The state of the Learn page in its address, and links to it."""
