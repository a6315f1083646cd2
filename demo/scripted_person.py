"""Somebody who labels by the keyboard as a script says, in a real browser: for the demo's loop, and for tests.

    with serving(Path("SET")) as address, chromium() as browser:
        person = ScriptedPerson(browser.new_page(), address)
        person.label(lambda path: truth[path])

A person looks at the picture that is shown, finds the key on the button of its class, and presses it.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from cnn_perception.errors import LONGEST_MESSAGE, ConfigError, one_line
from demo.processes import START_S, announcing, child_environment, module_command

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

PATIENCE_MS = 60_000
"""How long the page may take for anything, on a machine that does much else."""


@contextmanager
def chromium() -> Iterator[Browser]:
    """Starts the machine's Chromium without a window.

    Raises:
        ConfigError: If there is none, or a page does not show in time what is waited for.
    """
    from playwright.sync_api import Error, sync_playwright

    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        raise ConfigError("no Chromium is installed; apt install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        try:
            yield browser
        except Error as error:
            raise ConfigError(f"Chromium: {one_line(error, LONGEST_MESSAGE)}") from error
        finally:
            browser.close()


@contextmanager
def serving(table: Path, options: Sequence[str] = (), start_s: float = START_S) -> Iterator[str]:
    """Runs training.label on a table; gives the address of its page, and ends it as Ctrl-C does.

    Args:
        table: Of the images.
        options: Further ones of the command line.
        start_s: Seconds within which it has to say the address.

    Raises:
        ConfigError: If it does not start in time; it has said why.
    """
    command = module_command("training.label", table, "--no-browser", *options)
    name = f"python -m training.label {table}"
    with announcing(name, command, child_environment(), "stdout", r"^(http://\S+)", start_s) as address:
        yield address


class ScriptedPerson:
    """Labels what the page shows."""

    def __init__(self, page: Page, address: str) -> None:
        """Opens the page.

        Args:
            page: A tab of a browser.
            address: That the program printed.
        """
        self.page = page
        self.address = address
        page.set_default_timeout(PATIENCE_MS)
        page.goto(address)
        page.wait_for_selector("body[data-ready]")

    @property
    def left(self) -> int:
        """How many images nobody has decided on."""
        return int(self.page.get_attribute("body", "data-left") or 0)

    def seen(self) -> str:
        """Returns the path, as the table has it, of the picture that is shown."""
        self.page.wait_for_selector("body[data-shown]:not([data-busy])")
        return self.page.get_attribute("body", "data-shown") or ""

    def key_of(self, name: str) -> str:
        """Returns the key that stands on the button of a class, or of a command such as `none` and `skip`."""
        buttons = self.page.locator("#classes button")
        keys = buttons.evaluate_all("all => all.map(one => [one.dataset.class, one.getAttribute('aria-keyshortcuts')])")
        return dict(keys).get(name) or self.page.locator(f"[data-command={name}] kbd").inner_text()

    def label(self, answer: Callable[[str], str], most: int | None = None) -> int:
        """Presses a key for each image that is shown, until none is left.

        Args:
            answer: Returns the class of a path; or `none`, `skip` or `accept`.
            most: Ends after so many.

        Returns:
            How many images were decided on.
        """
        count = 0
        while self.left and count != most:
            before = self.left
            self.page.keyboard.press(self.key_of(answer(self.seen())))
            self.page.wait_for_selector(f"body:not([data-left='{before}'])")
            count += 1
        return count
