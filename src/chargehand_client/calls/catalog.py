"""Models and their providers. Pure."""

from chargehand_client.documents import Model, Provider
from chargehand_client.options import ModelFilters
from chargehand_client.requests import Listing, pages


def models(filters: ModelFilters) -> Listing[Model]:
    return pages("models", parameters=filters)


def providers(check: bool) -> Listing[Provider]:
    return pages("models", "providers", parameters={"check": check or None}, limit=None)
