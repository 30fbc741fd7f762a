"""MkDocs hook: links from docs/ to other files of the repository, as the site can follow them.

In the repository, ``[`SDE`](../packages/vpsde/src/vpsde/sde.py)`` opens the file. The site holds no
such file: there, a link to an object of a package leads to its entry in the API, and any other one
becomes the path as code.
"""

import re
from pathlib import Path, PurePosixPath
from posixpath import normpath
from typing import Any

ROOT = Path(__file__).parents[1]
LINK = re.compile(r"(?<!!)\[([^\]]+)\]\(((?:\.\./)+[^)#\s]+)\)")


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Return the page's Markdown with its links out of docs/ replaced.

    Raises:
        FileNotFoundError: if a link leads to no file of the repository.
    """
    folder = PurePosixPath("docs") / PurePosixPath(page.file.src_uri).parent

    def replaced(link: re.Match[str]) -> str:
        text, path = link[1], PurePosixPath(normpath(folder / link[2]))
        if path.is_relative_to("docs"):
            return link[0]
        if not (ROOT / path).exists():
            raise FileNotFoundError(f"{page.file.src_uri} links to {path}, which is not there")
        if "src" in path.parts and path.suffix == ".py":
            module = ".".join(path.with_suffix("").parts[3:])
            return f"[{text}][{module}.{text.strip('`')}]"
        return f"{text} (`{path}`)" if text.strip("`") != str(path) else f"`{path}`"

    return LINK.sub(replaced, markdown)
