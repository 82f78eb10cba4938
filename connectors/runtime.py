"""The runtime that holds the configured targets open and keeps their connectors within bounds."""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final, cast

import aiohttp

from canonical_model.message import Message
from connectors.contract import Callback, CallbackAnswer, Connector, Context, Health, Receipt, Repeat
from connectors.discovery import Broken, discover
from connectors.errors import ConfigError, Defect, HubError, Unavailable, Unknown
from connectors.network import open_session
from connectors.targets import TargetConfig, build_settings, load_targets
from registry.logs import log

__all__ = ["Broken", "ConnectorRuntime", "OpenTarget", "TargetConfig", "discover", "load_targets"]

_REOPEN_PAUSE: Final = 5.0
_PROBE_SECONDS: Final = 10.0
_LOG = logging.getLogger("openspp.connectors")


def defect_of(error: BaseException, target: str) -> Defect:
    """Return the defect that stands for an exception a connector let through: its class and place, never its text."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return Defect(
        f"The connector of target {target} raised {type(error).__name__}{place}.",
        code="connector-defect",
        remedy="Report it to the connector's owner; replay the message after an update.",
    )


class OpenTarget:
    """A configured connector as the worker sees it: bounded in time and number, and only hub errors come out."""

    def __init__(self, config: TargetConfig, connector: Connector) -> None:
        self.name = config.name
        self.connector = config.connector
        # What the operator says of this target comes first, then what the connector read in its settings.
        own: Repeat = getattr(connector, "repeat", connector.manifest.repeat)
        self.repeat: Repeat = config.repeat or own
        self.concurrency = config.concurrency
        self.timeout = config.timeout
        self._inner = connector
        self._slots = asyncio.Semaphore(config.concurrency)
        self._ready = False
        self._context: Context | None = None
        self._opening = asyncio.Lock()
        self._fault: HubError | None = None
        self._not_before = 0.0

    async def send(self, message: Message, deadline: float) -> Receipt:
        """Send one message; past the deadline an unanswered send is `Unknown`, one never begun is `Unavailable`."""
        begun = False
        end = min(deadline, asyncio.get_running_loop().time() + self.timeout)
        try:
            async with asyncio.timeout_at(end) as scope, self._slots:
                if not self._ready:
                    await self._reopen()
                begun = True
                receipt = await self._inner.send(message, end)
        except HubError:
            raise
        except Exception as error:
            if scope.expired():
                raise self._late(begun, message) from None
            raise defect_of(error, self.name) from None
        if type(receipt) is not Receipt:
            raise defect_of(TypeError(), self.name)
        return receipt

    async def ask(self, message: Message, deadline: float) -> Receipt | None:
        """Ask what became of an earlier send; past the deadline the outcome stays `Unknown`."""
        end = min(deadline, asyncio.get_running_loop().time() + self.timeout)
        try:
            async with asyncio.timeout_at(end) as scope, self._slots:
                if not self._ready:
                    await self._reopen()
                return await self._inner.ask(message, end)
        except HubError:
            raise
        except Exception as error:
            if scope.expired():
                raise self._late(True, message) from None
            raise defect_of(error, self.name) from None

    async def receive(self, callback: Callback) -> list[Message]:
        """Turn a callback of the outside system into messages."""
        try:
            async with asyncio.timeout(self.timeout):
                return list(await self._inner.receive(callback))
        except HubError:
            raise
        except Exception as error:
            raise defect_of(error, self.name) from None

    @property
    def takes_callbacks(self) -> bool:
        """Whether the connector takes callbacks, proving itself who sent them and answering in its target's own form."""
        return hasattr(self._inner, "answer")

    @property
    def pays(self) -> bool:
        """Whether the connector has a rail, to be driven with the transfers of its target."""
        return hasattr(type(self._inner), "rail")

    @property
    def rail(self) -> Any:
        """The rail of a connector that pays; raises `Unavailable` while it is not open."""
        return cast("Any", self._inner).rail

    async def ready(self) -> None:
        """Open the connector unless it is open; raises `Unavailable` while its system is away."""
        if not self._ready:
            await self._reopen()

    async def answer(self, callback: Callback) -> CallbackAnswer:
        """Take a callback and return the answer the outside system expects."""
        try:
            async with asyncio.timeout(self.timeout):
                await self.ready()
                return cast("CallbackAnswer", await cast("Any", self._inner).answer(callback))
        except HubError:
            raise
        except TimeoutError:
            raise Unavailable(
                f"Target {self.name} did not take a callback in time.", code="target-busy", retry_after=1
            ) from None
        except Exception as error:
            raise defect_of(error, self.name) from None

    async def probe(self) -> Health:
        """Ask the outside system how it is; never raises, never takes longer than ten seconds."""
        try:
            async with asyncio.timeout(_PROBE_SECONDS):
                if not self._ready:
                    await self._reopen()
                return await self._inner.probe()
        except HubError as error:
            return Health(False, str(error))
        except TimeoutError:
            return Health(
                False,
                f"Target {self.name} did not answer within {_PROBE_SECONDS:.0f} seconds.",
                _PROBE_SECONDS,
            )
        except Exception as error:
            return Health(False, str(defect_of(error, self.name)))

    async def open(self, context: Context) -> None:
        """Open the connector; a target that is away now is opened again at its next message."""
        self._context = context
        try:
            async with asyncio.timeout(self.timeout):
                await self._reopen()
        except Unavailable as error:
            log(_LOG, logging.WARNING, "target-away-at-start", target=self.name, code=error.code)
        except TimeoutError:
            log(_LOG, logging.WARNING, "target-away-at-start", target=self.name, code="target-unavailable")
        except HubError:
            raise
        except Exception as error:
            raise defect_of(error, self.name) from None

    async def close(self) -> None:
        """Close the connector; safe to call twice."""
        self._ready = False
        self._context = None
        try:
            async with asyncio.timeout(_PROBE_SECONDS):
                await self._inner.close()
        except Exception as error:
            # Closing must reach every target; what one of them does wrong is reported and passed over.
            log(_LOG, logging.WARNING, "target-close-failed", error=error, target=self.name)

    async def _reopen(self) -> None:
        loop = asyncio.get_running_loop()
        async with self._opening:
            if self._ready:
                return
            if self._context is None:
                raise Unavailable(f"Target {self.name} is closed.", code="target-closed")
            wait = self._not_before - loop.time()
            if wait > 0:
                fault = self._fault
                raise Unavailable(
                    f"Target {self.name} could not be opened a moment ago. {fault.detail if fault else ''}".rstrip(),
                    code=fault.code if fault else "target-unavailable",
                    remedy=fault.remedy if fault else None,
                    retry_after=wait,
                )
            self._not_before = loop.time() + _REOPEN_PAUSE
            self._fault = None
            try:
                await self._inner.open(self._context)
            except HubError as error:
                self._fault = error
                raise
            self._ready = True

    def _late(self, begun: bool, message: Message) -> HubError:
        if begun:
            return Unknown(
                f"Target {self.name} gave no answer about message {message.id} in time.",
                code="outcome-unknown",
                remedy="The hub asks or repeats as the target allows; otherwise ask the partner.",
            )
        return Unavailable(
            f"Target {self.name} had no free place for message {message.id} in time; nothing was sent.",
            code="target-busy",
            remedy="Raise the target's concurrency, or its timeout, if this goes on.",
        )


