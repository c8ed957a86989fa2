"""How the runs of a study are run."""
