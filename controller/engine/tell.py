# SPDX-License-Identifier: Apache-2.0
"""What people are told: Events, the status annotation, and that something keeps failing.

Nothing here decides anything, and a failure of it hurts nobody.
"""

import asyncio
from collections.abc import Iterable, Mapping
from typing import Final

import structlog

from controller.core import errors
from controller.core.effects import Annotate
from controller.core.evidence.judge import Verdict
from controller.core.lifecycle.memory import Memory
from controller.core.lifecycle.situation import Notice
from controller.core.lifecycle.table import Phase
from controller.engine.act import Actor, Result
from controller.engine.carry import kind_of
from controller.engine.desk import Card
from controller.engine.meters import Meters
from controller.ports.clock import Clock
from controller.ports.cluster import Cluster

FAILING_SECONDS: Final = 30.0
"""What fails for so long is no hiccup, and people are told."""

AGAIN_SECONDS: Final = 60.0
"""The same words about the same target are not told more often: a rule whose write keeps failing
would say them at every tick."""

TELL_SECONDS: Final = 2.0
"""Longest that a tick waits for words: the next one may have to take weight away."""

log = structlog.get_logger(__name__)


class Teller:
    """Speaks to people about targets."""

    def __init__(self, *, cluster: Cluster, clock: Clock, actor: Actor, meters: Meters) -> None:
        """`actor` writes the status annotation."""
        self._cluster = cluster
        self._clock = clock
        self._actor = actor
        self._meters = meters

    async def tell(self, card: Card, notices: Iterable[Notice]) -> None:
        """An Event for each notice that was not told just now."""
        now = self._clock.monotonic()
        card.notices = {key: at for key, at in card.notices.items() if now - at < AGAIN_SECONDS}
        for notice in notices:
            key = (notice.reason, notice.message)
            if key in card.notices:
                continue
            card.notices[key] = now
            log.info(notice.message, target=str(card.target), reason=notice.reason)
            self._meters.notice(notice.reason)
            try:
                async with asyncio.timeout(TELL_SECONDS):
                    await self._cluster.tell(
                        card.target,
                        reason=notice.reason,
                        message=notice.message,
                        warning=notice.warning,
                    )
            except errors.SwitchgearError as error:
                log.debug("event not written", why=error.diagnostics())
            except TimeoutError:
                log.debug("event not written in time", reason=notice.reason)

    async def failing(self, card: Card, result: Result | None) -> None:
        """Tell once of what keeps failing, and again only when the error changes.

        A guard's refusal is no failure: it says itself whom it waits for.
        """
        now = self._clock.monotonic()
        if result is None or result.done or result.refusals:
            card.failing_since, card.failing_told = None, ""
            return
        card.failing_since = now if card.failing_since is None else card.failing_since
        kind = kind_of(result.words)
        if now - card.failing_since < FAILING_SECONDS or kind == card.failing_told:
            return
        card.failing_told = kind
        message = f"failing for {now - card.failing_since:.0f} s: {result.words}"[:900]
        await self.tell(card, (Notice(reason="EffectFailing", message=message, warning=True),))
        deployment = self._cluster.view(card.target).deployment
        if deployment is not None and card.memory is not None:
            text = f"{card.memory.phase.value}: {message}"
            await self.annotate(card, deployment.uid, {"status": text})

    async def waiting(self, card: Card, after: Memory, found: Verdict) -> None:
        """The status annotation again where a run waits for something else than was told."""
        now, codes = self._clock.monotonic(), tuple(reason.code for reason in found.reasons)
        if codes == card.told_codes or now - card.told_at < AGAIN_SECONDS:
            return
        await self.status(card, after, found)

    async def status(self, card: Card, after: Memory, found: Verdict | None) -> None:
        """The status annotation after a change of phase, or of what a verdict waits for."""
        card.told_at = self._clock.monotonic()
        card.told_codes = tuple(reason.code for reason in found.reasons) if found else ()
        view = self._cluster.view(card.target)
        if view.deployment is None:
            return
        text = f"{after.phase.value}: {card.why}"[:1000]
        if text == card.told:
            return
        annotations: dict[str, str | None] = {"status": text}
        if "abort" in view.deployment.annotations and after.phase in {Phase.HELD, Phase.ENDED}:
            annotations["abort"] = None
        await self.annotate(card, view.deployment.uid, annotations)

    async def annotate(self, card: Card, uid: str, annotations: Mapping[str, str | None]) -> None:
        """Write annotations of ours, of which `status` is what people were told last."""
        effect = Annotate(target=card.target, uid=uid, annotations=annotations)
        try:
            async with asyncio.timeout(TELL_SECONDS):
                result = await self._actor.safer(effect, None)
        except TimeoutError:
            return
        if result.done:
            card.told = annotations["status"] or ""
