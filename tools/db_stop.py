"""Stops the embedded PostgreSQL of DATA_DIR, if it runs; its users are cut off."""

from __future__ import annotations

from bot_manager.ops.postgres import Server
from bot_manager.settings import Settings

if __name__ == "__main__":
    server = Server(Settings.from_env().data_dir)
    ran = server.runs()
    server.stop()
    print("stopped" if ran else "it was not running")
