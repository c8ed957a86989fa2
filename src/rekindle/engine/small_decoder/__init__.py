"""The twin of small Llama-like models for decoding: the same numbers, less time."""
