"""``models``: which models and providers the service can use, through the client package."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

from chargehand.cli import completion, options, output

Document = Mapping[str, Any]


def models(
    provider: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Only this provider's.",
            callback=output.utf8,
            autocompletion=completion.providers,
        ),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Ask the providers whether they answer.")
    ] = False,
    as_json: output.AsJson = False,
) -> None:
    """List the models to choose from.

    Those that the service knows of the providers that are connected, with their prices; a provider
    may have more. The service is the one of CHARGEHAND_URL and CHARGEHAND_KEY, or of a profile.

    Example: chargehand models --provider openai --check
    """
    with options.service() as chargehand:
        found = list(chargehand.models(provider=provider))
        # Also where nothing is found: they say why.
        shown = [
            one
            for one in (chargehand.providers(check=check) if check or not found else ())
            if provider in (None, one["name"])
        ]
    if as_json:
        output.print_document({"items": found, **({"providers": shown} if check else {})})
    else:
        _show(found, shown, check)


def _show(found: Sequence[Document], providers: Sequence[Document], check: bool) -> None:
    if check:
        columns = ("provider", "connected", "available", "latency", "problem or remedy")
        output.print_table(columns, [_provider_row(provider) for provider in providers])
        print()
    if found:
        columns = ("provider", "model", "context", "input per million", "output per million")
        output.print_table(columns, [_model_row(model) for model in found])
        return
    for provider in providers:
        print(output.visible(_why_none(provider)))


def _provider_row(provider: Document) -> Sequence[str]:
    availability = provider["availability"]
    if availability is None:
        told = ("-", "-")
    else:
        told = (_yes_or_no(availability["available"]), f"{availability['latency_ms']} ms")
    problem = provider["remedy"] or (availability or {}).get("problem") or ""
    return (provider["name"], _yes_or_no(provider["connected"]), *told, problem)


def _model_row(model: Document) -> Sequence[str]:
    window, prices = model["context_window"], model["prices"]
    costs = (
        ("unpriced", "unpriced")
        if prices is None
        else (
            f"{prices['input_per_million']} {prices['currency']}",
            f"{prices['output_per_million']} {prices['currency']}",
        )
    )
    context = "unknown" if window is None else f"{window:,}"
    return (model["provider"], model["name"], context, *costs)


def _why_none(provider: Document) -> str:
    name = provider["name"]
    if not provider["connected"]:
        return f"Provider {name} is not connected: {provider['remedy']}."
    told = f"No model of {name} is known beforehand; an agent may name any that it has."
    availability = provider["availability"] or {"models": []}
    if not availability["models"]:
        return told
    more = f" and {availability['more']} more" if availability["more"] else ""
    return f"{told} It lists {', '.join(availability['models'])}{more}."


def _yes_or_no(value: bool) -> str:
    return "yes" if value else "no"
