"""What a reward accepts and loses: graded answers, degenerate ones, and any signature."""
