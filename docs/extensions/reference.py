"""The directive `reference`: a part of a page that is read from the code when the page is built.

    ```{reference} parameters cnn_perception.camera_node.node.CameraNodeSettings
    ```

Its first word is a generator of `GENERATORS`, the others are the generator's. What stands in it is what only a person
can say of names that the generator finds; a name without such words, or words without a name, is an error of the page.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from extensions import api, launch_files, model_file, parameters, parsers, refusals, topics
from extensions.markdown import described

ROOT = Path(__file__).resolve().parents[2]
GENERATORS: dict[str, Callable[..., str]] = {
    "parameters": parameters.of_record,
    "settings": parsers.settings,
    "options": parsers.options,
    "launch": launch_files.arguments,
    "topics": topics.of_program,
    "message": topics.fields,
    "exit_codes": model_file.exit_codes,
    "record": model_file.record,
    "errors": refusals.of_error,
    "api": api.of_face,
}
"""Each takes the words behind its name, and what the page says of names; returns Markdown."""


class Reference(SphinxDirective):
    """A part of a page that is read from the code."""

    required_arguments = 1
    optional_arguments = 9
    has_content = True

    def run(self) -> list[nodes.Node]:
        """Returns what the generator wrote."""
        name, *words = self.arguments
        try:
            written = GENERATORS[name](*words, **self._body())
        except (KeyError, ValueError) as error:
            raise self.error(f"{name}: {error}") from error
        return self.parse_text_to_nodes(written, allow_section_headings=True)

    def _body(self) -> dict[str, Any]:
        return {"said": described("\n".join(self.content))} if self.content else {}


def setup(app: Sphinx) -> dict[str, bool]:
    """Adds the directive."""
    if str(ROOT) not in sys.path:
        sys.path.insert(0, str(ROOT))
    app.add_directive("reference", Reference)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
