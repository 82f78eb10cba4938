"""The hub's settings: environment variables `HUB_*`, then `hub.toml`, then these defaults."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from canonical_model.errors import ConfigError


class HubSettings(BaseSettings):
    """Everything an operator can set; each field is documented in docs/settings.md."""

    model_config = SettingsConfigDict(
        env_prefix="HUB_",
        extra="forbid",
        frozen=True,
        toml_file=os.environ.get("HUB_SETTINGS_FILE", "hub.toml"),
    )

    data_dir: Path = Field(
        Path(".hub"), description="Where the embedded database, generated keys and stored bodies lie."
    )
    config_dir: Path | None = Field(
        None, description="Folder with routes/, targets/, mappings/ and partners.yaml."
    )
    database_url: SecretStr | None = Field(
        None, description="PostgreSQL URL; unset starts a private embedded server."
    )
    database_pool: Annotated[int, Field(ge=2, le=200)] = Field(
        12, description="Most database connections of one process."
    )
    database_statement_cache: Annotated[int, Field(ge=0)] = Field(
        200, description="Prepared statements kept per connection; 0 behind PgBouncer in transaction mode."
    )
    broker_url: SecretStr | None = Field(
        None, description="AMQP URL(s) of RabbitMQ, comma separated; unset uses the postgres broker."
    )
    broker_ca: Path | None = Field(None, description="CA file that signed the broker's certificate.")
    broker_prefix: str = Field(
        "hub",
        pattern=r"^[A-Za-z0-9_-]{1,40}$",
        description="First part of every queue's name; keeps several hubs on one broker apart.",
    )
    host: str = Field("127.0.0.1", description="Address the HTTP server listens on.")
    port: Annotated[int, Field(ge=0, le=65535)] = Field(
        8080, description="Port the HTTP server listens on; 0 picks one."
    )
    metrics_host: str = Field(
        "127.0.0.1",
        min_length=1,
        description="Address of the metrics listener; what it answers names no person and needs no token.",
    )
    metrics_port: Annotated[int, Field(ge=0, le=65535)] = Field(
        0, description="Port of the metrics listener of any role; 0 has none."
    )
    tls_cert: Path | None = Field(None, description="Server certificate chain (PEM).")
    tls_key: Path | None = Field(None, description="Private key of the server certificate (PEM).")
    behind_tls_proxy: bool = Field(
        False, description="Allow a non-loopback address without TLS: a proxy in front ends it."
    )
    public_url: str | None = Field(
        None, description="The URL partners use; becomes issuer and audience of our tokens."
    )
    oidc_issuer: str | None = Field(None, description="An outside OIDC issuer whose tokens are accepted too.")
    oidc_audience: str = Field("openspp-hub", description="Audience our API expects in tokens.")
    kek_file: Path | None = Field(
        None, description="File with the 32-byte key-encryption key (base64); generated if unset."
    )
    kek_url: str | None = Field(
        None,
        description="Key of a transit secrets engine that takes the file's place: https://HOST:8200/v1/transit/keys/NAME.",
    )
    kek_token_file: Path | None = Field(
        None, description="File with the token for the key service; read at each call."
    )
    kek_ca: Path | None = Field(None, description="CA file that signed the key service's certificate.")
    kek_old_file: Path | None = Field(
        None,
        description="Key file that is accepted beside the one in use, while `hub keys rotate` replaces it.",
    )
    kek_old_url: str | None = Field(
        None, description="Key service that is accepted beside the one in use, while it is replaced."
    )
    signing_key_file: Path | None = Field(
        None, description="ES256 private key (PEM) that signs tokens; generated if unset."
    )
    partition: Literal["day", "month"] = Field(
        "month", description="Length of one partition of the message store."
    )
    retention_days: Annotated[int, Field(ge=1, le=36500)] = Field(
        400, description="Days a message stays when its routes name no retention."
    )
    origin_retention_days: Annotated[int, Field(ge=1)] = Field(
        60, description="Days a repeated message id is recognised."
    )
    audit_seal_seconds: Annotated[float, Field(ge=1, le=86400)] = Field(
        60, description="Seconds between two rounds that seal the audit trail."
    )
    body_limit: Annotated[int, Field(ge=1024)] = Field(
        10 * 1024 * 1024, description="Largest request body in bytes."
    )
    claim_check_bytes: Annotated[int, Field(ge=1024)] = Field(
        256 * 1024, description="Bodies above this many bytes go to the object store."
    )
    object_store: str | None = Field(
        None, description="URL of the object store (s3://bucket/prefix); unset uses data_dir."
    )
    group_commit_ms: Annotated[float, Field(ge=0, le=100)] = Field(
        5.0, description="How long writes are collected."
    )
    prefetch: Annotated[int, Field(ge=1, le=5000)] = Field(
        200, description="Parcels a worker holds per route."
    )
    job_parallel: Annotated[int, Field(ge=1, le=32)] = Field(2, description="Jobs a worker runs at once.")
    program_upkeep_seconds: Annotated[float, Field(ge=0)] = Field(
        600,
        description="Seconds between looks for what programs need when its day has come (grace, vouchers, next cycles); 0 never.",
    )
    rate_limit: Annotated[float, Field(gt=0)] = Field(
        2000, description="Messages a second each partner may send."
    )
    rate_burst: Annotated[int, Field(ge=1)] = Field(4000, description="Messages a partner may send at once.")
    request_timeout: Annotated[float, Field(gt=0)] = Field(
        30, description="Seconds a request may take to arrive whole."
    )
    nested_groups: bool = Field(
        False, description="Allow groups to be members of groups, as where families make up a household."
    )
    region: Annotated[str | None, Field(pattern=r"^[A-Z]{2}$")] = Field(
        None, description="Country (ISO 3166-1 alpha-2) of phone numbers written without country code."
    )
    reference_system: Annotated[str | None, Field(pattern=r"^[a-z][a-z0-9-]{0,39}$")] = Field(
        None,
        description="Name of the ID system that keeps people's identity; the hub then keeps its token only.",
    )
    reference_identifier: Annotated[str | None, Field(max_length=200)] = Field(
        None, description="Namespace, else type, of the identifier that is the ID system's token."
    )
    reference_sources: str = Field(
        "*",
        max_length=2000,
        description="Sources of people kept by reference, as patterns, comma separated; * is everybody.",
    )
    reference_indexes: Literal["token", "identifiers", "names"] = Field(
        "token",
        description="What of people kept by reference is looked up by keyed hashes: the token alone, all identifiers, or names and contacts too.",
    )
    reference_deadline: Annotated[float, Field(ge=0.1, le=60)] = Field(
        5.0, description="Seconds the ID system has for an answer."
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", description="Least level that is logged."
    )
    log_format: Literal["json", "text"] = Field("json", description="JSON lines, or text for a person.")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read arguments first, then the environment, then the TOML file."""
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls)


def load_settings(**overrides: Any) -> HubSettings:
    """Return the settings in force; raises `ConfigError` that names the wrong key and never its value."""
    try:
        return HubSettings(**overrides)
    except ValidationError as error:
        places = "; ".join(
            f"{'.'.join(map(str, item['loc']))}: {item['msg']}"
            for item in error.errors(include_input=False, include_url=False)
        )
        raise ConfigError(
            f"The settings are wrong: {places}. Nothing was started.",
            code="settings-invalid",
            remedy="Correct the HUB_* variable or the key in hub.toml; docs/settings.md lists all of them.",
        ) from None
