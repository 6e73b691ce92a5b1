"""The guard: loopback's own names and the demo's own page get in, and nothing else does."""

import pytest

from epo.demo.guard import refusal

HOST = "127.0.0.1:8642"


@pytest.mark.parametrize(
    ("method", "headers"),
    [
        ("GET", {"host": HOST}),
        ("GET", {"host": "localhost:8642", "sec-fetch-site": "none"}),
        ("GET", {"host": "localhost", "origin": "http://localhost"}),
        ("POST", {"host": HOST, "origin": f"http://{HOST}", "sec-fetch-site": "same-origin"}),
    ],
)
def test_the_own_page_gets_in(method, headers):
    assert refusal(method, headers) is None


@pytest.mark.parametrize(
    ("method", "headers", "reason"),
    [
        ("GET", {}, "names another host"),
        ("GET", {"host": "evil.example:8642"}, "names another host"),
        ("GET", {"host": "127.0.0.1.evil.example"}, "names another host"),
        ("GET", {"host": "localhost.evil.example:8642"}, "names another host"),
        ("GET", {"host": "127.0.0.1:8642@evil.example"}, "names another host"),
        ("GET", {"host": "[::1]:8642"}, "names another host"),
        ("GET", {"host": "0.0.0.0:8642"}, "names another host"),
        ("GET", {"host": HOST, "origin": "http://evil.example"}, "comes from another page"),
        ("GET", {"host": HOST, "sec-fetch-site": "cross-site"}, "comes from another site"),
        ("GET", {"host": HOST, "sec-fetch-site": "same-site"}, "comes from another site"),
        ("POST", {"host": HOST}, "comes from another page, or from none"),
        ("POST", {"host": HOST, "origin": "null"}, "comes from another page"),
        ("POST", {"host": HOST, "origin": "http://127.0.0.1:9999"}, "comes from another page"),
        ("POST", {"host": HOST, "origin": "http://localhost:8642"}, "comes from another page"),
        ("POST", {"host": HOST, "origin": f"https://{HOST}"}, "comes from another page"),
        ("OPTIONS", {"host": HOST, "origin": "http://evil.example"}, "comes from another page"),
    ],
)
def test_what_comes_from_elsewhere_does_not(method, headers, reason):
    assert reason in refusal(method, headers)
