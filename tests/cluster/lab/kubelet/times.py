# SPDX-License-Identifier: Apache-2.0
"""Times as the API writes them."""

from datetime import UTC, datetime


def now() -> str:
    """This second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
