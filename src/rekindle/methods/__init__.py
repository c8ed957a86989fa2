"""Papers, one file or folder each; `methods.json` has a row for every method."""
