"""Which relative paths may stand in an archive, a manifest or a workspace (SPEC TOL-2); pure."""

import unicodedata

MAX_COMPONENT_BYTES = 255
MAX_PATH_BYTES = 1024
MAX_DEPTH = 64


def problem_of(path: str) -> str | None:
    """What is wrong with a relative path of a file, or None.

    A good path has 1 to 64 components parted by ``/``, none of them empty, ``.`` or ``..``, each at
    most 255 bytes of UTF-8, at most 1,024 bytes together, without backslashes and control
    characters.
    """
    if path.startswith("/"):
        return "the name is absolute"
    components = path.split("/")
    if len(components) > MAX_DEPTH:
        return f"it lies more than {MAX_DEPTH} folders deep"
    named = next(filter(None, map(_problem_of_component, components)), None)
    return named or _problem_of_text(path)


def _problem_of_component(component: str) -> str | None:
    if not component:
        return "the name has an empty component"
    if component in (".", ".."):
        return f"the name has the component {component!r}"
    if len(component.encode("utf-8", "surrogatepass")) > MAX_COMPONENT_BYTES:
        return f"a component of the name is longer than {MAX_COMPONENT_BYTES} bytes"
    return None


def _problem_of_text(path: str) -> str | None:
    if "\\" in path:
        return "the name has a backslash"
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in path):
        return "the name has a control character or is not Unicode text"
    if len(path.encode()) > MAX_PATH_BYTES:
        return f"the name is longer than {MAX_PATH_BYTES} bytes"
    return None
