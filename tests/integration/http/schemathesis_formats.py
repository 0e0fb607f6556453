"""Loaded by the schemathesis process: formats of this API, which JSON Schema has no words for."""

import schemathesis
from hypothesis import strategies as st

schemathesis.openapi.format("cron", st.sampled_from(["* * * * *", "*/5 0-6 1,15 * MON-FRI", "30 0 6 * * *"]))
schemathesis.openapi.format("time-zone", st.sampled_from(["UTC", "Europe/Berlin", "America/New_York"]))
# A name that never resolves: what is accepted is called.
schemathesis.openapi.format("uri", st.sampled_from(["https://hooks.invalid/a?b=c", "http://hooks.invalid:8080/"]))
