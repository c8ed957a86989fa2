"""Arms, seeds and base models side by side at an equal budget."""
