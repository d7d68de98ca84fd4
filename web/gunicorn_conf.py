"""How gunicorn serves the web door: `gunicorn -c python:web.gunicorn_conf <module>:<app made by front.create>`."""

from __future__ import annotations

import resource

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


def _raise_open_files_limit() -> None:
    """Slow clients cost one descriptor each; the usual soft limit of 1024 is reached too soon."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 65536 if hard == resource.RLIM_INFINITY else min(hard, 65536)
    if soft not in (resource.RLIM_INFINITY, wanted):
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))


_raise_open_files_limit()
