"""An agent's document: every violation at once, each where it is."""

from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.factories.agents import NOTHING_CONNECTED, agent_document, config_document

from chargehand.agents.configuration import AgentConfig, Queue, stored_config
from chargehand.agents.installed import AVAILABLE, Capability, Installed
from chargehand.agents.schemas import AgentCreate, AgentPatch
from chargehand.agents.validation import InvalidAgentConfig, check, parse
from chargehand.catalog.providers import VENDORS
from chargehand.kernel.jobs import QUEUES

ALL_CONNECTED = Installed(AVAILABLE, frozenset(VENDORS))


def violations(
    config: dict[str, Any], *, installed: Installed = NOTHING_CONNECTED, **fields: Any
) -> dict[str, str]:
    document = {**agent_document(), "config": config, **fields}
    found = check(AgentCreate, document, installed=installed)
    assert (found.value is None) == bool(found.violations)
    return {violation.pointer: violation.message for violation in found.violations}


def model(**parameters: Any) -> dict[str, Any]:
    return {"model": {"provider": "simulated", "name": "standard", **parameters}}


def test_the_defaults_are_those_of_the_specification() -> None:
    config, warnings = parse(AgentConfig, config_document(), installed=NOTHING_CONNECTED)
    limits = config.limits
    assert (limits.steps, limits.tokens, limits.wall_time_s) == (20, 20_000, 120)
    assert (limits.cost_usd, limits.chunk_steps) == (None, 10)
    assert (config.response_cache.ttl_s, config.queue, config.trigger.mode) == (
        3600,
        "agents",
        "manual",
    )
    assert warnings == ()
    assert get_args(Queue) == QUEUES


def test_what_is_stored_reads_back_the_same() -> None:
    document = config_document(
        limits={"cost_usd": 0.1, "wall_time_s": 30},
        capabilities={"files": {"mode": "read"}, "todo": {}},
        output_schema={"type": "object"},
        fallback_models=[{"provider": "simulated", "name": "unpriced"}],
    )
    config, _ = parse(AgentConfig, document, installed=NOTHING_CONNECTED)
    assert str(config.limits.cost_usd) == "0.1"
    text = config.model_dump_json()
    assert stored_config(text) == config
    assert (
        parse(AgentConfig, config.model_dump(mode="json"), installed=NOTHING_CONNECTED)[0] == config
    )


def test_every_violation_is_told_at_once_with_its_pointer() -> None:
    found = violations(
        {
            "model": {
                "provider": "simulated",
                "name": "standard",
                "temperature": 3,
                "max_tokens": 40_000,
                "reasoning_effort": "high",
            },
            "instructons": "misspelt",
            "limits": {"steps": 0, "cost_usd": -1},
            "input_schema": {"properties": {"a/b": {"type": "strng"}}},
            "output_schema": {"$ref": "https://example.com/schema"},
            "capabilities": {"file": {}, "files": {"mode": "write"}, "todo": {"x": 1}},
            "prompt": {"name": "greeting"},
            "pii_mode": "redact",
        },
        name="",
        visibility="team",
        surprise=1,
    )
    assert set(found) == {
        "/name",
        "/visibility",
        "/surprise",
        "/config/model/temperature",
        "/config/model/max_tokens",
        "/config/model/reasoning_effort",
        "/config/instructons",
        "/config/limits/steps",
        "/config/limits/cost_usd",
        "/config/input_schema/properties/a~1b/type",
        "/config/output_schema/$ref",
        "/config/capabilities/file",
        "/config/capabilities/files/mode",
        "/config/capabilities/todo",
        "/config/prompt/name",
        "/config/pii_mode",
    }
    assert "did you mean 'instructions'?" in found["/config/instructons"]
    assert "did you mean 'files'?" in found["/config/capabilities/file"]
    assert "at most 32000" in found["/config/model/max_tokens"]
    assert "'greeting' not found" in found["/config/prompt/name"]


