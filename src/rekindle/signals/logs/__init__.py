"""What trainers leave on disk, read into one shape: one file a trainer."""
