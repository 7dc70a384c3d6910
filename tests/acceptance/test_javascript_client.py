"""The JavaScript client, in Node.js, against a service that breaks off, hangs up and refuses."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from tests.factories.client_peer import RUN, a_story, a_topic, running_peer

MODULE = Path(__file__).parents[2] / "clients" / "javascript" / "chargehand.js"
EXECUTE = "POST /agents/helper/execute"
PROGRAM = """
import { Chargehand, ChargehandError } from "%s";
const chargehand = new Chargehand({ url: process.argv[1], key: "chk_test", tries: %d });
const all = async (events) => {
  const got = [];
  for await (const each of events) got.push(each);
  return got;
};
try {
  console.log(JSON.stringify({ value: await (async () => %s)() }));
} catch (error) {
  if (!(error instanceof ChargehandError)) throw error;
  const { code, message, details, requestId, status } = error;
  console.log(JSON.stringify({ error: { code, message, details, requestId, status } }));
}
"""


def node(url: str, expression: str, tries: int = 8) -> Any:
    """What the expression is, or how it is refused."""
    program = shutil.which("node")
    if program is None:
        pytest.skip("there is no node")
    done = subprocess.run(
        [program, "--input-type=module", "-e", PROGRAM % (MODULE, tries, expression), url],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


@pytest.mark.parametrize(("cut_after", "overlap"), [(0, 0), (233, 0), (400, 0), (977, 3)])
def test_a_broken_stream_goes_on_with_nothing_lost_or_doubled(cut_after: int, overlap: int) -> None:
    story = a_story(8)
    with running_peer(story, cut_after=cut_after, overlap=overlap) as peer:
        events = node(peer.url, 'all(chargehand.stream("helper", "Hello"))')["value"]
        seen = peer.seen()
    assert [[event["id"], event["type"], event["data"]] for event in events] == story
    assert [request["method"] for request in seen].count("POST") == 1
    assert (len(seen) > 2) == bool(cut_after)
    assert {request["headers"]["authorization"] for request in seen} == {"bearer chk_test"}


def test_a_stream_that_never_gets_further_is_given_up() -> None:
    with running_peer(a_story(), cut_after=5) as peer:
        given_up = node(peer.url, f'all(chargehand.follow("{RUN}"))', tries=2)
        assert given_up["error"]["code"] == "Unreachable"
        assert len(peer.seen()) == 2


def test_following_may_begin_behind_an_event() -> None:
    story = a_story()
    with running_peer(story) as peer:
        events = node(peer.url, f'all(chargehand.follow("{RUN}", {{ after: "1.3" }}))')["value"]
    assert [event["id"] for event in events] == [event[0] for event in story[3:]]


def test_a_start_whose_answer_was_lost_is_repeated_with_the_same_key() -> None:
    with running_peer(answers={EXECUTE: [0, 503]}) as peer:
        started = node(peer.url, 'chargehand.start("helper", "Hello")')["value"]
        keys = [request["headers"]["idempotency-key"] for request in peer.seen()]
    assert started["id"] == RUN
    assert len(keys) == 3
    assert len(set(keys)) == 1
    assert len(keys[0]) == 32


def test_a_run_is_waited_for() -> None:
    with running_peer(a_story(), cut_after=400) as peer:
        assert node(peer.url, 'chargehand.run("helper", "Hello")')["value"]["output"]


def test_a_refusal_is_not_repeated_and_has_its_code() -> None:
    with running_peer(answers={EXECUTE: [429]}) as peer:
        refused = node(peer.url, 'chargehand.start("helper", "Hello")')["error"]
        assert len(peer.seen()) == 1
    assert refused == {
        "code": "RateLimitExceeded",
        "message": "Answered 429 on purpose. Try another.",
        "details": {"retry_after_s": 1},
        "requestId": "req-1",
        "status": 429,
    }


def test_nobody_there_is_unreachable() -> None:
    refused = node("http://127.0.0.1:1", f'chargehand.cancel("{RUN}")', tries=2)["error"]
    assert (refused["code"], refused["status"]) == ("Unreachable", 0)
    assert "http://127.0.0.1:1" in refused["message"]


def test_a_signal_ends_it_at_once() -> None:
    expression = """(async () => {
      const { signal } = AbortSignal.timeout ? { signal: AbortSignal.timeout(300) } : {};
      const got = [];
      try {
        for await (const each of chargehand.follow("%s", { signal })) got.push(each.id);
      } catch (error) { return [got, error.name]; }
    })()"""
    with running_peer(a_story()[:3], stalls=True) as peer:
        got, name = node(peer.url, expression % RUN)["value"]
    assert (got, name) == (["1.1", "1.2", "1.3"], "TimeoutError")


TOPIC = f"agent/{RUN}"
SUBSCRIBE = "all(new Chargehand({ url: process.argv[1] }).subscribe(%s))"


def subscription(hub_url: str = "/api/v1/hub", topic: str = TOPIC, token: str = "jwt") -> str:
    return json.dumps({"token": token, "hub_url": hub_url, "topic": topic})


@pytest.mark.parametrize("cut_after", [0, 400])
def test_a_topic_is_followed_with_its_token_and_no_key(cut_after: int) -> None:
    story = a_story(4)
    with running_peer(story, cut_after=cut_after) as peer:
        events = node(peer.url, SUBSCRIBE % subscription())["value"]
        seen = peer.seen()
    assert [[event["id"], event["type"], event["data"]] for event in events] == story
    assert {request["query"] for request in seen} == {f"topic=agent%2F{RUN}&token=jwt"}
    assert {request["path"] for request in seen} == {"/hub"}
    assert all("authorization" not in request["headers"] for request in seen)
    assert (len(seen) > 1) == bool(cut_after)


def test_another_hub_gets_the_token_as_a_bearer() -> None:
    with running_peer(a_story()) as peer:
        events = node(peer.url, SUBSCRIBE % subscription(f"{peer.url}/mercure"))["value"]
        (seen,) = peer.seen()
    assert events[-1]["type"] == "done"
    assert (seen["query"], seen["headers"]["authorization"]) == (
        f"topic=agent%2F{RUN}&lastEventID=earliest",
        "bearer jwt",
    )


def test_events_of_a_mercure_hub_come_once_and_in_order() -> None:
    """Its ids are longer than our own; behind an id it is not asked for the beginning again."""
    story = [[f"urn:chargehand:{RUN}:{id_}", *rest] for id_, *rest in a_story(12)]
    with running_peer(story, cut_after=700, overlap=2) as peer:
        events = node(peer.url, SUBSCRIBE % subscription(f"{peer.url}/mercure"))["value"]
        first, *others = peer.seen()
    assert [[event["id"], event["type"], event["data"]] for event in events] == story
    assert others
    assert "earliest" in first["query"]
    assert not any("earliest" in request["query"] for request in others)


def test_a_token_that_has_expired_is_renewed() -> None:
    both = [subscription(token="old"), subscription(token="new")]
    renewing = f"(() => {{ const left = [{','.join(both)}]; return async () => left.shift(); }})()"
    with running_peer(a_story(), answers={"GET /hub": [401]}) as peer:
        events = node(peer.url, SUBSCRIBE % renewing)["value"]
        tokens = [request["query"].rpartition("=")[2] for request in peer.seen()]
    assert (events[-1]["type"], tokens) == ("done", ["old", "new"])


def test_a_token_that_is_refused_for_good_is_told_without_it() -> None:
    with running_peer(answers={"GET /hub": [401]}) as peer:
        refused = node(peer.url, SUBSCRIBE % subscription())["error"]
    nobody = node("http://127.0.0.1:1", SUBSCRIBE % subscription())["error"]
    assert (refused["code"], refused["status"]) == ("Unauthenticated", 401)
    assert nobody["code"] == "Unreachable"
    assert "jwt" not in refused["message"] + nobody["message"]


USER_TOPIC = "user/1/agents"
BEGINS_AT = f"{0:016x}-{0:032x}-{0:08x}"
TAKEN = """(async () => {
  const got = [];
  for await (const each of %s) if (got.push(each) === %d) return got;
})()"""


@pytest.mark.parametrize("cut_after", [0, 400, 977])
@pytest.mark.parametrize("way", ["key", "token"])
def test_all_runs_of_a_user_are_followed_from_where_it_began(cut_after: int, way: str) -> None:
    topic = a_topic(8)
    given = subscription(topic=USER_TOPIC)
    follow = "chargehand.followUser()" if way == "key" else f"chargehand.subscribe({given})"
    with running_peer(topic, cut_after=cut_after, begins_at=BEGINS_AT) as peer:
        events = node(peer.url, TAKEN % (follow, len(topic)))["value"]
        seen = peer.seen()
    assert [[event["id"], event["type"], event["data"]] for event in events] == topic
    assert {request["path"] for request in seen} == {"/me/events" if way == "key" else "/hub"}
    resumed_at = [request["headers"].get("last-event-id") for request in seen]
    assert resumed_at[:2] == [None, BEGINS_AT]
    assert (len(seen) > 2) == bool(cut_after)


def test_another_user_is_followed_behind_an_event() -> None:
    topic = a_topic()
    follow = f'chargehand.followUser({{ user: "a&b", after: "{topic[2][0]}" }})'
    with running_peer(topic) as peer:
        events = node(peer.url, TAKEN % (follow, len(topic) - 3))["value"]
        (seen,) = peer.seen()
    assert [event["id"] for event in events] == [event[0] for event in topic[3:]]
    assert seen["query"] == "user=a%26b"


CHUNKS = """(async () => {
  const text = ": hi\\r\\n\\r\\nid: 1.1\\r\\nevent: log\\r\\ndata: {\\"a\\":\\r\\n" +
    "data:\\"grün\\"}\\r\\n\\r\\n" +
    "id:1.2\\ndata: {}\\n\\nid: 1.3\\nevent: done\\n: no\\ndata: {}\\n\\nevent: lost\\ndata: {}\\n";
  const bytes = new TextEncoder().encode(text);
  const results = new Set();
  for (let size = 1; size <= bytes.length; size += 1) {
    globalThis.fetch = async () => new Response(new ReadableStream({
      start(body) {
        for (let at = 0; at < bytes.length; at += size) body.enqueue(bytes.slice(at, at + size));
        body.close();
      },
    }));
    results.add(JSON.stringify(await all(chargehand.follow("x"))));
  }
  return [...results].map(JSON.parse);
})()"""


def test_events_are_read_however_they_are_cut() -> None:
    assert node("http://host", CHUNKS)["value"] == [
        [
            {"id": "1.1", "type": "log", "data": {"a": "grün"}},
            {"id": "1.2", "type": "message", "data": {}},
            {"id": "1.3", "type": "done", "data": {}},
        ]
    ]


def test_what_steers_a_run_is_sent_once_and_as_the_route_takes_it() -> None:
    where = {f"POST /executions/{RUN}/approve": [503], "POST /events": [503]}
    with running_peer(answers=where) as peer:
        approve = f'chargehand.steer("{RUN}", "approve", {{ wait: 1 }})'
        assert node(peer.url, approve)["error"]["status"] == 503
        assert node(peer.url, approve)["value"]["id"] == RUN
        assert node(peer.url, 'chargehand.sendEvent("paid")')["error"]["status"] == 503
        seen = peer.seen()
    assert [request["path"] for request in seen] == [*[f"/executions/{RUN}/approve"] * 2, "/events"]
    assert {request["method"] for request in seen} == {"POST"}
    assert [request["size"] for request in seen] == [len(b'{"wait":1}')] * 2 + [
        len(b'{"event_type":"paid","payload":null}')
    ]
    assert {request["headers"]["content-type"] for request in seen} == {"application/json"}