@pytest.mark.parametrize(
    ("config", "pointer", "words"),
    [
        ({}, "/config/model", "required"),
        (model(provider="simulatd"), "/config/model/provider", "did you mean 'simulated'?"),
        (
            model(provider="openai"),
            "/config/model/provider",
            "'openai' is not connected: set OPENAI_API_KEY in the environment",
        ),
        (
            model(provider="azure"),
            "/config/model/provider",
            "set CHARGEHAND_AZURE_URL and AZURE_OPENAI_API_KEY",
        ),
        (model(provider="anthropc"), "/config/model/provider", "did you mean 'anthropic'?"),
        (
            {**model(), "fallback_models": [{"provider": "google", "name": "gemini-2.5-pro"}]},
            "/config/fallback_models/0/provider",
            "'google' is not connected: set GOOGLE_AI_API_KEY",
        ),
        (model(name="standrd"), "/config/model/name", "did you mean 'standard'?"),
        (model(temperature="0.7"), "/config/model/temperature", "number"),
        (model(temperature=True), "/config/model/temperature", "number"),
        (model(max_tokens=1.5), "/config/model/max_tokens", "integer"),
        (model(top_p=1.1), "/config/model/top_p", "less than or equal to 1"),
        (model(presence_penalty=-2.1), "/config/model/presence_penalty", "-2"),
        (model(extra={"logit_bias": {}}), "/config/model/extra", "takes no extra"),
        (
            {**model(name="text"), "capabilities": {"todo": {}}},
            "/config/capabilities",
            "calls no tools",
        ),
        (
            {**model(name="text"), "output_schema": {"type": "object"}},
            "/config/output_schema",
            "no structured output",
        ),
        (
            {**model(), "fallback_models": [{"provider": "simulated", "name": "nothing"}]},
            "/config/fallback_models/0/name",
            "unknown simulated model",
        ),
        (
            {**model(), "fallback_models": [{"provider": "simulated", "name": "standard"}]},
            "/config/fallback_models/0",
            "asked before",
        ),
        (
            {
                **model(),
                "capabilities": {"todo": {}},
                "fallback_models": [{"provider": "simulated", "name": "text"}],
            },
            "/config/fallback_models/0",
            "takes no capabilities",
        ),
        (
            {
                **model(provider="anthropic"),
                "fallback_models": [{"provider": "simulated", "name": "text"}],
            },
            "/config/fallback_models/0",
            "never falls back to a simulated one",
        ),
        (
            {**model(), "response_cache": {"enabled": True}},
            "/config/response_cache/enabled",
            "not available",
        ),
        (
            {**model(), "guardrails": {"injection": "refuse"}},
            "/config/guardrails",
            "not available",
        ),
        (
            {**model(), "context_budget_tokens": 4000},
            "/config/context_budget_tokens",
            "not available",
        ),
        ({**model(), "trigger": {"mode": "event"}}, "/config/trigger/mode", "not available"),
        ({**model(), "default_variables": {"a": 1}}, "/config/default_variables", "not available"),
        ({**model(), "queue": "fast"}, "/config/queue", "agents_priority"),
        ({**model(), "instructions": "a\0b"}, "/config/instructions", "NUL"),
        ({**model(), "instructions": "\ud800"}, "/config/instructions", "not Unicode"),
        ({**model(), "guardrails": {"\ud800": 1}}, "/config/guardrails", "not Unicode"),
        (model(seed=2**64), "/config/model/seed", "64 bits"),
        (model(temperature=float("nan")), "/config/model/temperature", "finite"),
    ],
)
def test_a_violation_says_where_and_why(config: dict[str, Any], pointer: str, words: str) -> None:
    found = violations(config)
    assert words in found[pointer]


@pytest.mark.parametrize(
    "identifier",
    [
        "openai:gpt-4o",
        "openai-chat:gpt-4o-2024-08-06",
        "azure:gpt-4o",
        "anthropic:claude-sonnet-4-6",
        "google:gemini-2.5-flash",
        "openai-compatible:llama-9",
        "openai:gpt-99",
    ],
)
def test_a_model_of_a_connected_provider_is_accepted(identifier: str) -> None:
    provider, name = identifier.split(":")
    config = {
        **model(provider=provider, name=name, max_tokens=100),
        "capabilities": {"todo": {}},
        "output_schema": {"type": "object"},
    }
    assert violations(config, installed=ALL_CONNECTED) == {}
    others = Installed(AVAILABLE, frozenset(VENDORS) - {provider})
    assert set(violations(config, installed=others)) == {"/config/model/provider"}


