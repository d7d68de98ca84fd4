"""The floor of a chat turn: aiohttp takes the update and sends a message; nothing is kept, nothing can be repeated."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator

from aiohttp import ClientSession, web

SESSION = web.AppKey("session", ClientSession)


async def update(request: web.Request) -> web.Response:
    told = (await request.json())["message"]
    url = f"{os.environ['TELEGRAM_API_URL']}/bot100001:AAE/sendMessage"
    async with request.app[SESSION].post(url, json={"chat_id": told["chat"]["id"], "text": told["text"]}) as answer:
        await answer.read()
    return web.Response()


async def _session(app: web.Application) -> AsyncIterator[None]:
    async with ClientSession() as app[SESSION]:
        yield


if __name__ == "__main__":
    app = web.Application()
    app.cleanup_ctx.append(_session)
    app.router.add_post("/tg/{bot}", update)
    web.run_app(app, host="127.0.0.1", port=int(os.environ["PORT"]), print=None, access_log=None)
