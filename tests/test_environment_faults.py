"""Faults of the environment, recognized in exceptions and in stack traces."""

import errno
import os

import pytest

from deepfm.environment_faults import fault_in_text, to_fault_error
from deepfm.errors import UserError


@pytest.mark.parametrize(
    ("number", "problem"),
    [
        (errno.ENOSPC, "no space is left"),
        (errno.EDQUOT, "quota"),
        (errno.EROFS, "read-only"),
        (errno.EACCES, "cannot be written"),
        (errno.EMFILE, "too many open files"),
    ],
)
def test_an_error_number_is_explained(number, problem):
    message = str(to_fault_error(OSError(number, os.strerror(number), "/data/x"), "the build failed"))
    assert message.startswith("the build failed: ")
    assert problem in message


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("org.apache.hadoop.fs.FSError: java.io.IOException: No space left on device", "no space is left"),
        ("java.io.FileNotFoundException: /tmp/x (Too many open files)", "too many open files"),
        ("java.net.UnknownHostException: node7: Name or service not known", "(node7)"),
        ("UnsatisfiedLinkError: /t/a.so: failed to map segment from shared object", "noexec"),
        ("LoginException: java.lang.NullPointerException: invalid null input: name", "has no name"),
    ],
)
def test_the_text_of_a_stack_trace_is_explained(text, expected):
    assert expected in str(fault_in_text(text))


def test_bugs_and_user_errors_are_left_alone():
    assert to_fault_error(ValueError("3 is not 4")) is None
    assert to_fault_error(UserError("No space left on device")) is None
