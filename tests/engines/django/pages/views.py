"""The pages of both projects."""

import time

from django.conf import settings
from django.contrib import auth
from django.contrib.auth.decorators import login_required
from django.http import HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_POST

PAGES = ["index", "state", "data", "ping", "touch", "guarded", "quiet", "login", "logout", "end", "forget", "slow"]


def now():
    return int(time.time() * 1000)


def started(request):
    """When this session began. Written only once: reading it does not renew the session."""
    if "started" not in request.session:
        request.session["started"] = now()
    return request.session["started"]


def answer_state(request):
    began = started(request)
    user = request.user.get_username() or None
    data = request.session.get("data", {})
    return JsonResponse({"started": began, "now": now(), "user": user, "data": data})


def index(request):
    return render(
        request, "index.html", {"app": settings.APP, "other": settings.OTHER, "started": started(request)}
    )


def state(request):
    return answer_state(request)


def data(request):
    request.session["data"] = {
        **request.session.get("data", {}),
        request.GET["key"]: request.GET["value"],
    }
    return answer_state(request)


def ping(request):
    return JsonResponse({"started": started(request)})


def touch(request):
    """A heartbeat page for projects without SESSION_SAVE_EVERY_REQUEST: what is written is renewed."""
    began = started(request)
    request.session["touched"] = now()
    return JsonResponse({"started": began})


@login_required
def guarded(request):
    return JsonResponse({"started": started(request)})


def quiet(request):
    return HttpResponse("quiet\n", content_type="text/plain")


def static(request):
    return HttpResponse("a static file\n", content_type="text/plain")


def own_id(request):
    started(request)
    request.session.save()
    return JsonResponse({"cookie": request.headers.get("Cookie", ""), "id": request.session.session_key})


def login(request):
    if request.method == "POST":
        user = auth.authenticate(request, username=request.POST["user"], password=request.POST["password"])
        if user is None:
            return HttpResponse("wrong\n", status=403)
        auth.login(request, user)
        return redirect(f"/{settings.APP}/index")
    started(request)
    return render(request, "login.html")


@require_POST
def logout(request):
    auth.logout(request)
    return redirect(f"/{settings.APP}/index")


def end(request):
    """What an administrator does to a session behind everybody's back."""
    request.session.flush()
    return HttpResponse("ended\n", content_type="text/plain")


def forget(request):
    """Forgets who is signed in and keeps the session."""
    request.session.pop(auth.SESSION_KEY, None)
    return answer_state(request)


def slow(request):
    time.sleep(min(int(request.GET["ms"]), 30000) / 1000)
    return answer_state(request)
