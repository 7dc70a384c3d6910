"""Write the table of the providers' contract into its place in the documentation.

python -m tests.adapters.write_contract_table
"""

from pathlib import Path

from tests.adapters.test_provider_contract import contract

DOCUMENT = Path(__file__).parents[2] / "docs" / "providers.md"
BEGIN, END = "<!-- contract table -->\n", "<!-- end of contract table -->\n"


def written(text: str) -> str:
    """The document with the contract's table between its marks."""
    before, _, rest = text.partition(BEGIN)
    _, found, after = rest.partition(END)
    assert found, f"{DOCUMENT} has lost its marks"
    return f"{before}{BEGIN}\n{contract.table()}\n\n{END}{after}"


if __name__ == "__main__":
    DOCUMENT.write_text(written(DOCUMENT.read_text()))
