"""What edge and cloud share: model surgery, wire format, contract. It knows neither side."""

__version__ = "0.1.0"

PROTOCOL_VERSION = 8
"""Version of protos/sft/v1; raised with every change that an older peer would misread."""
