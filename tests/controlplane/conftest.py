"""The control plane's fixtures, for the tests of this folder."""

from tests.support.controlplane import control_plane, controllers

__all__ = ["control_plane", "controllers"]
