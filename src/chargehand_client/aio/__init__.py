"""The client for asyncio, by noun; each method mirrors that of ``sync``."""
