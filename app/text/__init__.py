"""Text on pages: facts about a run in words, labels, and data made safe for Markdown."""
