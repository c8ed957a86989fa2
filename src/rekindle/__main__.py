"""`python -m rekindle` is `rekindle`."""

from rekindle.cli.main import main

main()
