"""URLs of stores: what they name, and why the others are refused."""

from pathlib import Path

import pytest

from loopai import errors
from loopai.catalog.stores import location

REFUSED = [
    ("", "expected file:///folder or s3://bucket/prefix"),
    ("/var/lib/loopai", "expected file:///folder"),
    ("ftp://host/folder", "expected file:///folder"),
    ("s3:bucket", "names no bucket"),
    ("file:relative", "named by its whole path"),
    ("file://relative/path", "three slashes"),
    ("file://", "three slashes"),
    ("file:///folder?region=x", "takes no parameters"),
    ("file:///folder%00", "zero byte"),
    ("file:///folder#1", "written as %23"),
    ("s3://", "names no bucket"),
    ("s3:///prefix", "names no bucket"),
    ("s3://a_/x?region=eu_central", "region: expected"),
    ("s3://-bucket", "no name of a bucket: '-bucket'"),
    ("s3://bucket:9000", "no name of a bucket"),
    ("s3://bucket/a//b", "a part that is empty"),
    ("s3://bucket/a/../b", "a part that is empty"),
    ("s3://bucket?region=a&region=b", "region is given twice"),
    ("s3://bucket?region=", "region: expected a name"),
    ("s3://bucket?path_style=yes", "path_style: expected true or false"),
    ("s3://bucket?endpoint=127.0.0.1:9000", "endpoint: expected http://HOST:PORT"),
    ("s3://bucket?endpoint=http://", "endpoint: expected"),
    ("s3://bucket?endpoint=http://h:99999", "endpoint: expected"),
    ("s3://bucket?endpoint=http://h/path", "endpoint: expected"),
    ("s3://[bucket", "Invalid IPv6 URL"),
]


@pytest.mark.parametrize(("url", "reason"), REFUSED)
def test_a_wrong_url_ends_the_start_with_its_reason(url, reason):
    """The setting, the URL as it was given, and what is wrong with it."""
    with pytest.raises(errors.StartupError) as caught:
        location.parse(url)
    assert str(caught.value).startswith(f"LOOPAI_STORE_URL={url}: ")
    assert reason in str(caught.value)


def test_an_unknown_parameter_is_named_without_its_value():
    """It may be a secret; and what there is instead is said."""
    with pytest.raises(errors.StartupError) as caught:
        location.parse("s3://bucket?region=x&style=path")
    assert str(caught.value) == (
        "LOOPAI_STORE_URL=s3://bucket?region=x&style=…: "
        "no parameter 'style'; there are endpoint, region, path_style"
    )


@pytest.mark.parametrize(
    "url",
    [
        "s3://key:sesame@bucket/prefix",
        "s3://bucket?endpoint=http://key:sesame@host",
        "s3://bucket?endpoint=http%3A%2F%2Fkey%3Asesame%40host",
        "s3://bucket?secret_access_key=sesame",
        "https://key:sesame@host/bucket",
        "s3://key:sesame@[bucket",
    ],
)
def test_secrets_are_not_shown(url):
    """An error is logged and sent around: what was put into a URL by mistake stays out of it."""
    with pytest.raises(errors.StartupError) as caught:
        location.parse(url)
    assert "LOOPAI_STORE_URL=" in str(caught.value)
    assert "sesame" not in str(caught.value)


def test_a_folder_is_taken_apart():
    """Escapes stand for what a URL has another use for."""
    found = location.parse("file:///var/lib/loopai%20texts/%3F%23")
    assert isinstance(found, location.Folder)
    assert found.path == Path("/var/lib/loopai texts/?#")


def test_a_bucket_is_taken_apart():
    """Everything that an endpoint other than that of AWS needs."""
    found = location.parse(
        "s3://bucket/some/prefix/?endpoint=http://127.0.0.1:9000&region=eu-1&path_style=false"
    )
    assert isinstance(found, location.Bucket)
    assert (found.bucket, found.prefix) == ("bucket", "some/prefix")
    assert (found.endpoint, found.region) == ("http://127.0.0.1:9000", "eu-1")
    assert found.path_style is False


def test_a_bucket_needs_nothing_but_its_name():
    """The region and the endpoint then are those of AWS' own variables."""
    found = location.parse("s3://bucket")
    assert isinstance(found, location.Bucket)
    assert (found.bucket, found.prefix) == ("bucket", "")
    assert (found.endpoint, found.region, found.path_style) == (None, None, None)
