# SPDX-License-Identifier: Apache-2.0
"""Every error that crosses a room's border.

    SwitchgearError
    |- Unavailable        the other side did not answer properly; trying again may help (retry)
    |  `- MetricsUnavailable
    |     |- MetricsTooLarge
    |     `- MetricsTimedOut
    |- Conflict           our picture was old; read again and decide again (re-read)
    |- Missing            the object is not there (re-read)
    |- Refused            the other side understood and said no; trying again will not help (refuse)
    |  `- Forbidden       ... because we lack a right (refuse, and page)
    `- InvariantBroken    one of our own promises does not hold: stop raising, page

Adapters translate at their edge and chain the cause; nothing above an adapter sees an HTTP status.
"""


class SwitchgearError(Exception):
    """Base of all our errors. `diagnostics()` says what a person can do next."""

    def __init__(self, message: str, *, advice: str = "") -> None:
        """Say what happened in `message` and, where there is something to do, what in `advice`."""
        super().__init__(message)
        self.message = message
        self.advice = advice

    def diagnostics(self) -> str:
        """The message and the advice as one text."""
        return f"{self.message}. {self.advice}" if self.advice else self.message


class Unavailable(SwitchgearError):
    """No proper answer: refused, reset, timed out, 429 or 5xx. The effect may have happened."""

    def __init__(
        self, message: str, *, advice: str = "", retry_after_seconds: float | None = None
    ) -> None:
        """`retry_after_seconds` is the least wait that the other side asked for, if it did."""
        super().__init__(message, advice=advice)
        self.retry_after_seconds = retry_after_seconds


class MetricsUnavailable(Unavailable):
    """The metrics store gave no usable answer; the verdict is HOLD, never a pass or a failure."""


class MetricsTooLarge(MetricsUnavailable):
    """The metrics store has more to say to this question than is taken in at once."""


class MetricsTimedOut(MetricsUnavailable):
    """The metrics store took too long over this question, and would again."""


class Conflict(SwitchgearError):
    """A precondition of a write did not hold (409, or a failed `test` in a JSON patch)."""


class Missing(SwitchgearError):
    """The object does not exist (404)."""


class Refused(SwitchgearError):
    """The other side understood and said no (400, 422, a foreign object under our name)."""


class Forbidden(Refused):
    """We lack a right (401, 403)."""


class InvariantBroken(SwitchgearError):
    """A promise of ours does not hold; the controller stops raising weight."""
