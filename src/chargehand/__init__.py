"""Chargehand: a self-hosted, multi-tenant manager for AI agents."""

__version__ = "0.1.0"
