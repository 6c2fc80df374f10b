"""A real HTTP server on loopback that behaves like the vendor, to test your code with.

There is no vendor sandbox, so this one answers as ``docs/wire.md`` describes: from public
documentation and observation, never verified against the live host.
"""

from mioesim_async.sandbox.clock import SandboxClock
from mioesim_async.sandbox.control import SandboxControl
from mioesim_async.sandbox.faults import Fault, Faults
from mioesim_async.sandbox.recorded import RecordedRequest, SandboxMail, SandboxOrder
from mioesim_async.sandbox.server import Sandbox

__all__ = [
    "Fault",
    "Faults",
    "RecordedRequest",
    "Sandbox",
    "SandboxClock",
    "SandboxControl",
    "SandboxMail",
    "SandboxOrder",
]
