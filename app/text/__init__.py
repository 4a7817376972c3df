"""Text on pages: descriptions of a run, labels, and data escaped for Markdown."""
