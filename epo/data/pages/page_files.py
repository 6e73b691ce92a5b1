"""Templates of the pages about data, and writing a page so that it is whole or not there."""

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template


def page_template(name: str) -> Template:
    """Return a template that lies beside this file; every value that goes into it is escaped."""
    loader = FileSystemLoader(Path(__file__).parent)
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True).get_template(name)


def write_whole(path: Path, text: str) -> None:
    """Write a file under another name first, so that a reader never finds half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


__all__ = ["page_template", "write_whole"]
