"""Serves the project of the environment on 127.0.0.1 at the port of the first argument."""

import sys

from django.core.wsgi import get_wsgi_application
from waitress import serve

serve(get_wsgi_application(), host="127.0.0.1", port=int(sys.argv[1]), threads=12)
