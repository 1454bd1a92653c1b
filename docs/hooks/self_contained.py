"""The site must ask no other server for anything: no fonts, scripts, styles or pictures."""

from __future__ import annotations

import re
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.pages import Page

ASKED = re.compile(
    r'<(?:script|img|iframe|source|link)\b[^>]*?(?:src|href)="?((?:https?:)?//[^ ">]+)'
)


def on_post_page(output: str, page: Page, **_: Any) -> str:
    if found := ASKED.findall(output):
        raise PluginError(f"{page.file.src_uri} loads from elsewhere: {', '.join(found)}")
    return output
