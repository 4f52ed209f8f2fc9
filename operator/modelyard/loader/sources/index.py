"""Directory indexes of web servers, read as rclone's http remote reads them: the links of an HTML page.

A link counts when it leads to the same origin, to a direct child of the page's folder, with no query or fragment; one
that ends in / is a folder.
"""

from __future__ import annotations

import re
from html.parser import HTMLParser
from urllib.parse import unquote, urljoin, urlsplit

from modelyard.loader.transport import origin

_PLAIN = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*/?")
"""A name in the page's own folder, with nothing to decode: nearly every link of an index."""


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "a":
            self.links.extend(value for name, value in attrs if name == "href" and value)


def children(page_url: str, html: str) -> list[tuple[str, str]]:
    """Name and URL of each child of the page's folder, without duplicates; a folder's name ends in /."""
    parser = _Links()
    parser.feed(html)
    parser.close()
    found: dict[str, str] = {}
    folder, below = urlsplit(page_url).path, urljoin(page_url, ".")
    for link in parser.links:
        if _PLAIN.fullmatch(link):
            found.setdefault(link, below + link)
            continue
        try:
            url = urljoin(page_url, link.strip())
            parts = urlsplit(url)
            same = origin(url) == origin(page_url)
        except ValueError:
            continue
        if not same or parts.query or parts.fragment or "?" in link or "#" in link:
            continue
        name = unquote(parts.path)[len(unquote(folder)) :]
        if not unquote(parts.path).startswith(unquote(folder)) or name.rstrip("/") in ("", ".", ".."):
            continue
        if "/" in name[:-1]:
            continue
        found.setdefault(name, url)
    return sorted(found.items())
