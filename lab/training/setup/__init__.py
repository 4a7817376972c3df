"""Set-up of a run: requirements, memory estimate, preflight, run context, branches and child processes."""
