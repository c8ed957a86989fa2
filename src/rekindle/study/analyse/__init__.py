"""What follows from the runs of a study."""
