"""The sandbox answers as ``wire.md`` says, asked by plain aiohttp and not by our own client."""

from __future__ import annotations

import aiohttp
import pytest
from plain_caller import DETAIL, LOGIN, ONE_CARD, QUERY, Signer, Wire, encoded, http, plain, wire

from mioesim_async.sandbox import Sandbox

__all__ = ["http", "wire"]


# Login and signature.


@pytest.mark.parametrize("signer", [plain, encoded])
@pytest.mark.parametrize(("method", "as_"), [("POST", "data"), ("POST", "json"), ("GET", "params")])
async def test_login_takes_both_schemes_and_all_three_encodings(
    http: aiohttp.ClientSession, sandbox: Sandbox, signer: Signer, method: str, as_: str
) -> None:
    caller = Wire(http, sandbox)

    reply = await caller.login(signer=signer, method=method, as_=as_)

    assert (reply.code, reply.json["message"]) == (1, "Successful")
    assert (await caller.read(QUERY, iccids=sandbox.iccids[0], signer=signer)).code == 0


@pytest.mark.parametrize(("taken", "refused"), [(plain, encoded), (encoded, plain)])
async def test_a_sandbox_of_one_scheme_refuses_the_other(
    http: aiohttp.ClientSession, taken: Signer, refused: Signer
) -> None:
    async with Sandbox(1, signature=taken.__name__) as sandbox:  # type: ignore[arg-type]
        caller = Wire(http, sandbox)
        assert (await caller.login(signer=refused)).code == -30
        assert (await caller.login(signer=taken)).code == 1
        assert (await caller.read(QUERY, iccids="1", signer=refused)).code == -30


async def test_login_refusals_have_the_codes_of_the_contract(
    http: aiohttp.ClientSession, sandbox: Sandbox
) -> None:
    caller = Wire(http, sandbox)

    assert (await caller.login(password="not-the-password")).code == -1
    assert (await caller.login(phonenumber="13700000000")).code == -1
    assert (await caller.login(password="")).code == -2
    assert (await caller.login(phonenumber="")).code == -2
    assert (await caller.login(signer=lambda params, _: plain(params, "other-key"))).code == -30
    assert (await caller.send(LOGIN, {}, method="POST")).code == -2
    assert (await caller.send(LOGIN, {}, method="POST", as_="json")).code == -2
    assert sandbox.logins == 0


@pytest.mark.parametrize("path", [QUERY, *ONE_CARD])
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_reads_check_token_and_sign(wire: Wire, path: str, method: str) -> None:
    iccid = wire.sandbox.iccids[0]
    card = {"iccids": iccid, "iccid": iccid}

    assert (await wire.read(path, method=method, **card)).code == 0
    wrong = {"token": wire.token, "sign": "0" * 32} | card
    assert (await wire.send(path, wrong, method=method)).code == -30
    for missing in ("token", "sign"):
        part = {name: value for name, value in wrong.items() if name != missing}
        assert (await wire.send(path, part, method=method)).code == -2
    assert (await wire.read(path, method=method)).code == -2, "no ICCID"
    wire.token = "1-MADEUP"
    assert (await wire.read(path, method=method, **card)).code == -1


async def test_empty_parameters_are_not_part_of_the_signature(wire: Wire) -> None:
    sent = {"token": wire.token, "iccids": wire.sandbox.iccids[0]}
    sent |= {"sign": plain(sent, wire.sandbox.credentials.secret_key), "remark": ""}
    assert (await wire.send(QUERY, sent)).code == 0


async def test_a_second_login_kills_the_first_token_at_once(wire: Wire) -> None:
    first = wire.token
    await wire.login()
    second, wire.token = wire.token, first

    assert (await wire.query(wire.sandbox.iccids[0])).code == -1
    wire.token = second
    assert (await wire.query(wire.sandbox.iccids[0])).code == 0
    assert wire.sandbox.logins == 2


async def test_a_refused_login_leaves_the_token_alive(wire: Wire) -> None:
    token = wire.token
    assert (await wire.login(password="not-the-password")).code == -1
    assert wire.token == token
    assert (await wire.query(wire.sandbox.iccids[0])).code == 0


async def test_a_token_lives_two_hours_of_the_sandboxs_clock(wire: Wire) -> None:
    wire.sandbox.clock.advance(2 * 60 * 60 - 30)
    assert (await wire.query(wire.sandbox.iccids[0])).code == 0
    wire.sandbox.clock.advance(30)
    assert (await wire.query(wire.sandbox.iccids[0])).code == -1


async def test_evict_kills_the_token(wire: Wire) -> None:
    wire.sandbox.evict()
    assert (await wire.query(wire.sandbox.iccids[0])).code == -1


# Cards.


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_hundred_cards_are_answered_and_one_more_is_refused(
    wire: Wire, method: str
) -> None:
    asked = wire.sandbox.iccids[:100]
    reply = await wire.query(*asked, method=method)
    assert [row["iccid"] for row in reply.data] == asked

    refused = await wire.query(*wire.sandbox.iccids[:101], method=method)
    assert (refused.code, refused.data) == (-8, None)


async def test_cards_that_are_not_the_accounts_are_left_out(wire: Wire) -> None:
    own = wire.sandbox.iccids[0]
    reply = await wire.query("8999000000000000000", own)
    assert (reply.code, [row["iccid"] for row in reply.data]) == (0, [own])
    for path in ONE_CARD:
        assert (await wire.read(path, iccid="8999000000000000000")).code == 3


