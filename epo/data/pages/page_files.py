"""Templates of the pages about data."""

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

PAGES = Path(__file__).parent
"""Where the templates lie, among them pieces that other pages take too."""


def page_template(name: str) -> Template:
    """Return a template that lies beside this file; every value that goes into it is escaped."""
    loader = FileSystemLoader(PAGES)
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True).get_template(name)


__all__ = ["PAGES", "page_template"]
