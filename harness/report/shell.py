"""What all our pages have in common: head, look and foot, figures, and tables that scroll."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from urllib.parse import quote

from harness import __version__
from harness.report.chapters import Shown
from harness.report.drawing import Missing
from harness.report.look import CSS, SCRIPT, policy


def shell(*, title: str, eyebrow: str, name: str, description: str, header: str, main: str, footer: str) -> str:
    """The whole document. `header` and `main` are HTML, all else is text."""
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{escape(policy())}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<title>{escape(title)}</title>
<link rel="icon" href="data:,">
<style>{CSS}</style>
</head>
<body>
<header>
<p class="eyebrow">connection-harness {escape(__version__)}, {escape(eyebrow)}</p>
<h1>{escape(name)}</h1>
{f'<p class="lead">{escape(description)}</p>' if description else ""}
{header}
</header>
<main>
{main}
</main>
<footer>Nothing on this page is fetched from anywhere. {escape(footer)}</footer>
<script>{SCRIPT}</script>
</body>
</html>
"""


def scrolled(text: str, name: str) -> str:
    return f'<div class="scroll" role="region" aria-label="{escape(name)}" tabindex="0">{text}</div>'


def figures_html(found: Sequence[Shown | Missing]) -> str:
    """Figures in a row as far as they go; in the place of those that cannot be drawn, why."""
    drawn = "".join(_figure(one) for one in found if isinstance(one, Shown))
    texts = "".join(f'<p class="missing">{escape(one.text)}</p>' for one in found if isinstance(one, Missing))
    return (f'<div class="figures">{drawn}</div>' if drawn else "") + texts


def _figure(one: Shown) -> str:
    files = ", ".join(
        f'<a href="{quote(one.folder)}/{quote(one.stem)}.{form}">{form.upper()}</a>' for form in ("svg", "png", "csv")
    )
    inside = (
        f'<div class="scroll" tabindex="0" role="group" aria-label="{escape(one.title)}">{one.svg}</div>'
        if one.size != "narrow"
        else one.svg
    )
    return (
        f'<figure class="{one.size}"><p class="title">{escape(one.title)}</p>{inside}'
        f'<figcaption>{escape(one.caption)} <span class="links">{files}</span></figcaption></figure>'
    )
