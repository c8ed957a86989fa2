"""Rekindle inside other trainers. Nothing here is imported by the rest of the package."""
