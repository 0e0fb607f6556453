"""Completion callbacks as HTTP: which receivers may be called, how a call is signed, and the call itself."""

from taskfleet_api.callbacks.addresses import is_public
from taskfleet_api.callbacks.policy import CallbackPolicy, CallbackRules, RefusedReceiverError, Target
from taskfleet_api.callbacks.sending import CallbackClient, Delivery
from taskfleet_api.callbacks.signing import decode_secret, sign

__all__ = [
    "CallbackClient",
    "CallbackPolicy",
    "CallbackRules",
    "Delivery",
    "RefusedReceiverError",
    "Target",
    "decode_secret",
    "is_public",
    "sign",
]
