"""The settings of reference 001 for this process."""

from functools import cache

from taskfleet_core.reference_settings import ReferenceSettings

__all__ = ["ReferenceSettings", "fetch_reference_settings"]


@cache
def fetch_reference_settings() -> ReferenceSettings:
    """The settings of this process, read from the environment once."""
    return ReferenceSettings()
