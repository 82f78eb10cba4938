"""A RabbitMQ for tests: found by URL or port, else started privately, else installed when that is allowed."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, urlsplit, urlunsplit

import pika
from pika.exceptions import AMQPError
from services.apart import answers, free_port, is_running, missing

LOCAL = "amqp://guest:guest@127.0.0.1:5672/%2F"
BATCH = 8
SETTLED_SECONDS = 6.0
"""How long a new queue is left alone before its node is killed.

RabbitMQ 3.10 was seen to lose its own registration of a quorum queue made about a second before a SIGKILL: after the restart the
queue has no leader and confirms nothing. One made six seconds before came back. docs/brokers.md tells operators.
"""
BINARIES = ("/usr/lib/rabbitmq/bin", "/usr/local/lib/rabbitmq/bin", "/opt/rabbitmq/sbin")
VHOST = re.compile(r"hubtest-(\d+)-[0-9a-f]+")


def with_vhost(url: str, vhost: str) -> str:
    """Return the same server's URL with another virtual host."""
    return urlunsplit(urlsplit(url)._replace(path="/" + quote(vhost, safe="")))


def binary(name: str) -> str | None:
    """Return the path of one of RabbitMQ's programs, the unwrapped one first: the wrapper insists on its own user."""
    for folder in BINARIES:
        if (found := Path(folder) / name).exists():
            return str(found)
    return shutil.which(name)


def speaks(url: str) -> bool:
    """Say whether a broker accepts these credentials."""
    try:
        parameters = pika.URLParameters(url)
        parameters.socket_timeout = parameters.stack_timeout = parameters.blocked_connection_timeout = 5
        pika.BlockingConnection(parameters).close()
    except (AMQPError, OSError):
        return False
    return True


