"""Lists of runs: summaries from an index, filters and order, names, tags and notes, the archive and the trash."""
