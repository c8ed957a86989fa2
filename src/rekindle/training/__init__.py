"""From a recipe to a finished run; reward models' training."""
