"""Several bags in one report: found, each evaluated in a process of its own, pooled."""
