# SPDX-License-Identifier: Apache-2.0
"""What stops the demo."""


class DemoError(Exception):
    """Something that the demo cannot do without; the message says what, and what to do."""
