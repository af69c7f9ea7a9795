"""The report of an experiment: what was run, how well it works, how it was learnt."""
