"""Pictures of runs: what a run's files say, drawn as one page. It needs no torch and no cloud."""
