"""What the log of a run tells: where its learning signal went, and what would bring it back."""
