"""Two answers of which another column says which is better, and lists of answers with scores or ranks."""