async def test_refused_iccids_refuse_their_whole_call(wire: Wire) -> None:
    good, bad = wire.sandbox.iccids[:2]
    wire.sandbox.refused[bad] = -3
    assert (await wire.query(good, bad)).code == -3
    assert (await wire.query(good)).code == 0
    assert (await wire.read(DETAIL, iccid=bad)).code == -3


async def test_cards_are_spelled_as_the_vendor_spells_them(wire: Wire) -> None:
    rows = (await wire.query(*wire.sandbox.iccids[:100])).data

    assert {row["dpStatus"] for row in rows} == {"ACTIVE", "Enable", "Disable", "Delete"}
    assert {type(row["usedMB"]) for row in rows} == {str}
    assert not any("usedMb" in row for row in rows)

    detail = (await wire.read(DETAIL, iccid=rows[0]["iccid"])).data
    assert rows[0].items() <= detail.items()
    assert detail["code"] == f"LPA:1${detail['sm_dp_address']}${detail['activationCode']}"


async def test_renewal_packages_come_in_a_list_also_where_there_is_one_sku(wire: Wire) -> None:
    path = "/api_esim/getIccidSupportPackageInfo"
    replies = [(await wire.read(path, iccid=iccid)).data for iccid in wire.sandbox.iccids[:12]]

    assert {type(data) for data in replies} == {list}
    assert {len(data) for data in replies} == {1, 2, 3}
    assert all("esimPackageVoList" in sku for data in replies for sku in data)


async def test_text_codes_come_with_msg(http: aiohttp.ClientSession) -> None:
    async with Sandbox(1, text_codes=True) as sandbox:
        caller = Wire(http, sandbox)
        login = (await caller.login()).json
        assert (login["code"], login["msg"]) == ("1", "Successful")
        caller.token = login["data"]["token"]
        reply = (await caller.query(sandbox.iccids[0])).json
        assert (reply["code"], reply["msg"]) == ("0", "success")
        assert "message" not in login | reply
        assert (await caller.query()).code == "-2"


@pytest.mark.parametrize("shape", ["list", "map", "list in object", "map in object"])
async def test_a_batch_has_the_shape_that_was_asked_for(
    http: aiohttp.ClientSession, shape: str
) -> None:
    async with Sandbox(3, shape=shape) as sandbox:
        caller = Wire(http, sandbox)
        await caller.login()
        data = (await caller.query(*sandbox.iccids)).data

        if "object" in shape:
            (data,) = [value for value in data.values() if not isinstance(value, int)]
        assert isinstance(data, dict if "map" in shape else list)
        if isinstance(data, dict):
            assert all(key == row["iccid"] for key, row in data.items())
            data = [*data.values()]
        assert [row["iccid"] for row in data] == sandbox.iccids


async def test_same_seed_same_cards_other_seed_other_cards(http: aiohttp.ClientSession) -> None:
    seen = []
    for seed in (7, 7, 8):
        async with Sandbox(50, seed) as sandbox:
            caller = Wire(http, sandbox)
            await caller.login()
            rows = (await caller.query(*sandbox.iccids)).data
            details = [(await caller.read(path, iccid=sandbox.iccids[0])).data for path in ONE_CARD]
            seen.append((sandbox.iccids[:], rows, details))

    assert seen[0] == seen[1]
    assert not {*seen[0][0]} & {*seen[2][0]}
    statuses = [[row["remainingMB"] for row in rows] for _, rows, _ in seen]
    assert statuses[0] != statuses[2]


# What one deployment insists on.


@pytest.mark.parametrize("only", ["form", "query", "json"])
async def test_one_way_to_log_in_refuses_the_others_with_html(
    http: aiohttp.ClientSession, only: str
) -> None:
    ways = {"form": ("POST", "data"), "query": ("GET", "params"), "json": ("POST", "json")}
    async with Sandbox(1, login_encoding=only) as sandbox:  # type: ignore[arg-type]
        caller = Wire(http, sandbox)
        for way, (method, as_) in ways.items():
            reply = await caller.login(method=method, as_=as_)
            if way == only:
                assert reply.code == 1
            else:
                assert (reply.status in (405, 415), reply.body[:1]) == (True, b"<")
        assert sandbox.logins == 1


@pytest.mark.parametrize(("only", "other"), [("GET", "POST"), ("POST", "GET")])
async def test_one_read_method_refuses_the_other_with_html(
    http: aiohttp.ClientSession, only: str, other: str
) -> None:
    async with Sandbox(1, read_method=only) as sandbox:  # type: ignore[arg-type]
        caller = Wire(http, sandbox)
        await caller.login()
        assert (await caller.query(*sandbox.iccids, method=only)).code == 0
        refused = await caller.query(*sandbox.iccids, method=other)
        assert (refused.status >= 400, refused.body[:1]) == (True, b"<")


async def test_the_batch_parameter_can_have_another_name(http: aiohttp.ClientSession) -> None:
    async with Sandbox(2, batch_parameter="iccidList") as sandbox:
        caller = Wire(http, sandbox)
        await caller.login()
        assert (await caller.query(*sandbox.iccids)).code == -2
        reply = await caller.read(QUERY, iccidList=",".join(sandbox.iccids))
        assert len(reply.data) == 2


async def test_a_wrong_path_is_answered_with_html(wire: Wire) -> None:
    for method in ("GET", "POST"):
        reply = await wire.read("/api_esim/noSuchThing", method=method)
        assert (reply.status, reply.headers["Content-Type"][:9]) == (404, "text/html")
        assert reply.body.startswith(b"<!DOCTYPE html>")
