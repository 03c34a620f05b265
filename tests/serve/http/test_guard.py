"""Who may ask: the Host and Origin of requests, keys, and what a browser asks before."""

from collections.abc import Iterator

import pytest
from asgi_calls import Calls, application

from mlx_diffgemma.serve.http.host import Access

KEY = "correct-horse"
BEARER = {"authorization": f"Bearer {KEY}"}
LAN = Access(KEY.encode(), frozenset({"mac.local"}), any_address=True)
PAGES = frozenset({"http://localhost:3000", "https://chat.example"})
TYPES = {
    "/v1/chat/completions": lambda body: body["error"]["type"],
    "/v1/completions": lambda body: body["error"]["type"],
    "/v1/responses": lambda body: body["error"]["type"],
    "/v1/messages": lambda body: body["type"] == "error" and body["error"]["type"],
    "/v1/messages/count_tokens": lambda body: body["type"] == "error" and body["error"]["type"],
    "/v1/systemone": lambda body: body["detail"]["error_type"],
    "/v1/models": lambda body: body["error"]["type"],
    "/metrics": lambda body: body["error"]["type"],
}


@pytest.fixture(scope="module")
def calls() -> Iterator[Calls]:
    with application() as made:
        yield made


@pytest.fixture(scope="module")
def locked() -> Iterator[Calls]:
    with application(access=Access(KEY.encode())) as made:
        yield made


@pytest.fixture(scope="module")
def shared() -> Iterator[Calls]:
    with application(access=Access(None, origins=PAGES)) as made:
        yield made


# --- Host


@pytest.mark.parametrize(
    "host", ["localhost:8080", "LOCALHOST:8080", "localhost.:8080", "127.0.0.1:8080",
             "127.1.2.3:8080", "[::1]:8080", "[0:0:0:0:0:0:0:1]:8080"],
)  # fmt: skip
def test_loopback_under_any_of_its_names_is_ours(calls: Calls, host: str) -> None:
    assert calls.get("/health", headers={"host": host}).status == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example:8080", "evil.example", "localhost:8081", "localhost", "127.0.0.1",
     "127.0.0.1.evil.example:8080", "localhost:8080@evil.example", "192.168.1.7:8080", "", ":8080",
     "[::1:8080", "0.0.0.0:8080", "localhost:08080x", "localhost:99999", "mac.local:8080",
     "ä:8080"],
)  # fmt: skip
def test_another_host_is_none_of_ours(calls: Calls, host: str) -> None:
    reply = calls.get("/health", headers={"host": host})
    assert reply.status == 403
    assert reply.json["error"]["type"] == "permission_error"
    assert "Host" in reply.message


@pytest.mark.parametrize(
    ("host", "port"), [("localhost:9000", 9000), ("127.0.0.1", 80), ("[::1]:1", 1)]
)
def test_the_port_is_named_where_only_the_port_is_wrong(calls: Calls, host: str, port: int) -> None:
    """No name that is added would help."""
    reply = calls.get("/health", headers={"host": host})
    assert reply.status == 403
    assert f"Host is {host}, of port {port}, and this server has 8080" in reply.message
    assert "--allow-host" not in reply.message


def test_two_hosts_or_none_are_refused(calls: Calls) -> None:
    two = [("host", "127.0.0.1:8080"), ("host", "evil.example")]
    assert calls.get("/health", headers=two).status == 403
    assert calls.get("/health", headers={"host": None}).status == 403


@pytest.mark.parametrize(
    ("host", "status"),
    [("192.168.1.7:8080", 200), ("[fe80::1]:8080", 200), ("mac.local:8080", 200),
     ("MAC.local:8080", 200), ("evil.example:8080", 403), ("192.168.1.7:80", 403)],
)  # fmt: skip
def test_a_server_of_a_network_has_its_names_and_every_address(host: str, status: int) -> None:
    with application(access=LAN) as calls:
        assert calls.get("/health", headers={"host": host}).status == status


@pytest.mark.parametrize(
    ("host", "status"),
    [("host.docker.internal:8080", 200), ("Host.Docker.Internal.:8080", 200),
     ("127.0.0.1:8080", 200), ("host.docker.internal:8081", 403), ("host.docker.internal", 403),
     ("a.host.docker.internal:8080", 403), ("docker.internal:8080", 403),
     ("host.docker.internal.evil.example:8080", 403), ("192.168.1.7:8080", 403)],
)  # fmt: skip
def test_a_name_that_was_allowed_is_ours_and_none_beside_it(host: str, status: int) -> None:
    with application(access=Access(None, frozenset({"host.docker.internal"}))) as calls:
        reply = calls.get("/health", headers={"host": host})
    assert reply.status == status
    assert status == 200 or reply.message.startswith(f"Host is {host}, ")


# --- Origin


