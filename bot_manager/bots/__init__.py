"""A seller's bots: connected, polled, and what happens in their chats kept."""
