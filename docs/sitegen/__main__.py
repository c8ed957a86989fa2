"""`python -m sitegen [SITE]`: build the site, or say on standard error why not (exit code 1)."""

from __future__ import annotations

import sys
from pathlib import Path

from sitegen.build import DocsError, build

root = Path(__file__).parents[2]
site = Path(sys.argv[1]) if len(sys.argv) > 1 else root / "site"
try:
    build(root, root / "build" / "docs", site)
except DocsError as error:
    sys.exit(f"the documentation was not built: {error}")
print(f"site: {(site / 'index.html').resolve()}")
