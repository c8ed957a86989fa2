"""What a study asks: its file, checks, and the runs that follow from it."""
