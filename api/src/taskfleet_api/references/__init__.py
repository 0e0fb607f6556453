"""The HTTP contracts of five reference projects, each at its own paths, mounted only when switched on.

The composition root calls `mount_references(app, names)` while it builds the app and keeps `run_references(services)`
open for the app's lifetime. Nothing else of the API may import this package.
"""

from taskfleet_api.references.mounting import REFERENCES, mount_references, run_references
from taskfleet_core.reference_settings import ReferenceSettings

__all__ = ["REFERENCES", "ReferenceSettings", "mount_references", "run_references"]
