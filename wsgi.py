"""What a server is pointed at: `app` speaks WSGI, `asgi` is the same behind the front that `web` is served by."""

from bot_manager import log
from bot_manager.settings import Settings
from web import create_app
from web.front import create

settings = Settings.from_env()
log.set_up(settings.log_format, settings.log_level)
app = create_app(settings)
asgi = create(app, https=settings.address.startswith("https:"))
