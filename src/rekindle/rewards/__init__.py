"""Text in, score out. A score is a value, or missing with a reason; never a silent 0."""
