"""Links of the pages, as they are in the repository, become links of the site.

In the repository a page may link to a file beside the pages, such as ``../results/zero.csv``. Such
a file, or a list of such a folder, is put into the site below ``repository/``, and the link leads
there. So the site needs no other server. A link to a notebook's source leads to its page.
"""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from posixpath import normpath, relpath

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
SITE_PAGES = {"CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
PLACE = "repository"
SHOWN = {".py": "python", ".toml": "toml", ".yml": "yaml"}
CODE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(?<=\]\()(?!\w+:|#)([^)#\s]+)(?=[)#])")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    for source, page in SITE_PAGES.items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / source)))
    waiting = [file for file in files if file.is_documentation_page()]
    while waiting:
        here = waiting.pop()
        for link in LINK.findall(CODE.sub("", here.content_string)):
            target = target_of(link, here.src_uri)
            place = place_of(target)
            wanted = place.startswith(PLACE) and (ROOT / target).exists()
            if wanted and files.get_file_from_path(place) is None:
                file = made(target, config)
                files.append(file)
                waiting += [file] if file.is_documentation_page() else []
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    here = page.file.src_uri

    def moved(match: re.Match[str]) -> str:
        target = place_of(target_of(match[1], here))
        return relpath(target, PurePosixPath(here).parent) if target in files.src_uris else match[1]

    return LINK.sub(moved, markdown)


def target_of(link: str, page: str) -> str:
    """What a link of a page leads to, from the root of the repository."""
    first, _, rest = page.partition("/")
    sources = {place: source for source, place in SITE_PAGES.items()}
    source = rest if first == PLACE else sources.get(page, f"docs/{page}")
    target = normpath(f"{PurePosixPath(source).parent}/{link}")
    is_notebook = target.startswith("docs/notebooks/") and target.endswith(".py")
    return str(PurePosixPath(target).with_suffix(".md")) if is_notebook else target


def place_of(target: str) -> str:
    """Where the site has a file of the repository."""
    if target in SITE_PAGES:
        return SITE_PAGES[target]
    if target.startswith("docs/"):
        return target.removeprefix("docs/")
    path = PurePosixPath(PLACE, target)
    if (ROOT / target).is_dir():
        return str(path / "index.md")
    return str(path.with_suffix(".md") if path.suffix in SHOWN else path)


def made(target: str, config: MkDocsConfig) -> File:
    """The site's copy of a file of the repository, outside the navigation."""
    source, place = ROOT / target, place_of(target)
    hidden = {"inclusion": InclusionLevel.NOT_IN_NAV}
    if source.is_dir():
        names = sorted(p.name for p in source.iterdir() if p.is_file() and p.suffix != ".md")
        lines = [f"# {target}", "", *(f"- [{name}]({name})" for name in names)]
        return File.generated(config, place, content="\n".join(lines), **hidden)
    if source.suffix in SHOWN:
        code = source.read_text(encoding="utf-8").rstrip()
        content = f"# {target}\n\n```{SHOWN[source.suffix]}\n{code}\n```\n"
        return File.generated(config, place, content=content, **hidden)
    return File.generated(config, place, abs_src_path=str(source), **hidden)