class ConnectorRuntime:
    """Builds, opens, finds and closes all configured targets.

    Construction raises `ConfigError` for an unknown connector or wrong settings, before anything is opened.
    """

    def __init__(
        self,
        targets: Iterable[TargetConfig],
        services: Mapping[str, Any] | None = None,
        *,
        connectors: Mapping[str, type[Connector]] | None = None,
    ) -> None:
        configs = list(targets)
        known = discover() if connectors is None else connectors
        self._services = dict(services or {})
        self._targets: dict[str, OpenTarget] = {}
        self._http: aiohttp.ClientSession | None = None
        for config in configs:
            if config.connector not in known:
                raise ConfigError(
                    f"Target {config.name} asks for the connector {config.connector}, which is not installed.",
                    code="connector-unknown",
                    remedy=f"Installed are: {', '.join(sorted(known)) or 'none'}. See `hub connector list`.",
                )
            kind = known[config.connector]
            self._targets[config.name] = OpenTarget(config, kind(build_settings(config, kind)))

    async def open(self) -> None:
        """Open all targets at once; `ConfigError` and `Defect` stop the start, an absent target does not."""
        self._http = open_session()
        try:
            async with asyncio.TaskGroup() as group:
                for target in self._targets.values():
                    group.create_task(target.open(Context(target.name, self._http, self._services)))
        except BaseExceptionGroup as failed:
            await self.close()
            raise _first(failed) from None
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Close all targets and the shared HTTP session; safe to call twice."""
        await asyncio.gather(*(target.close() for target in self._targets.values()))
        if self._http is not None:
            await self._http.close()
            self._http = None

    def get(self, name: str) -> OpenTarget:
        """Return the target of this name; raises `ConfigError` when none is configured."""
        try:
            return self._targets[name]
        except KeyError:
            raise ConfigError(
                f"No target named {name} is configured.",
                code="target-unknown",
                remedy=f"Configured are: {', '.join(sorted(self._targets)) or 'none'}.",
            ) from None

    @property
    def names(self) -> list[str]:
        """The names of the configured targets, sorted."""
        return sorted(self._targets)

    async def probe_all(self) -> dict[str, Health]:
        """Ask every target how it is, at the same time; keys are target names."""
        found = await asyncio.gather(*(self._targets[name].probe() for name in self.names))
        return dict(zip(self.names, found, strict=True))


def _first(failed: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the first single error of a nested group; the rest belong to the same failed start."""
    error: BaseException = failed
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
