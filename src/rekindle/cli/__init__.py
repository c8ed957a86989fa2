"""The command line: thin, lazy, and polite about errors."""
