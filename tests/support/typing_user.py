"""Code as a user writes it; it is not run, only checked by the type checkers."""

from __future__ import annotations

import json
from typing import Any, Unpack

from mioesim_async import (
    CardOutcome,
    CardStatus,
    ClientOptions,
    Credentials,
    MioEsimClient,
    Order,
    errors,
    fan_out,
    json_schema,
    to_dict,
)
from mioesim_async.schemas import CardDetail


async def call(batch: list[int]) -> str:
    return str(batch)


async def show(outcome: CardOutcome) -> None:
    print(outcome.card and outcome.card.used_mb)


async def main() -> None:
    async with MioEsimClient(Credentials(phone_number="1", password="2", secret_key="3")) as client:
        cards: list[CardStatus] = await client.cards.query(["8985000000000000000"])
        async with client.cards.query_many(iter(["1"])) as outcomes:
            async for outcome in outcomes:
                await show(outcome)
        async for o in client.cards.details(["8985000000000000000"]):
            if o.card is not None and o.card.activation is not None:
                print(str(o.card.activation))
        orders: list[Order] = await client.orders.search(other_order_id="shop-1")
        async with client.orders.search(other_order_id="shop-1") as search:
            async for order in search:
                total: int | None = search.total
                print(order.order_num, total, orders)
        report = await client.cards.query_all([])
        failed: dict[str, errors.MioEsimError] = report.failed
        print(json.dumps(to_dict(report)), failed, cards)
        async with fan_out(range(3), call) as s:
            async for b in s:
                result: str | None = b.result
                print(result)


def shop_client(**options: Unpack[ClientOptions]) -> MioEsimClient:
    return MioEsimClient.from_profile("shop", **options)


def schema_of_cards() -> dict[str, Any]:
    return json_schema(CardStatus) | CardDetail.model_json_schema()


def wrong_names_and_types() -> None:
    # The type checkers must refuse each of these lines: an ignored error that is none is an error.
    MioEsimClient.from_env(time_outs=None)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    MioEsimClient.from_env(max_in_flight="8")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    MioEsimClient.from_profile("shop", tokens=None)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    shop_client(acount="main")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
