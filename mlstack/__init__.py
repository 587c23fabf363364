"""From a folder of raw data to a monitored model in production, from one config file."""

__version__ = "0.1.0"