@dataclass
class Control:
    """Runs rabbitmqctl against one node."""

    environment: dict[str, str] = field(default_factory=lambda: dict(os.environ))
    program: str = "rabbitmqctl"

    def __call__(self, *arguments: str, seconds: float = 60.0) -> str:
        """Run one command and return what it printed; raises when it fails."""
        done = subprocess.run(
            [self.program, "--quiet", *arguments],
            env=self.environment, capture_output=True, text=True, timeout=seconds, check=False,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(
                f"rabbitmqctl {arguments[0]} failed: {(done.stderr or done.stdout).strip()[-400:]}"
            )
        return done.stdout


class PrivateNode:
    """A RabbitMQ node of our own: own ports, own data, own cookie, own name server; `beside` shares the last two."""

    def __init__(self, folder: Path, *, extra: str = "", beside: PrivateNode | None = None) -> None:
        self.folder = folder
        self.port, self.dist, self.epmd = free_port(), free_port(), beside.epmd if beside else free_port()
        self.process: subprocess.Popen[bytes] | None = None
        for name in ("home", "log", "data"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / "rabbitmq.conf").write_text(
            f"listeners.tcp.1 = 127.0.0.1:{self.port}\nlog.file.level = info\nlog.console = false\n{extra}\n"
        )
        (folder / "plugins").write_text("[].\n")
        self.environment = {
            "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
            "LANG": "C.UTF-8",
            # The cookie lies in the home folder: nodes that share it can form a cluster.
            "HOME": str((beside.folder if beside else folder) / "home"),
            "ERL_EPMD_PORT": str(self.epmd),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_CRASH_DUMP": str(folder / "log" / "crash.dump"),
            "RABBITMQ_NODENAME": f"hubtest{self.port}@localhost",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(self.dist),
            "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
            "RABBITMQ_CONF_ENV_FILE": str(folder / "none.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
            "RABBITMQ_MNESIA_BASE": str(folder / "data"),
            "RABBITMQ_LOG_BASE": str(folder / "log"),
            "RABBITMQ_GENERATED_CONFIG_DIR": str(folder / "data"),
            "RABBITMQ_SCHEMA_DIR": str(folder / "data"),
        }
        self.control = Control(self.environment, binary("rabbitmqctl") or "rabbitmqctl")
        self.url = f"amqp://guest:guest@127.0.0.1:{self.port}/%2F"

    def start(self, seconds: float = 60.0) -> None:
        """Start the node and wait until it serves."""
        program = binary("rabbitmq-server")
        assert program is not None
        with (self.folder / "log" / "out").open("ab") as out:
            self.process = subprocess.Popen(
                [program],
                env=self.environment,
                stdout=out,
                stderr=out,
                cwd=self.folder,
                start_new_session=True,
            )
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                break
            if answers("127.0.0.1", self.port) and speaks(self.url):
                return
            time.sleep(0.1)
        tail = (self.folder / "log" / "out").read_text(errors="replace")[-800:]
        self.stop()
        raise RuntimeError(f"The private RabbitMQ did not start: {tail}")

    def join(self, other: PrivateNode) -> None:
        """Make this started node a member of the other's cluster."""
        self.control("stop_app")
        self.control("join_cluster", other.environment["RABBITMQ_NODENAME"])
        self.control("start_app")

    def kill(self) -> None:
        """Kill the node as a power cut would."""
        self._signal(signal.SIGKILL)

    def erase(self) -> None:
        """Lose the node's disk: nothing it ever stored is left."""
        shutil.rmtree(self.folder / "data")
        (self.folder / "data").mkdir()

    def stop(self) -> None:
        """Stop the node and its name server."""
        self._signal(signal.SIGTERM)
        if program := shutil.which("epmd"):
            subprocess.run(
                [program, "-port", str(self.epmd), "-kill"],
                env=self.environment,
                capture_output=True,
                timeout=20,
                check=False,
            )

    def _signal(self, number: int) -> None:
        process, self.process = self.process, None
        if process is None:
            return
        # The group is ours alone: it was started with a session of its own.
        try:
            os.killpg(process.pid, number)
            process.wait(30)
        except ProcessLookupError:
            process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(30)


@dataclass
class Server:
    """A broker the tests may use, and the means to make virtual hosts on it where there are any."""

    url: str
    control: Control | None
    made: list[str] = field(default_factory=list)
    ready: list[str] = field(default_factory=list)

    def fresh_url(self) -> str:
        """Return the URL of an empty virtual host, or of the shared one where none can be made."""
        if self.control is None:
            return self.url
        if not self.ready:
            # One call makes several: each start of the control program costs a second.
            names = [f"hubtest-{os.getpid()}-{secrets.token_hex(4)}" for _ in range(BATCH)]
            user = urlsplit(self.url).username or "guest"
            self._each(
                names,
                'rabbit_vhost:add(V, <<"hub-tests">>), rabbit_auth_backend_internal:set_permissions('
                f'<<"{user}">>, V, <<".*">>, <<".*">>, <<".*">>, <<"hub-tests">>)',
            )
            self.made += names
            self.ready += names
        return with_vhost(self.url, self.ready.pop(0))

    def sweep(self) -> None:
        """Delete the virtual hosts that killed test runs of this machine left behind."""
        if self.control is not None:
            names = set(re.findall(r"hubtest-\d+-[0-9a-f]+", self.control("list_vhosts", "name")))
            self._delete([n for n in names if (m := VHOST.match(n)) and not is_running(int(m[1]))])

    def close(self) -> None:
        """Delete the virtual hosts that were made here."""
        self._delete(self.made)
        self.made = []

    def _delete(self, names: list[str]) -> None:
        if names:
            self._each(names, 'rabbit_vhost:delete(V, <<"hub-tests">>)')

    def _each(self, names: list[str], expression: str) -> None:
        assert self.control is not None
        listed = ", ".join(f'<<"{name}">>' for name in names)
        self.control("eval", f"[begin {expression} end || V <- [{listed}]], ok.", seconds=120)


def _local_control() -> Control | None:
    """Return a control program that reaches the running local node, when there is one.

    A packaged node runs as a user of its own; only the wrapper on the path takes that user's cookie.
    """
    control = Control()
    try:
        control("eval", "ok.", seconds=30)
    except (RuntimeError, OSError, subprocess.TimeoutExpired):
        return None
    return control


def may_install() -> bool:
    """Say whether the machine may be changed."""
    return os.environ.get("HUB_TEST_INSTALL") == "1" or os.environ.get("CI", "").lower() == "true"


def ensure_binary() -> bool:
    """Say whether a RabbitMQ program is here, after installing it when that is allowed."""
    if binary("rabbitmq-server") is None and may_install() and shutil.which("apt-get"):
        sudo = ["sudo", "-n"] if os.getuid() and shutil.which("sudo") else []
        for arguments in (["update"], ["install", "-y", "--no-install-recommends", "rabbitmq-server"]):
            environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
            subprocess.run(
                [*sudo, "apt-get", *arguments], env=environment, capture_output=True, timeout=600, check=False
            )
    return binary("rabbitmq-server") is not None


@contextmanager
def private_node(*, extra: str = "") -> Iterator[PrivateNode]:
    """Yield a started node of our own, stopped and erased afterwards."""
    if not ensure_binary():
        missing("RabbitMQ", "Install rabbitmq-server, or set HUB_TEST_INSTALL=1 to let the tests do it.")
    with tempfile.TemporaryDirectory(prefix="hubtest-mq-", ignore_cleanup_errors=True) as folder:
        node = PrivateNode(Path(folder), extra=extra)
        node.start()
        try:
            yield node
        finally:
            node.stop()


@contextmanager
def private_cluster(size: int = 3) -> Iterator[list[PrivateNode]]:
    """Yield the started nodes of a cluster of our own, stopped and erased afterwards."""
    if not ensure_binary():
        missing("RabbitMQ", "Install rabbitmq-server, or set HUB_TEST_INSTALL=1 to let the tests do it.")
    with tempfile.TemporaryDirectory(prefix="hubtest-mqc-", ignore_cleanup_errors=True) as folder:
        nodes: list[PrivateNode] = []
        try:
            for number in range(size):
                nodes.append(PrivateNode(Path(folder) / str(number), beside=nodes[0] if nodes else None))
                nodes[-1].start()
                if number:
                    nodes[-1].join(nodes[0])
            yield nodes
        finally:
            for node in reversed(nodes):
                node.stop()


@contextmanager
def server() -> Iterator[Server]:
    """Yield the first broker that can be had."""
    given = os.environ.get("HUB_TEST_BROKER_URL")
    if given or (answers("127.0.0.1", 5672) and speaks(LOCAL)):
        url = given or LOCAL
        local = (urlsplit(url).hostname or "") in {"127.0.0.1", "localhost"} and (
            urlsplit(url).port or 5672
        ) == 5672
        found = Server(url, _local_control() if local else None)
        found.sweep()
        try:
            yield found
        finally:
            found.close()
        return
    with private_node() as node:
        yield Server(node.url, node.control)
