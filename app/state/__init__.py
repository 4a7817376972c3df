"""What pages share in a session: the current run and step, background jobs, pair sets, addresses."""
