# SPDX-License-Identifier: Apache-2.0
"""From when on the gateways' settling time counts, by what was read back and when."""

from controller.core.observation import Route
from controller.core.values import RouteRef
from controller.engine.quiet import Quiet


def route(generation: int, uid: str = "1") -> Route:
    return Route(
        ref=RouteRef("HTTPRoute", "shop", "checkout"), uid=uid, version="1",
        generation=generation, backends=(), accepted=True,
    )  # fmt: skip


def begun(*, told: bool = True) -> Quiet:
    """Weight 0 was written, and read back at 10 s."""
    quiet = Quiet(exposed=True, seconds=2.5)
    quiet.read([route(7)])
    quiet.begin(10.0, told=told)
    return quiet


def test_it_counts_from_the_first_read_back_if_nothing_has_moved() -> None:
    quiet = begun()
    quiet.read([route(7)])
    quiet.looked(11.0, pending=False, voided=True)
    assert quiet.left(11.0) == 1.5
    assert quiet.left(13.0) == 0.0


def test_a_raise_that_came_and_went_while_it_could_begins_it_anew() -> None:
    """Both read-backs show 0; the generation tells of what was between."""
    for moved in (route(9), route(7, uid="2")):
        quiet = begun()
        quiet.read([moved])
        quiet.looked(11.0, pending=False, voided=True)
        assert quiet.left(11.0) == 2.5


def test_a_way_back_that_goes_on_when_no_raise_can_come_moves_nothing() -> None:
    quiet = begun()
    quiet.looked(11.0, pending=False, voided=True)
    quiet.read([route(8)])
    quiet.looked(12.0, pending=False, voided=True)
    assert quiet.left(12.0) == 0.5


def test_while_raises_may_come_every_look_at_a_route_that_moved_begins_it_anew() -> None:
    quiet = begun()
    quiet.read([route(9)])
    quiet.looked(11.0, pending=False, voided=False)
    quiet.looked(12.0, pending=False, voided=False)
    assert quiet.left(12.0) == 2.5
    quiet.looked(13.0, pending=False, voided=True)
    quiet.looked(14.0, pending=False, voided=True)
    assert quiet.left(14.0) == 1.5


def test_where_routes_do_not_tell_everything_it_counts_from_the_first_sure_look() -> None:
    """A Service has no generation, and what could not be written or read says nothing."""
    quiet = begun(told=False)
    quiet.looked(11.0, pending=False, voided=True)
    assert quiet.left(11.0) == 2.5


def test_what_still_has_a_weight_begins_it_anew_whenever_that_is() -> None:
    quiet = begun()
    quiet.looked(11.0, pending=False, voided=True)
    quiet.looked(12.0, pending=True, voided=True)
    quiet.looked(12.5, pending=False, voided=True)
    assert quiet.left(12.5) == 2.0


def test_without_anything_that_had_a_weight_nobody_is_waited_for() -> None:
    quiet = Quiet(seconds=2.5)
    quiet.begin(10.0, told=True)
    assert quiet.left(10.0) == 0.0
    quiet.looked(11.0, pending=True, voided=True)
    assert quiet.left(11.0) == 2.5, "a run that was not known before"
