"""How gunicorn serves the web door: `gunicorn -c python:web.gunicorn_conf <module>:<app made by front.create>`."""

from __future__ import annotations

from bot_manager.ops import open_files
from bot_manager.settings import Settings

_settings = Settings.from_env()

# Without a public address this is somebody's laptop: nobody else has business with a panel over plain HTTP.
bind = f"{'0.0.0.0' if _settings.public_url else '127.0.0.1'}:{_settings.port}"  # noqa: S104
worker_class = "web.gunicorn_worker.Worker"
workers = 2
timeout = 30  # seconds without a sign of life from a worker's event loop
graceful_timeout = 20  # seconds for requests in flight when told to stop
keepalive = 2  # seconds; it also bounds how long an idle connection delays a stop
limit_request_line = 8190  # bytes; clicks on ads come with long query strings
limit_request_fields = 100
limit_request_field_size = 8190
forwarded_allow_ips = ",".join(str(network) for network in _settings.trusted_proxies)
forwarder_headers = ""
control_socket_disable = True
preload_app = True  # the workers share what they import; the database pool connects only after the fork
loglevel = "warning"
accesslog = None  # paths carry secrets

open_files.raise_limit()