@pytest.mark.parametrize(
    ("identifier", "parameters", "where", "words"),
    [
        ("openai:gpt-4o", {"seed": 1}, "seed", "takes no seed"),
        ("openai:gpt-4o", {"stop": ["x"]}, "stop", "takes no stop"),
        ("openai:gpt-4o", {"max_tokens": 15}, "max_tokens", "at least 16, not 15"),
        ("openai:gpt-4o", {"max_tokens": 16_385}, "max_tokens", "at most 16384"),
        ("openai:gpt-4o", {"reasoning_effort": "low"}, "reasoning_effort", "takes no reasoning"),
        ("openai:gpt-5", {"temperature": 1}, "temperature", "openai:gpt-5 takes no temperature"),
        ("openai-chat:gpt-5", {"stop": ["x"]}, "stop", "takes no stop"),
        ("openai-chat:gpt-4o", {"stop": list("abcde")}, "stop", "at most 4 of stop, not 5"),
        (
            "openai:gpt-5.1",
            {"temperature": 1, "reasoning_effort": "low"},
            "temperature",
            "takes no temperature together with reasoning_effort",
        ),
        (
            "openai:gpt-5.1",
            {"reasoning_effort": "minimal"},
            "reasoning_effort",
            "takes low or medium or high as reasoning_effort, not minimal",
        ),
        ("anthropic:claude-3-haiku", {"temperature": 1.1}, "temperature", "at most 1, not 1.1"),
        ("anthropic:claude-3-haiku", {"seed": 1}, "seed", "takes no seed"),
        ("anthropic:claude-opus-4-8", {"top_p": 0.5}, "top_p", "takes no top_p"),
        (
            "anthropic:claude-sonnet-4-5-20250929",
            {"temperature": 0.5, "top_p": 0.5},
            "temperature",
            "together with top_p",
        ),
        (
            "anthropic:claude-haiku-4-5",
            {"reasoning_effort": "medium", "max_tokens": 10_000},
            "max_tokens",
            "takes more than 10000 with reasoning_effort medium, not 10000",
        ),
        ("google:gemini-2.5-flash", {"presence_penalty": 1}, "presence_penalty", "takes no"),
        ("google:gemini-2.5-flash", {"extra": {"a": 1}}, "extra", "takes no extra"),
        ("google:gemini-2.5-flash", {"stop": list("abcdef")}, "stop", "at most 5 of stop"),
        ("google:gemini-2.5-flash", {"seed": 2**31}, "seed", "at most 2147483647"),
    ],
)
def test_what_a_vendors_model_does_not_take_is_refused(
    identifier: str, parameters: dict[str, Any], where: str, words: str
) -> None:
    provider, name = identifier.split(":")
    found = violations(model(provider=provider, name=name, **parameters), installed=ALL_CONNECTED)
    assert set(found) == {f"/config/model/{where}"}
    assert words in found[f"/config/model/{where}"]


@pytest.mark.parametrize(
    ("identifier", "parameters"),
    [
        ("openai:gpt-5.1", {"temperature": 1}),
        ("openai:gpt-5.1", {"reasoning_effort": "low"}),
        ("openai:gpt-4o", {"extra": {"service_tier": "flex"}, "temperature": 2}),
        ("openai-chat:gpt-4o", {"stop": list("abcd"), "seed": 2**40, "presence_penalty": -2}),
        ("anthropic:claude-sonnet-4-5", {"top_p": 0.5}),
        ("anthropic:claude-3-haiku", {"top_p": 0.5, "temperature": 1}),
        ("anthropic:claude-haiku-4-5", {"reasoning_effort": "medium", "max_tokens": 10_001}),
        ("google:gemini-2.5-flash", {"temperature": 2, "reasoning_effort": "minimal"}),
        # Nothing is known of these, so all is let through.
        ("openai-compatible:llama", {"temperature": 2, "seed": 1, "reasoning_effort": "minimal"}),
        ("openai:gpt-99", {"temperature": 2, "reasoning_effort": "minimal", "stop": ["x"]}),
    ],
)
def test_what_a_vendors_model_takes_is_accepted(
    identifier: str, parameters: dict[str, Any]
) -> None:
    provider, name = identifier.split(":")
    document = model(provider=provider, name=name, **parameters)
    assert violations(document, installed=ALL_CONNECTED) == {}


def test_what_a_vendors_model_cannot_do_is_refused() -> None:
    old = {
        **model(provider="openai", name="gpt-4"),
        "capabilities": {"todo": {}},
        "output_schema": {"type": "object"},
    }
    found = violations(old, installed=ALL_CONNECTED)
    assert set(found) == {"/config/output_schema"}
    assert "openai:gpt-4 gives no structured output" in found["/config/output_schema"]
    found = violations(
        {**model(provider="openai", name="chatgpt-4o-latest"), "capabilities": {"todo": {}}},
        installed=ALL_CONNECTED,
    )
    assert set(found) == {"/config/capabilities"}


