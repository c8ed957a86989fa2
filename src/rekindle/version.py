"""The version of the package, where the modules below the front door can read it."""

__version__ = "0.1.0"
