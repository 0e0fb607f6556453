"""The settings of reference 001 under its own names, for the parts that follow them: API and local mode."""

from urllib.parse import quote

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

__all__ = ["ReferenceSettings"]


class ReferenceSettings(BaseSettings):
    """What reference 001 keeps in its `settings/constants.py`; ports and names are RabbitMQ's, times are seconds.

    Without `RABBITMQ_HOST` the broker is named elsewhere (`TASKFLEET_API_BROKER_URL`, `taskfleet up --broker`).
    """

    model_config = SettingsConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True, populate_by_name=True)

    task_timeout_seconds: float = Field(
        default=30, gt=0, le=3600, alias="TASK_TIMEOUT", description="How long `POST /delay` waits for its task."
    )
    worker_concurrency: int = Field(
        default=1, ge=1, le=1000, description="Tasks that the worker of `POST /delay` runs at once."
    )
    rabbitmq_host: str | None = Field(default=None, alias="RABBITMQ_HOST", description="Host of RabbitMQ.")
    rabbitmq_user: str = Field(default="guest", alias="RABBITMQ_DEFAULT_USER", description="User at RabbitMQ.")
    rabbitmq_password: SecretStr = Field(
        default=SecretStr("guest"), alias="RABBITMQ_DEFAULT_PASS", description="Password at RabbitMQ."
    )
    amqp_port: int = Field(default=5672, ge=1, le=65535, alias="PORT_AMQP", description="RabbitMQ's AMQP port.")
    web_port: int = Field(
        default=15672, ge=1, le=65535, alias="PORT_WEB", description="Port of RabbitMQ's management interface."
    )

    @property
    def broker_url(self) -> SecretStr | None:
        """The broker that these names describe, if they describe one."""
        if self.rabbitmq_host is None:
            return None
        return SecretStr(f"amqp://{self._credentials}@{self.rabbitmq_host}:{self.amqp_port}//")

    @property
    def management_url(self) -> SecretStr | None:
        """The management interface that belongs to `broker_url`."""
        if self.rabbitmq_host is None:
            return None
        return SecretStr(f"http://{self._credentials}@{self.rabbitmq_host}:{self.web_port}")

    @property
    def _credentials(self) -> str:
        password = self.rabbitmq_password.get_secret_value()
        return f"{quote(self.rabbitmq_user, safe='')}:{quote(password, safe='')}"
