"""Adapter to Redis/Valkey: live task states, announcements, registry, heartbeats and the event stream.

The only package of the API that talks to Redis for these; every call has a time limit and raises StoreUnavailableError.
"""

from taskfleet_api.live.overlay import overlay
from taskfleet_api.live.store import LiveState, LiveStore, StreamEntry
from taskfleet_api.live.subscriptions import Subscription

__all__ = ["LiveState", "LiveStore", "StreamEntry", "Subscription", "overlay"]
