"""What acme speaks, without any of the hub's words."""

from __future__ import annotations

import aiohttp

from connectors.http import Reply, http_request


class AcmeClient:
    """The three calls of acme's API that are needed."""

    def __init__(self, http: aiohttp.ClientSession, base_url: str, api_key: str) -> None:
        self._http = http
        self.base_url = base_url
        self._headers = {"Authorization": f"Bearer {api_key}", "Content-Type": "application/json"}

    async def health(self, deadline: float) -> Reply:
        """Ask how it is."""
        return await http_request(self._http, "GET", f"{self.base_url}/health", deadline=deadline, headers=self._headers)

    async def post(self, key: str, body: bytes, deadline: float) -> Reply:
        """Hand over one message under a key of ours."""
        headers = {**self._headers, "Idempotency-Key": key}
        return await http_request(
            self._http, "POST", f"{self.base_url}/messages", deadline=deadline, headers=headers, body=body
        )

    async def find(self, key: str, deadline: float) -> Reply:
        """Ask what became of the message with this key."""
        url = f"{self.base_url}/messages/{key}"
        return await http_request(self._http, "GET", url, deadline=deadline, headers=self._headers)
