"""Parts of the Live page: what is redrawn while a run trains."""
