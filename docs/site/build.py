"""Build the pages of the project and an API reference as a site, from the sources alone: nothing of ours is imported.

Run by `make docs` in the environment `.venv-docs`. Pages are copied as they lie in the project, so that a link leads
to the same place on a code host and in the site. A warning of the generator, of a link or a docstring, ends the build.
"""

import argparse
import ast
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("epo", "compressor", "launch")
_TITLES = {
    "epo": "The library",
    "compressor": "MambaCompressor, which needs nothing of the library",
    "launch": "Stages",
}
_MENTION = re.compile(r"(?<!\]\()(?<![\w/\[`])docs/(\w+\.md)(?![\w\]`])")


class SiteError(ValueError):
    """Why the site cannot be built."""


def main() -> None:
    """Build the site; end with exit code 2 and what is wrong where it cannot be built without a warning."""
    parser = argparse.ArgumentParser(description="Build the pages and the API reference as a site.")
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "site", help="folder for what is gathered")
    parser.add_argument("--out", type=Path, default=ROOT / "site", help="folder of the site; it is written anew")
    arguments = parser.parse_args()
    try:
        print(f"{build(ROOT, arguments.work, arguments.out)} pages; open {arguments.out / 'index.html'}")
    except SiteError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


def build(root: Path, work: Path, out: Path) -> int:
    """Build the site of the project in `root` and return its number of pages."""
    config = yaml.safe_load((root / "docs" / "site" / "site.yml").read_text(encoding="utf-8"))
    shutil.rmtree(work, ignore_errors=True)
    pages = work / "pages"
    copy_pages(root, pages, listed(config["nav"]))
    config["nav"].append({"API": write_reference(root, pages / "api")})
    config["plugins"][-1]["mkdocstrings"]["handlers"]["python"]["paths"] = [str(root)]
    config |= {"docs_dir": "pages", "site_dir": "site"}
    (work / "mkdocs.yml").write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    generate(work)
    shutil.rmtree(out, ignore_errors=True)
    shutil.move(work / "site", out)
    return len(list(out.rglob("*.html")))


def listed(nav: list) -> list[str]:
    """Return the paths of a navigation, in order."""
    paths = []
    for entry in nav:
        for value in entry.values() if isinstance(entry, dict) else [entry]:
            paths += listed(value) if isinstance(value, list) else [value]
    return paths


def copy_pages(root: Path, pages: Path, paths: list[str]) -> None:
    """Copy the listed pages, and what they show, to the places they have in the project.

    Raises:
        SiteError: a page of docs/ is not listed or twice, or a listed one does not exist.
    """
    have = {path.relative_to(root).as_posix() for path in (*root.glob("*.md"), *root.glob("docs/*.md"))}
    wrong = {"in one place only": have ^ set(paths), "twice": {path for path in paths if paths.count(path) > 1}}
    faults = [f"{what}: {', '.join(sorted(names))}" for what, names in wrong.items() if names]
    if faults:
        raise SiteError(f"docs/site/site.yml: its nav does not list every page once; {'; '.join(faults)}")
    for path in paths:
        text = (root / path).read_text(encoding="utf-8")
        target = pages / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(link_mentions(text, "" if path.startswith("docs/") else "docs/"), encoding="utf-8")
    for path in (root / "LICENSE", *root.glob("docs/*.svg"), *root.glob("docs/*.png"), root / "docs/site/site.css"):
        target = pages / (path.name if path.parent.name == "site" else path.relative_to(root))
        shutil.copyfile(path, target)


def link_mentions(text: str, folder: str) -> str:
    """Make links of pages that are named in plain words, such as "(docs/data.md)", outside of code.

    Args:
        text: a page.
        folder: where docs/ is, seen from that page: "docs/", or "" in docs/ itself.
    """
    blocks = re.split(r"(^```.*?^```$)", text, flags=re.MULTILINE | re.DOTALL)
    blocks[::2] = [_MENTION.sub(rf"[docs/\1]({folder}\1)", block) for block in blocks[::2]]
    return "".join(blocks)