def test_all_that_is_wrong_with_models_is_told_at_once() -> None:
    found = violations(
        {
            **model(
                provider="anthropic",
                name="claude-opus-4-8",
                temperature=0.5,
                top_p=0.5,
                seed=1,
                max_tokens=200_000,
                reasoning_effort="minimal",
            ),
            "fallback_models": [
                {"provider": "openai", "name": "gpt-4o"},
                {"provider": "goggle", "name": "x"},
            ],
        },
    )
    assert set(found) == {
        "/config/model/provider",
        "/config/model/temperature",
        "/config/model/top_p",
        "/config/model/seed",
        "/config/model/max_tokens",
        "/config/model/reasoning_effort",
        "/config/fallback_models/0/provider",
        "/config/fallback_models/1/provider",
    }
    assert "set ANTHROPIC_API_KEY" in found["/config/model/provider"]
    assert "did you mean 'google'?" in found["/config/fallback_models/1/provider"]


@pytest.mark.parametrize(
    ("first", "fallback", "words"),
    [
        ({"temperature": 1.5}, "anthropic:claude-3-haiku", "takes at most 1, not 1.5"),
        ({"temperature": 1}, "openai:gpt-5", "openai:gpt-5 takes no temperature"),
        ({"extra": {"user": "x"}}, "anthropic:claude-3-haiku", "no extra that is meant for openai"),
        ({}, "openai:gpt-4o", "openai:gpt-4o is asked before already"),
        ({}, "simulated:standard", "never falls back to a simulated one"),
    ],
)
def test_a_fallback_must_take_what_the_model_is_given(
    first: dict[str, Any], fallback: str, words: str
) -> None:
    provider, name = fallback.split(":")
    config = {
        **model(provider="openai", name="gpt-4o", **first),
        "fallback_models": [{"provider": provider, "name": name}],
    }
    found = violations(config, installed=ALL_CONNECTED)
    assert set(found) == {"/config/fallback_models/0"}
    assert words in found["/config/fallback_models/0"]


def test_a_dated_version_may_stand_in_for_its_model_and_max_tokens_is_capped() -> None:
    config = {
        **model(provider="openai", name="gpt-4o", max_tokens=16_000),
        "fallback_models": [
            {"provider": "openai", "name": "gpt-4o-2024-08-06"},
            {"provider": "anthropic", "name": "claude-3-haiku"},
            {"provider": "openai-compatible", "name": "llama"},
        ],
    }
    assert violations(config, installed=ALL_CONNECTED) == {}


def test_an_unknown_model_is_allowed_with_a_warning_of_what_is_unknown() -> None:
    config = {
        **model(provider="openai", name="gpt-99"),
        "fallback_models": [
            {"provider": "openai-compatible", "name": "llama"},
            {"provider": "openai", "name": "gpt-5.5"},
        ],
    }
    found = check(AgentConfig, config, installed=ALL_CONNECTED)
    assert found.violations == ()
    assert [warning.pointer for warning in found.warnings] == [
        "/model/name",
        "/fallback_models/0/name",
        "/fallback_models/1/name",
    ]
    unknown, _, tiered = (warning.message for warning in found.warnings)
    assert "openai:gpt-99 is not in the catalogue: its limits" in unknown
    assert "its price too" in unknown
    assert tiered == "openai:gpt-5.5 has no price: its runs are unpriced"


def test_what_an_extension_connects_is_a_provider() -> None:
    here = Installed(AVAILABLE, frozenset({"acme"}))
    assert violations(model(provider="acme", name="x"), installed=here) == {}
    assert (
        "this installation has acme, simulated"
        in (violations(model(provider="acne", name="x"), installed=here)["/config/model/provider"])
    )


def test_an_unpriced_model_is_allowed_with_a_warning() -> None:
    found = check(AgentConfig, model(name="unpriced"), installed=NOTHING_CONNECTED)
    assert found.violations == ()
    assert [warning.pointer for warning in found.warnings] == ["/model/name"]
    assert "no price" in found.warnings[0].message


def test_an_installation_can_add_a_capability() -> None:
    schema = {"type": "object", "required": ["depth"], "properties": {"depth": {"minimum": 1}}}
    wider = Installed({**AVAILABLE, "dig": Capability("dig", "Digs.", schema)}, frozenset())
    good = {**model(), "capabilities": {"dig": {"depth": 2}}}
    assert check(AgentConfig, good, installed=wider).violations == ()
    assert check(AgentConfig, good, installed=NOTHING_CONNECTED).value is None
    bad = {**model(), "capabilities": {"dig": {"depth": 0}}}
    [violation] = check(AgentConfig, bad, installed=wider).violations
    assert violation.pointer == "/capabilities/dig/depth"


