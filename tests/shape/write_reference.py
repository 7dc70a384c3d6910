"""Write docs/reference anew from the code: routes, events, errors, settings and commands.

python -m tests.shape.write_reference

What stands between the marks of a document is written; the words around them are kept.
"""

from tests.shape.reference import (
    commands_page,
    errors_page,
    events_page,
    routes_page,
    settings_page,
)
from tests.shape.reference.markdown import Page, filled

WRITERS = (routes_page, events_page, errors_page, settings_page, commands_page)


def written(page: Page) -> str:
    """The document as it should be."""
    return filled(page.document.read_text(), page.parts)


if __name__ == "__main__":
    for writer in WRITERS:
        page = writer.page()
        page.document.write_text(written(page))
