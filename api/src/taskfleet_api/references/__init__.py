"""The HTTP contracts of five reference projects, each at its own paths, mounted only when switched on.

The composition root takes the routers of `find_references(names)` into the app and keeps
`run_references(app, services)` open for the app's lifetime. Nothing else of the API may import this package.
"""

from taskfleet_api.references.mounting import find_references, run_references
from taskfleet_core.reference_settings import ReferenceSettings

__all__ = ["ReferenceSettings", "find_references", "run_references"]