def test_a_patch_is_checked_as_the_whole_is() -> None:
    document = {"config": model(temperature=9), "version": "1.02.0", "bump": "tiny", "slug": "x"}
    found = check(AgentPatch, document, installed=NOTHING_CONNECTED)
    assert {violation.pointer for violation in found.violations} == {
        "/config/model/temperature",
        "/version",
        "/bump",
        "/slug",
    }
    assert check(AgentPatch, {}, installed=NOTHING_CONNECTED).violations == ()


def test_the_error_tells_the_first_and_how_many_more() -> None:
    with pytest.raises(InvalidAgentConfig, match=r"at /temperature: .* And 1 more") as raised:
        parse(AgentConfig, {**model(), "temperature": 1, "stop": []}, installed=NOTHING_CONNECTED)
    assert [one["pointer"] for one in raised.value.details["violations"]] == [
        "/temperature",
        "/stop",
    ]


@pytest.mark.parametrize(
    "name", [" a", "a ", "a\nb", "a\u202eb", "a\u200bb", "\u2066a", "a\x7f", "\ufeffa"]
)
def test_a_name_is_what_it_looks_like(name: str) -> None:
    message = "must be one line, without control or format characters and without space at its ends"
    found = violations(config_document(), name=name, tags=["good", name])
    assert found == {"/name": message, "/tags/1": message}


@pytest.mark.parametrize("name", ["a", "a b", "Größe", "客服", "🎉", "مراجعة"])
def test_names_in_any_script(name: str) -> None:
    assert violations(config_document(), name=name, tags=[name]) == {}


def test_what_does_not_match_is_told_in_words() -> None:
    found = violations(config_document(), slug="Not A Slug")
    assert found == {"/slug": "must be small letters and digits, with single hyphens between them"}
    checked = check(AgentPatch, {"version": "1.02.0"}, installed=NOTHING_CONNECTED)
    assert [one.message for one in checked.violations] == [
        "must be three numbers without leading zeros, like 1.1.0"
    ]


def test_only_what_is_near_is_suggested() -> None:
    found = violations({**model(name="nosuch"), "capabilities": {"xyz": {}}, "zzz": 1})
    assert found["/config/model/name"] == "unknown simulated model 'nosuch'"
    assert found["/config/zzz"] == "unknown field"
    assert found["/config/capabilities/xyz"].startswith("unknown capability; there are ask_user,")
    provider = violations(model(provider="simulatd"))["/config/model/provider"]
    assert "'simulatd' (did you mean 'simulated'?); this installation has simulated" in provider


@pytest.mark.parametrize("slug", ["Upper", "a--b", "-a", "a-", "ä", "a" * 64, str("0" * 32)])
def test_what_is_no_slug_is_refused(slug: str) -> None:
    assert set(violations(config_document(), slug=slug)) == {"/slug"}


def test_too_deep_and_too_large_documents_are_refused() -> None:
    deep: Any = {}
    for _ in range(200):
        deep = {"a": deep}
    [violation] = check(AgentCreate, deep, installed=NOTHING_CONNECTED).violations
    assert "deeper than 64" in violation.message
    [violation] = check(AgentCreate, "x" * 600_000, installed=NOTHING_CONNECTED).violations
    assert "512 kB" in violation.message


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
FIELDS = st.sampled_from([*AgentConfig.model_fields, "provider", "name", "temperature", "$ref"])
KEYS = st.sampled_from(
    ["properties", "allOf", "items", "$ref", "$defs", "type", "pattern", "files", "mode", "stop"]
)
CONFIGS = st.dictionaries(FIELDS, JSON | st.dictionaries(FIELDS | KEYS, JSON | st.just("#")))


@settings(max_examples=300, deadline=None)
@given(JSON | CONFIGS | st.fixed_dictionaries({"name": st.text(), "config": CONFIGS}))
def test_any_document_passes_or_is_refused(document: Any) -> None:
    for shape in (AgentCreate, AgentPatch, AgentConfig):
        found = check(shape, document, installed=NOTHING_CONNECTED)
        assert (found.value is None) == bool(found.violations)
        for violation in found.violations:
            assert violation.message
            violation.pointer.encode()


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(list(AgentConfig.model_fields)), JSON)
def test_any_value_of_a_field_passes_or_is_refused_there(field: str, value: Any) -> None:
    found = check(AgentConfig, config_document(**{field: value}), installed=NOTHING_CONNECTED)
    for violation in found.violations:
        assert violation.pointer.startswith(f"/{field}")
