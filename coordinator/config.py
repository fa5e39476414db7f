"""The coordinator's configuration: flags over environment over a TOML file over defaults.

Participants are named here and nowhere else: a client can never make the coordinator dial an address. This module
must not start anything.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from coordinator.core import limits
from coordinator.core.definition import BUILT_IN
from coordinator.core.instants import from_duration
from coordinator.dataflow import durations

_ADDRESS: Final = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[^\s:\[\]]+):(?P<port>\d{1,5})")
_NAME: Final = re.compile(rf"[a-z][a-z0-9_-]{{0,{limits.NAME_LENGTH_MAX - 1}}}")


def _address(value: str) -> str:
    match = _ADDRESS.fullmatch(value)
    if match is None or int(match["port"]) > 65535:
        raise ValueError(f"`{value}` is not HOST:PORT")
    return value


def _participant(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ValueError(f"`{name}` is not a participant's name: a letter, then [a-z0-9_-], is expected")
    if name == BUILT_IN:
        raise ValueError(f"`{name}` is the coordinator itself, whose actions are its definitions: use another name")
    return name


def _target(value: str) -> str:
    if not value.strip():
        raise ValueError("there is no target, for instance `127.0.0.1:50061`")
    return value


class ParticipantSettings(BaseModel):
    """How to reach a participant. A text alone is its target."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    target: Annotated[str, AfterValidator(_target)]
    calls_max: Annotated[int, Field(ge=1)] = limits.CALLS_PER_PARTICIPANT_MAX
    """How many calls to it are in flight at most; the others wait."""

    @model_validator(mode="before")
    @classmethod
    def _from_target(cls, value: object) -> object:
        return {"target": value} if isinstance(value, str) else value


def _length_ns(value: object) -> object:
    """Nanoseconds, from a text such as `720h`."""
    if not isinstance(value, str):
        return value
    length_ns = from_duration(durations.parse(value))
    if length_ns < 0:
        raise ValueError(f"`{value}` is negative")
    return length_ns


Length = Annotated[int, BeforeValidator(_length_ns), Field(ge=0)]


class Settings(BaseSettings):
    """Everything that can be set. Environment variables are `SAGA_` and the field's name in capitals."""

    model_config = SettingsConfigDict(env_prefix="SAGA_", extra="forbid")

    listen: Annotated[str, AfterValidator(_address)] = "127.0.0.1:7400"
    """HOST:PORT to serve on; port 0 picks a free one."""
    journal: Path = Path("saga.db")
    """The journal's SQLite file; created where there is none."""
    participants: dict[Annotated[str, AfterValidator(_participant)], ParticipantSettings] = Field(default_factory=dict)
    """Names of participants, and their gRPC targets or settings. Those of all sources are put together."""
    fast_lane: bool = True
    """Whether participants that offer Exchange are called over it; false: by unary calls only."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["text", "json"] = "text"
    unfinished_sagas_max: Annotated[int, Field(ge=1)] = limits.UNFINISHED_SAGAS_MAX
    """How many sagas may be unfinished before starts are refused."""
    drain_seconds: Annotated[float, Field(ge=0, le=3600)] = limits.DRAIN_DEFAULT_NS / limits.SECOND_NS
    """How long a shutdown waits for calls in flight."""
    retention: Length | None = None
    """How long an ended saga is kept, in nanoseconds or as a text such as `720h`; None: for ever."""
    tombstone_retention: Length = limits.TOMBSTONE_RETENTION_DEFAULT_NS
    """How much longer its id is remembered, so that it is not used again; in the same form."""
    export_directory: Path | None = None
    """Where retired sagas are exported to before they are deleted; None: nowhere. Made where it is missing."""

    @property
    def targets(self) -> dict[str, str]:
        """The participants' targets, by name."""
        return {name: each.target for name, each in self.participants.items()}

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003  # the signature is pydantic's
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Flags, then the environment, then the file named in `toml_file`."""
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls)


class ConfigurationError(Exception):
    """The configuration cannot be used; one line for each problem."""


def load(config_file: Path | None = None, **flags: Any) -> Settings:
    """The settings; flags that are None are not set. ConfigurationError where something is wrong."""
    given = {name: value for name, value in flags.items() if value is not None}
    if config_file is not None and not config_file.is_file():
        raise ConfigurationError(f"--config: there is no file {config_file}")

    class FromFile(Settings):
        model_config = SettingsConfigDict(toml_file=config_file)

    try:
        return FromFile(**given)
    except ValidationError as error:
        raise ConfigurationError("\n".join(_line(problem) for problem in error.errors())) from error
    except SettingsError as error:
        raise ConfigurationError(f"{error}: SAGA_PARTICIPANTS is a JSON object of names and targets") from error
    except (OSError, ValueError) as error:  # the file cannot be read, or is no TOML
        raise ConfigurationError(f"{config_file}: {error}") from error


def _line(problem: Any) -> str:
    where = ".".join(str(part) for part in problem["loc"] if part != "[key]")
    return f"{where}: {problem['msg'].removeprefix('Value error, ')}"
