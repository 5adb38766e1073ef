"""Signatures as Standard Webhooks has them."""

import base64

import pytest

from loopai.webhooks import signature


def test_a_signature_is_that_of_the_standard():
    """The example of the specification's own libraries."""
    found = signature.headers(
        ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"],
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        1614265330,
        b'{"test": 2432232314}',
    )
    assert found == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


def test_two_secrets_sign_side_by_side():
    """A receiver that knows either of them is served."""
    old, new = signature.new_secret(), signature.new_secret()
    both = signature.headers([new, old], "id", 1, b"{}")["webhook-signature"].split(" ")
    assert both == [
        signature.headers([each], "id", 1, b"{}")["webhook-signature"] for each in (new, old)
    ]


def test_a_new_secret_is_one():
    """Of 32 random bytes, never twice the same."""
    made = {signature.new_secret() for _ in range(100)}
    assert len(made) == 100
    assert all(signature.is_secret(each) for each in made)


@pytest.mark.parametrize(
    ("size", "good"), [(23, False), (24, True), (64, True), (65, False), (0, False)]
)
def test_a_secret_has_as_many_bytes_as_the_standard_says(size, good):
    """24 to 64."""
    text = "whsec_" + base64.b64encode(b"x" * size).decode()
    assert signature.is_secret(text) is good


@pytest.mark.parametrize("text", ["", "hunter2", "whsec_", "whsec_!!!", "whsk_" + "A" * 40])
def test_what_is_no_secret_is_not_taken(text):
    """Whatever else somebody may have at hand."""
    assert not signature.is_secret(text)
