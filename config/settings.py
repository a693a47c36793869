"""Django's settings, all from the environment (`config.env` has the table)."""

import secrets
import warnings
from datetime import timedelta
from typing import Any
from urllib.parse import quote

import dj_database_url
from csp.constants import NONE, SELF

from config import addresses, devstate, env, logs

ENV = env.read(devstate.chosen())
BASE_DIR = devstate.CHECKOUT
VAR = devstate.folder(ENV["PORT"])

DEBUG = ENV["DJANGO_DEBUG"]
# Without one only serving is refused (config.production): commands do with a key of their own.
SECRET_KEY = ENV["DJANGO_SECRET_KEY"] or secrets.token_urlsafe(50)
ALLOWED_HOSTS = ENV["DJANGO_ALLOWED_HOSTS"] or (["*"] if DEBUG else [])
CSRF_TRUSTED_ORIGINS = ENV["DJANGO_CSRF_TRUSTED_ORIGINS"] or []

ROOT_URLCONF = "config.urls"
WSGI_APPLICATION = "config.wsgi.application"
INSTALLED_APPS = [
    "mifos_gateway",
    "breaker",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "config.apps.GatewayAdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "config.apps.FailedLoginsConfig",
    "csp",
    "django_otp",
    "config.apps.AuthenticatorsConfig",
    "config.apps.RecoveryCodesConfig",
]
MIDDLEWARE = [
    "mifos_gateway.middleware.TraceContextMiddleware",
    "mifos_gateway.middleware.RequestIdMiddleware",
    "mifos_gateway.tallies.MetricsMiddleware",
    "mifos_gateway.middleware.AccessLogMiddleware",
    "mifos_gateway.middleware.ProbeMiddleware",  # before what judges the host and the scheme
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "config.people.CSPMiddleware",
    "config.people.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "config.people.AuthenticationMiddleware",
    "config.people.OTPMiddleware",
    "config.people.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

# --- The database ---------------------------------------------------------------------------------------------

DATABASES = {"default": dj_database_url.parse(ENV["DATABASE_URL"] or f"sqlite:///{quote(str(VAR / 'db.sqlite3'))}")}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
if not ENV["DATABASE_URL"]:
    VAR.mkdir(mode=0o700, parents=True, exist_ok=True)
if DATABASES["default"]["ENGINE"].endswith("sqlite3"):
    DATABASES["default"]["OPTIONS"] = {
        # A reader never waits for the writer, and a writer waits its turn instead of failing half-way.
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
        "transaction_mode": "IMMEDIATE",
        "timeout": 5,
    }
else:
    DATABASES["default"]["CONN_MAX_AGE"] = ENV["DATABASE_CONN_MAX_AGE"]
    DATABASES["default"]["CONN_HEALTH_CHECKS"] = True
    # A server that is gone without a word is given up after some seconds, not after the kernel's quarter of an hour.
    patience = {"connect_timeout": 5, "tcp_user_timeout": 10_000, "keepalives_idle": 10, "keepalives_interval": 5}
    DATABASES["default"]["OPTIONS"] = {**patience, **DATABASES["default"].get("OPTIONS", {})}

# --- Redis: the breakers' store, and the cache in the database number after it ----------------------------------

CACHES: dict[str, dict[str, Any]] = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
if ENV["REDIS_URL"]:
    SENTINELS = ENV["REDIS_SENTINELS"], ENV["REDIS_SENTINEL_PASSWORD"]
    CACHES["breaker"] = addresses.redis_cache(ENV["REDIS_URL"], *SENTINELS)
    CACHES["default"] = addresses.redis_cache(addresses.next_database(ENV["REDIS_URL"]), *SENTINELS)
if ENV["CACHE_URL"]:
    CACHES["default"] = addresses.redis_cache(ENV["CACHE_URL"])
# MIFOS's answers, in the same place: who keeps them must know when it is away, to drop what a write has changed later.
CACHES["answers"] = {**CACHES["default"], "OPTIONS": {**CACHES["default"].get("OPTIONS", {})}}
if "OPTIONS" in CACHES["default"]:
    CACHES["default"]["OPTIONS"]["IGNORE_EXCEPTIONS"] = True  # a cache that is away is a miss, never an error

# --- MIFOS, the breakers, the gateway ---------------------------------------------------------------------------

MIFOS = {
    "BASE_URL": ENV["MIFOS_BASE_URL"] or "",
    "TENANT_ID": ENV["MIFOS_TENANT_ID"],
    "MAKER_USERNAME": ENV["MIFOS_MAKER_USERNAME"] or "",
    "MAKER_PASSWORD": ENV["MIFOS_MAKER_PASSWORD"] or "",
    "CHECKER_USERNAME": ENV["MIFOS_CHECKER_USERNAME"] or "",
    "CHECKER_PASSWORD": ENV["MIFOS_CHECKER_PASSWORD"] or "",
    "VERIFY_TLS": ENV["MIFOS_VERIFY_TLS"],
    "CA_BUNDLE": ENV["MIFOS_CA_BUNDLE"],
    "MAX_RESPONSE_BYTES": ENV["MIFOS_MAX_RESPONSE_BYTES"],
    "POOL_SIZE": ENV["WEB_THREADS"],
}
BREAKER = {
    "NAMESPACE": ENV["BREAKER_NAMESPACE"] or addresses.namespace(ENV["MIFOS_BASE_URL"], ENV["MIFOS_TENANT_ID"]),
    "DEFAULTS": {option: ENV[name] for option, name in env.BREAKER_DEFAULTS.items()},
    "DEFAULTS_FROM": {
        option: name for option, name in env.BREAKER_DEFAULTS.items() if env.is_given(name, devstate.chosen())
    },
    # Per breaker, by name or by label, such as {"MIFOS-Maker-post": {"timeout": 60}}.
    "BREAKERS": ENV["BREAKER_OPTIONS"] or {},
    "BREAKERS_FROM": "BREAKER_OPTIONS",
    "STATUS_PUBLIC": ENV["BREAKER_STATUS_PUBLIC"],
    "HISTORY_MINUTE_DAYS": ENV["BREAKER_HISTORY_MINUTE_DAYS"],
    "HISTORY_HOUR_DAYS": ENV["BREAKER_HISTORY_HOUR_DAYS"],
    "REDIS_ALIAS": "breaker",
    "SERVICE_NAME": "mifos-gateway",
}
GATEWAY = {
    "MAX_REQUEST_BYTES": ENV["GATEWAY_MAX_REQUEST_BYTES"],
    "DENIED_ROUTES": ENV["GATEWAY_DENIED_ROUTES"],
    "RAW_IDEMPOTENCY_KEYS": ENV["GATEWAY_RAW_IDEMPOTENCY_KEYS"],
    "BULKHEAD": ENV["GATEWAY_BULKHEAD"] or max(1, ENV["WEB_THREADS"] * 3 // 8),
    "THREADS": ENV["WEB_THREADS"],
    "IGNORE_REPLAYS": ENV["GATEWAY_IGNORE_REPLAYS"],
    "BUSINESS_503_CODES": ENV["GATEWAY_BUSINESS_503_CODES"],
    "CACHED_ROUTES": ENV["GATEWAY_CACHED_ROUTES"],
    "CACHED_BYTES": ENV["GATEWAY_CACHED_BYTES"],
    "CACHED_ENTRY_BYTES": ENV["GATEWAY_CACHED_ENTRY_BYTES"],
    "CACHE_ALIAS": "answers",
    # Rules with seconds, or Deferred(ttl=600, automatic=True) of mifos_gateway.fallbacks.
    "DEFERRED_ROUTES": ENV["GATEWAY_DEFERRED_ROUTES"],
    "DEFERRED_LET_DIRECT_PASS": ENV["GATEWAY_DEFERRED_LET_DIRECT_PASS"],
    "DEFERRED_RATE": ENV["GATEWAY_DEFERRED_RATE"],
    "DEFERRED_THREADS": ENV["GATEWAY_DEFERRED_THREADS"],
    "DEFERRED_GRACE": ENV["GATEWAY_DEFERRED_GRACE"],
    "DEFERRED_DAYS": ENV["GATEWAY_DEFERRED_DAYS"],
    "IDEMPOTENCY_DAYS": ENV["GATEWAY_IDEMPOTENCY_DAYS"],
    "MIFOS_PURGE_DAYS": ENV["GATEWAY_MIFOS_PURGE_DAYS"],
    "PAYLOAD_KEYS": ENV["GATEWAY_PAYLOAD_KEYS"],
    "METRICS_TOKEN": ENV["METRICS_TOKEN"],
    "METRICS_PUBLIC": DEBUG and not ENV["METRICS_TOKEN"] if ENV["METRICS_PUBLIC"] is None else ENV["METRICS_PUBLIC"],
}
# The gateway's own limit answers 413; Django's, which answers 400, must not come before it.
DATA_UPLOAD_MAX_MEMORY_SIZE = ENV["GATEWAY_MAX_REQUEST_BYTES"]

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["mifos_gateway.authentication.ConsumerTokenAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.JSONParser"],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "EXCEPTION_HANDLER": "mifos_gateway.api_errors.exception_handler",
}
SPECTACULAR_SETTINGS = {
    "TITLE": "MIFOS gateway",
    "DESCRIPTION": "Calls to Mifos X / Apache Fineract through circuit breakers that all workers share.",
    "VERSION": "1",
    "SERVE_INCLUDE_SCHEMA": False,
    "SERVE_PERMISSIONS": ["rest_framework.permissions.AllowAny"],
    "SERVE_AUTHENTICATION": [],
    "POSTPROCESSING_HOOKS": [
        "drf_spectacular.hooks.postprocess_schema_enums",
        "mifos_gateway.openapi.add_head",
    ],
    "APPEND_COMPONENTS": {
        "securitySchemes": {
            "metricsToken": {"type": "http", "scheme": "bearer", "description": "`METRICS_TOKEN`."},
        }
    },
    # The sidecar's files instead of a CDN's: the page works without the internet.
    "SWAGGER_UI_DIST": "SIDECAR",
    "REDOC_DIST": "SIDECAR",
}

# --- Security ---------------------------------------------------------------------------------------------------

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in ("UserAttributeSimilarityValidator", "MinimumLengthValidator", "CommonPasswordValidator")
]
# The first only turns away who has failed too often; without its middleware, since config.site answers instead.
AUTHENTICATION_BACKENDS = ["axes.backends.AxesStandaloneBackend", "django.contrib.auth.backends.ModelBackend"]
AXES_HANDLER = "config.logins.FailedLogins"
AXES_FAILURE_LIMIT = 5
ADDRESS_FAILURE_LIMIT = 50  # with whatever names
AXES_COOLOFF_TIME = timedelta(minutes=15)
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]  # together: nobody can lock another out from elsewhere
AXES_RESET_ON_SUCCESS = True
AXES_RESET_COOL_OFF_ON_FAILURE_DURING_LOCKOUT = False
AXES_DISABLE_ACCESS_LOG = True  # who logged in, when and from where, kept for ever
AXES_VERBOSE = False
AXES_SENSITIVE_PARAMETERS = ["username", "ip_address", "otp_token", "csrfmiddlewaretoken"]
AXES_CLIENT_IP_CALLABLE = "config.people.client_address"
CLIENT_ADDRESS_HEADER = (
    "HTTP_" + ENV["DJANGO_CLIENT_ADDRESS_HEADER"].upper().replace("-", "_")
    if ENV["DJANGO_CLIENT_ADDRESS_HEADER"]
    else None
)
LOGIN_REDIRECT_URL = "admin:index"
ADMIN_REQUIRE_OTP = ENV["ADMIN_REQUIRE_OTP"]
OTP_TOTP_ISSUER = "MIFOS gateway"
# Nothing inline and nothing of others; what a page needs besides, its view says (config.urls).
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [SELF],
        "object-src": [NONE],
        "base-uri": [NONE],
        "form-action": [SELF],
        "frame-ancestors": [NONE],
    }
}
SESSION_COOKIE_AGE = ENV["ADMIN_SESSION_HOURS"] * 3600
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = not DEBUG
SESSION_COOKIE_HTTPONLY = True
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
SECURE_HSTS_SECONDS = 0 if DEBUG else ENV["DJANGO_SECURE_HSTS_SECONDS"]
SECURE_SSL_REDIRECT = ENV["DJANGO_SECURE_SSL_REDIRECT"] and not DEBUG
# For people's pages only: a redirected call has already shown its token.
SECURE_REDIRECT_EXEMPT = [r"^api/", r"^static/"]
if ENV["DJANGO_SECURE_PROXY_SSL_HEADER"]:
    SECURE_PROXY_SSL_HEADER = (
        "HTTP_" + ENV["DJANGO_SECURE_PROXY_SSL_HEADER"].upper().replace("-", "_"),
        "https",
    )
SILENCED_SYSTEM_CHECKS = [
    "security.W005",  # HSTS for all subdomains is the domain's owner to decide, not one service's on it
    "security.W021",  # and so is the browsers' preload list
    "axes.W002",  # its middleware, as said above
]

# --- Static files -----------------------------------------------------------------------------------------------

STATIC_URL = "static/"
STATIC_ROOT = BASE_DIR / "var" / "static"
# `manage.py collectstatic` makes them compressed and cacheable for ever; without it they are served as they are.
COLLECTED = not DEBUG and (STATIC_ROOT / "staticfiles.json").exists()
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {
        "BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"
        if COLLECTED
        else "django.contrib.staticfiles.storage.StaticFilesStorage"
    },
}
WHITENOISE_USE_FINDERS = not COLLECTED
WHITENOISE_AUTOREFRESH = DEBUG
warnings.filterwarnings("ignore", message="No directory at", module="django")  # not collected: as said above

# --- Time, language, log ----------------------------------------------------------------------------------------

USE_TZ = True
TIME_ZONE = "UTC"
USE_I18N = False
LANGUAGE_CODE = "en"
LOGGING = logs.dict_config(ENV["LOG_FORMAT"], ENV["LOG_LEVEL"])
