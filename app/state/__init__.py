"""State that pages share: the current run and step, background jobs, pair sets, addresses."""