def write_reference(root: Path, folder: Path) -> list:
    """Write a page for every module and a list of modules for every package; return their navigation."""
    folder.mkdir(parents=True)
    nav: list = ["api/index.md"]
    lines = ["# API reference", "", "Made from the docstrings.", ""]
    for package in PACKAGES:
        lines += [f"- [`{package}`]({package}/index.md): {_TITLES[package]}"]
        nav.append({package: write_package(root, root / package, folder / package)})
    (folder / "index.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return nav


def write_package(root: Path, source: Path, folder: Path) -> list:
    """Write the pages of a package and of those below it; return their navigation, its own page first."""
    folder.mkdir()
    place = source.relative_to(root)
    name = ".".join(place.parts)
    nav: list = [f"api/{place}/index.md"]
    lines = [f"# {name}", "", f"::: {name}", "    options: {members: false}", ""]
    names = public_names(root, source / "__init__.py")
    if names:
        lines += [
            "| name | what |",
            "|---|---|",
            *(f"| [`{name}`][{home}] | {what} |" for name, home, what in names),
            "",
        ]
    lines += ["| module | what |", "|---|---|"]
    for path in sorted(source.iterdir()):
        if (path / "__init__.py").is_file():
            nav.append({path.name: write_package(root, path, folder / path.name)})
            lines.append(f"| [{name}.{path.name}]({path.name}/index.md) | {summary(path / '__init__.py')} |")
        elif path.suffix == ".py" and not path.name.startswith("__"):
            module = f"{name}.{path.stem}"
            (folder / f"{path.stem}.md").write_text(f"# {module}\n\n::: {module}\n", encoding="utf-8")
            nav.append({path.stem: f"api/{place}/{path.stem}.md"})
            lines.append(f"| [{module}]({path.stem}.md) | {summary(path)} |")
    (folder / "index.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return nav


def public_names(root: Path, path: Path) -> list[tuple[str, str, str]]:
    """Return what a package offers by name, loaded lazily: each name, where it is from, and what it is.

    Such a package tells type checkers where its names come from, below `if TYPE_CHECKING:`.
    """
    found = []
    for block in parsed(path).body:
        for line in block.body if isinstance(block, ast.If) else ():
            if isinstance(line, ast.ImportFrom) and line.module is not None:
                module = root / f"{line.module.replace('.', '/')}.py"
                what = {getattr(node, "name", None): node for node in parsed(module).body}
                for each in line.names:
                    told = first_sentence(what[each.name]) if each.name in what else ""
                    found.append((each.asname or each.name, f"{line.module}.{each.name}", told))
    return sorted(found)


def summary(path: Path) -> str:
    """Return the first sentence of a module."""
    return first_sentence(parsed(path))


def parsed(path: Path) -> ast.Module:
    """Return the syntax tree of a module."""
    return ast.parse(path.read_text(encoding="utf-8"))


def first_sentence(node: Any) -> str:
    """Return the first paragraph of a docstring, on one line of a table."""
    docstring = ast.get_docstring(node) or ""
    return docstring.split("\n\n")[0].replace("\n", " ").replace("|", "\\|")


def generate(work: Path) -> None:
    """Run the generator on what was gathered.

    Raises:
        SiteError: it failed or warned of anything, a link that leads nowhere or a docstring unlike its function.
    """
    command = [sys.executable, "-I", "-m", "zensical", "build", "--strict", "--clean", "-f", str(work / "mkdocs.yml")]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    output = re.sub(r"\x1b\[[\d;]*m", "", done.stdout)  # without colours
    if done.returncode != 0 or re.search(r"warning|griffe|error", output, re.IGNORECASE):
        told = output.partition("Traceback (most recent call last)")[0].strip()
        raise SiteError(f"the generator says:\n{told or output}")


if __name__ == "__main__":
    main()
