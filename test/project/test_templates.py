"""Owns: markup stands in templates alone, and nothing that a template is given can become markup.

Leaves to others: what the reports say (test/evaluation, test/training/report), that templates are installed
(test_packaging).
"""

from __future__ import annotations

import ast
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from jinja2 import UndefinedError
from paths import ROOT

from cnn_perception.pages.class_tables import class_tables
from cnn_perception.pages.rendering import render

PACKAGES = ("cnn_perception", "training", "demo", "benchmark")
TEMPLATES = sorted(path for package in PACKAGES for path in ROOT.glob(f"{package}/**/templates/*.html"))
TAGS = {tag for path in TEMPLATES for tag in re.findall(r"<([a-z]\w*)", path.read_text())}
"""Of HTML and SVG, as the templates use them."""
MARKUP = re.compile(rf"</?({'|'.join(sorted(TAGS))}|!doctype)\b", re.IGNORECASE)
FILES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def markup_in(source: str) -> list[str]:
    """The texts of a Python file that hold markup; those that stand alone are documentation."""
    nodes = list(ast.walk(ast.parse(source)))
    documentation = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
    texts = [node for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    return [node.value for node in texts if id(node) not in documentation and MARKUP.search(node.value)]


def test_the_tags_that_are_looked_for_are_those_of_html_and_svg():
    assert {"html", "section", "table", "td", "b", "svg", "rect", "polyline"} <= TAGS
    assert markup_in('"""A docstring with <b>."""\nx = f"<td>{1}</td>"\ny = "a <path> and <f4"\n') == ["<td>", "</td>"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_python_file_holds_html_or_svg(path):
    assert markup_in(path.read_text()) == []


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_template_takes_a_value_for_markup(path):
    assert not re.search(r"\|\s*safe\b|autoescape", path.read_text())


def test_a_value_that_a_template_is_not_given_is_an_error():
    with pytest.raises(UndefinedError, match="part"):
        render("cnn_perception.pages", "class_tables.html")


def test_every_name_is_escaped_and_written_as_valid_unicode():
    names = ("<script>alert(1)</script>", "\"quoted\" & 'so'", "two\nlines", "no UTF-8: \udcff", "{{ part }}")
    tables = class_tables(np.eye(len(names), dtype=np.int64), names, "<b>frames</b>")

    page = Page(render("cnn_perception.pages", "class_tables.html", part=tables))

    assert "script" not in page.tags
    assert "b" not in page.tags
    assert page.texts.count("<b>frames</b>") == 1
    for name in names:
        # in the head of the matrix, in its row, and in the table
        assert page.texts.count(name.replace("\udcff", "\\udcff")) == 3


class Page(HTMLParser):
    """The tags and texts of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)

    def handle_data(self, data):
        self.texts.append(data)
