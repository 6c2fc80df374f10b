"""The main job: any number of cards through one pooled session."""

from __future__ import annotations

from mioesim_async import MioEsimClient
from mioesim_async.sandbox import Sandbox


async def test_a_thousand_cards_in_ten_requests_and_one_login(
    sandbox: Sandbox, client: MioEsimClient
) -> None:
    report = await client.cards.query_all(sandbox.iccids)

    assert report.cards.keys() == set(sandbox.iccids)
    assert (report.missing, report.failed) == ([], {})
    assert [request.endpoint for request in sandbox.requests].count("queryIccidInformation") == 10
    assert sandbox.logins == 1
