"""What a text states as its answer, and whether it is right: exact, numeric, math."""