def test_programs_and_the_own_page_may_ask(calls: Calls) -> None:
    own = {"origin": "http://127.0.0.1:8080"}
    assert calls.get("/v1/models").status == 200
    assert calls.get("/v1/models", headers=own).status == 200
    both = {"host": "localhost:8080", "origin": "http://LOCALHOST:8080"}
    assert calls.get("/v1/models", headers=both).status == 200


@pytest.mark.parametrize("path", TYPES)
@pytest.mark.parametrize(
    "origin",
    ["null", "", "https://evil.example", "http://localhost:8080", "http://127.0.0.1:3000",
     "https://127.0.0.1:8080", "http://127.0.0.1:8080.evil.example"],
)  # fmt: skip
def test_a_foreign_page_may_not(calls: Calls, path: str, origin: str) -> None:
    reply = calls.post(path, {}, headers={"origin": origin})
    assert reply.status == 403
    assert TYPES[path](reply.json) == "permission_error"
    assert "access-control-allow-origin" not in reply.headers


def test_a_page_that_was_let_in_reads_what_it_asked_for(shared: Calls) -> None:
    for origin in PAGES:
        reply = shared.get("/v1/models", headers={"origin": origin})
        assert reply.status == 200
        assert reply.headers["access-control-allow-origin"] == origin
        assert "x-request-id" in reply.headers["access-control-expose-headers"]
        assert reply.headers["vary"] == "Origin"
    assert shared.get("/v1/models", headers={"origin": "http://localhost:3001"}).status == 403
    assert "access-control-allow-origin" not in shared.get("/v1/models").headers


def test_a_browser_that_asks_before_is_answered_for_pages_that_were_let_in(shared: Calls) -> None:
    asks = {
        "origin": "https://chat.example",
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization, content-type",
        "access-control-request-private-network": "true",
    }
    reply = shared.call("OPTIONS", "/v1/chat/completions", headers=asks)
    assert (reply.status, reply.body) == (204, b"")
    assert "POST" in reply.headers["access-control-allow-methods"]
    assert reply.headers["access-control-allow-headers"] == "authorization, content-type"
    assert reply.headers["access-control-allow-private-network"] == "true"
    assert reply.headers["access-control-allow-origin"] == "https://chat.example"
    foreign = shared.call("OPTIONS", "/v1/models", headers={**asks, "origin": "http://evil"})
    assert foreign.status == 403


def test_options_from_a_program_is_a_wrong_method(calls: Calls) -> None:
    assert calls.call("OPTIONS", "/v1/chat/completions").status == 405


# --- keys


@pytest.mark.parametrize("path", TYPES)
@pytest.mark.parametrize(
    ("headers", "wrong"),
    [({}, False), ({"authorization": f"Basic {KEY}"}, False), ({"authorization": "Bearer "}, False),
     ({"x-api-key": ""}, False), ({"authorization": "Bearer wrong"}, True),
     ({"authorization": f"Bearer {KEY}x"}, True), ({"x-api-key": KEY[:-1]}, True),
     ({"x-api-key": "käse"}, True)],
)  # fmt: skip
def test_without_the_key_nothing_is_answered(
    locked: Calls, path: str, headers: dict[str, str], wrong: bool
) -> None:
    reply = locked.post(path, {}, headers=headers)
    is_decision = path == "/v1/systemone"
    assert reply.status == (403 if is_decision and not wrong else 401)
    anthropic = path.startswith("/v1/messages") or is_decision
    assert TYPES[path](reply.json) == (
        "authentication_error" if anthropic else "invalid_request_error"
    )
    if not anthropic:
        assert reply.json["error"]["code"] == "invalid_api_key"


@pytest.mark.parametrize(
    "headers",
    [BEARER, {"authorization": f"bearer   {KEY} "}, {"x-api-key": KEY},
     {"authorization": "Bearer wrong", "x-api-key": KEY}],
)  # fmt: skip
def test_the_key_opens(locked: Calls, headers: dict[str, str]) -> None:
    assert locked.get("/v1/models", headers=headers).status == 200


def test_health_needs_no_key_and_an_unknown_path_does(locked: Calls) -> None:
    assert locked.get("/health").status == 200
    assert locked.get("/nowhere").status == 401
    assert locked.get("/nowhere", headers=BEARER).status == 404


def test_without_a_key_of_ours_any_is_nobodys_business(calls: Calls) -> None:
    assert calls.get("/v1/models", headers=BEARER).status == 200


def test_every_key_is_compared_in_constant_time(
    locked: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    import hmac

    compared = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return one == other

    monkeypatch.setattr(hmac, "compare_digest", compare)
    locked.get("/v1/models", headers={**BEARER, "x-api-key": "another"})
    assert compared == [(b"another", KEY.encode()), (KEY.encode(), KEY.encode())]


# --- headers of every reply


@pytest.mark.parametrize("path", ["/health", "/nowhere", "/v1/models", "/metrics"])
def test_every_reply_says_that_it_is_what_it_says(calls: Calls, path: str) -> None:
    for headers in ({}, {"host": "evil.example"}):
        assert calls.get(path, headers=headers).headers["x-content-type-options"] == "nosniff"
