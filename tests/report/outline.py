"""What a page holds: its elements, its scripts, its text."""

import html.parser
import json


class Outline(html.parser.HTMLParser):
    """The elements of a page, the content of its scripts, and its text outside them."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.scripts, self.words = [], [], []
        self._script = None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag in ("script", "style"):
            self._script = dict(attrs), []

    def handle_endtag(self, tag):
        if tag in ("script", "style") and self._script:
            self.scripts.append((tag, self._script[0], "".join(self._script[1])))
            self._script = None

    def handle_data(self, data):
        (self._script[1] if self._script else self.words).append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())

    def data(self, name):
        (found,) = [c for _, attrs, c in self.scripts if attrs.get("id") == name]
        return json.loads(found)
