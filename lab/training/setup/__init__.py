"""What happens before the first step: requirements, memory estimate, preflight, run context, branches and child processes."""
