"""The Playground page: objectives as landscapes."""
