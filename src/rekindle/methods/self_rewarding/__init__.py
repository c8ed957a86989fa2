"""Self-rewarding and temporal self-rewarding, and what both need: rounds, judges, judge data."""
