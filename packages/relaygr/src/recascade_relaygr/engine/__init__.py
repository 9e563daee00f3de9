"""The relay on this machine: PyTorch in lanes, memory in pages, an asyncio engine and its HTTP service."""
