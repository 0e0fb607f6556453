"""The control plane for tests of this folder that need a real API server."""

from tests.support.controlplane import control_plane

__all__ = ["control_plane"]
