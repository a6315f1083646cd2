"""HTML and SVG out of templates: the one place that knows Jinja2.

A package keeps its templates in a folder `templates`; those of this package are `pages/NAME` to all others. Whatever
a template shows is escaped, and a value that it names and is not given is an error.
"""

from __future__ import annotations

from functools import cache

from jinja2 import ChoiceLoader, Environment, PackageLoader, PrefixLoader, StrictUndefined

from cnn_perception.files import as_utf8

_SHARED = "cnn_perception.pages"


def render(package: str, template: str, **values: object) -> str:
    """Returns the text that a template gives.

    Args:
        package: Dotted name of the package that has the template.
        template: Its file name, or `pages/NAME`.
        values: What it shows: texts, numbers and records of them, never HTML.

    Returns:
        Valid Unicode; bytes of a file name that are none are written as escape sequences.
    """
    text = _environment(package).get_template(template).render(values)
    return as_utf8(text).decode()


def percent(share: float | None) -> str:
    """Returns a share as a percentage; a dash for None. In templates it is a filter."""
    return "\N{EN DASH}" if share is None else f"{share:.1%}"


@cache
def _environment(package: str) -> Environment:
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(package), PrefixLoader({"pages": PackageLoader(_SHARED)})]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["percent"] = percent
    return environment
