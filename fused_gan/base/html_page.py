"""HTML pages that need no other file. The reports of runs and studies are made with them."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable, Sequence
from pathlib import Path

from fused_gan.base.files import atomic_write

PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222; }}
h1, h2 {{ line-height: 1.2; }}
img {{ max-width: 100%; height: auto; }}
figure {{ margin: 1rem 0; }}
figcaption {{ color: #555; font-size: 0.9rem; }}
table {{ border-collapse: collapse; font-size: 0.9rem; }}
th, td {{ padding: 0.15rem 0.8rem 0.15rem 0; text-align: left; }}
td.number {{ text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }}
.wide {{ overflow-x: auto; width: max-content; max-width: 96vw; position: relative; left: 50%;
  transform: translateX(-50%); }}
.wide table {{ font-size: 0.85rem; }}
.wide td {{ min-width: 3.5rem; }}
.verdict {{ border-left: 4px solid #c60; background: #fff4e5; padding: 0.5rem 1rem; margin: 0.5rem 0; }}
.well {{ border-left: 4px solid #284; background: #eef8f0; padding: 0.5rem 1rem; }}
.strip {{ display: flex; flex-wrap: wrap; gap: 1rem; }}
.strip figure {{ margin: 0; width: 18rem; }}
pre {{ background: #f5f5f5; padding: 1rem; overflow-x: auto; font-size: 0.85rem; }}
</style>
</head>
<body>
<h1>{title}</h1>
{body}
</body>
</html>
"""


def write_page(path: Path, title: str, body: Iterable[str]) -> None:
    """Write a page: a title, as text, and a body of HTML."""
    with atomic_write(path) as temporary:
        temporary.write_text(PAGE.format(title=html.escape(title), body="\n".join(body)), "utf-8")


def table(head: Sequence[str], rows: Sequence[Sequence[str]], texts: int = 1) -> str:
    """Return an HTML table. The first `texts` columns are words, the others numbers."""
    cells = "".join(f"<th>{html.escape(name)}</th>" for name in head)
    lines = "".join(
        "<tr>"
        + "".join(f"<td>{html.escape(cell)}</td>" for cell in row[:texts])
        + "".join(f'<td class="number">{html.escape(cell)}</td>' for cell in row[texts:])
        + "</tr>"
        for row in rows
    )
    return f"<table><tr>{cells}</tr>{lines}</table>"


def figure(path: Path, caption: str) -> str:
    """Return an HTML figure of a picture file with its caption, or "" if the file does not exist."""
    if not path.is_file():
        return ""
    return f"<figure>{image(path.read_bytes(), caption)}<figcaption>{html.escape(caption)}</figcaption></figure>"


def image(png: bytes, alternative: str) -> str:
    """Return an HTML image that holds the bytes of a PNG."""
    return f'<img alt="{html.escape(alternative)}" src="data:image/png;base64,{base64.b64encode(png).decode()}">'
