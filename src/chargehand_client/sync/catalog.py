"""Models and their providers."""

from collections.abc import Iterator
from typing import Unpack

from chargehand_client.calls import catalog as calls
from chargehand_client.documents import Model, Provider
from chargehand_client.options import ModelFilters
from chargehand_client.sync.connection import Connection


class Catalog(Connection):
    def models(self, **filters: Unpack[ModelFilters]) -> Iterator[Model]:
        """The models that the service knows of the providers that it can use, by name.

        See ModelFilters. Raises InvalidInput for a provider that there is not.
        """
        return self._list(calls.models(filters))

    def providers(self, *, check: bool = False) -> Iterator[Provider]:
        """Every provider of models, and what it needs where the service cannot use it.

        With ``check`` those that it can are asked whether they answer, which takes up to 5 s.
        """
        return self._list(calls.providers(check))
