"""Papers, one file or folder each; `catalog.py` has a row for every method."""
