"""Builds the documentation site: `make docs`, or `PYTHONPATH=docs python -m sitegen`."""
