"""One of the two projects; which one is in the environment."""

import os

APP = os.environ["APP"]
OTHER = os.environ.get("OTHER", "")
WORK = os.environ["WORK"]

SECRET_KEY = f"the key of {APP}"
ALLOWED_HOSTS = ["*"]
DEBUG = False
ROOT_URLCONF = "urls"
LOGIN_URL = f"/{APP}/login"
STATIC_URL = f"/{APP}/static/"

# The session cookie keeps Django's name and path: both projects use `sessionid` at `/`.
SESSION_COOKIE_AGE = int(os.environ.get("AGE", "10"))
SESSION_SAVE_EVERY_REQUEST = os.environ["VARIANT"] != "fixed"

DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": f"{WORK}/{APP}.sqlite3",
        "OPTIONS": {"timeout": 30, "transaction_mode": "IMMEDIATE", "init_command": "PRAGMA journal_mode=WAL"},
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
# Fast, and good for nothing but a test.
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [os.path.join(os.path.dirname(__file__), "templates")],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
