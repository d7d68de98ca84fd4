"""Asking gateways for money and hearing from them; `bot_manager.sales` decides what became of it."""
