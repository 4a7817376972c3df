"""Reusable parts of pages: figures, forms, dialogs, token heat maps, pair view, shortcuts."""
