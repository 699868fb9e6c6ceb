"""The pages below the project's own path, and Django's own admin."""

from django.conf import settings
from django.contrib import admin
from django.urls import include, path

import views

pages = [path(name, getattr(views, name)) for name in views.PAGES]
pages += [path("id", views.own_id), path("static.txt", views.static), path("admin/", admin.site.urls)]
urlpatterns = [path(f"{settings.APP}/", include(pages))]
