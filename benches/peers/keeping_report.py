"""The table of what keeping sessions costs."""
import datetime, statistics

import keeping, machine, peers, report, stats

BEGIN, END = "<!-- benches/peers/run keeping: from here on it is written by it -->", "<!-- benches/peers/run keeping: up to here -->"
FIGURES = {"cpu": "CPU per request", "p50": "median latency", "p99": "p99"}
# Title, figure, how it is written.
COLUMNS = [("us CPU", "cpu", "{:.1f}"), ("of it the store's thread", "store", "{:.1f}"), ("its database's", "database", "{:.1f}"),
           ("the server's us CPU", "server", "{:.1f}"), ("requests/s", "rate", "{:,.0f}"), ("p50 us", "p50", "{:,.0f}"),
           ("p99 us", "p99", "{:,.0f}"), ("of its core, loaded", "busy", "{:.0%}"), ("the store's thread of it", "share", "{:.0%}"),
           ("records/request", "written", "{:.2f}"), ("clocks/request", "clocks", "{:.2f}"),
           ("both/commit", "group", "{:.0f}"), ("ms/commit", "commit", "{:.2f}")]
LEGEND = """CPU is that of all threads of the proxy but the one that answers operators, until all that the load has left to be written is written; a server's is its own, and not part of
it. Each of the {SESSIONS:,} sessions is asked for in turn, so nearly every request is the only one of its session between two writings of the
clocks: people who click more often than every seven seconds cost less. The proxy has one core, its store's thread included; the Valkey or
Redis server shares the other one with the origin and the generator. Before anything was timed each kind was killed and started again:
what an answer had acknowledged was there, and with "memory" nothing."""


def _milliseconds(differences):
    low, high = (value / 1000 for value in stats.interval(differences))
    return f"{statistics.median(differences) / 1000:+.2f} ms ({low:+.2f}..{high:+.2f})"


def _judged(outcome, shape, goal):
    """(what was found, what was wanted, verdict); None where nothing is known."""
    compare = outcome.differences if goal.adds else outcome.ratios
    values = compare(shape, goal.ours, goal.peer, goal.metric)
    if not values:
        return None
    found = _milliseconds(values) if goal.adds else report.ratio(values)
    if goal.limit is None:
        return found, "", ""
    twins = compare(shape, *shape.twins, goal.metric)
    apart = twins and abs(statistics.median(twins) - (0 if goal.adds else 1))
    noisy = not twins or apart > (stats.NOISE_OF_LIMIT * goal.limit if goal.adds else stats.NOISE)
    verdict = "too noisy" if noisy else "met" if stats.interval(values)[1] <= goal.limit else "missed"
    return found, f"<= +{goal.limit / 1000:g} ms" if goal.adds else f"<= {goal.limit:.2f}", verdict


def _goals(outcome):
    lines = ["| load | store | figure | beside memory (95 %) | goal | |", "|---|---|---|---|---|---|"]
    for shape in outcome.shapes:
        for goal in shape.goals:
            if judged := _judged(outcome, shape, goal):
                lines.append(f"| {shape.title} | {goal.ours} | {FIGURES[goal.metric]} | {' | '.join(judged)} |")
    return lines


def _details(outcome, shape):
    lines = [f"| {shape.title} | " + " | ".join(title for title, *_ in COLUMNS) + " |", "|---" * (1 + len(COLUMNS)) + "|"]
    for name in outcome.figures[shape.key]:
        cells = [report.cell(stats.median(outcome.series(shape, name, figure)), form) for _, figure, form in COLUMNS]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


def table(outcome):
    loads = [figures for of in outcome.figures.values() for each in of.values() for figures in each if figures]
    stolen, shared = sum(one["stolen"] > 0.01 for one in loads), sum(one["foreign"] > 0.03 for one in loads)
    versions = machine.versions()
    said = "; ".join(f"{name} {''.join(versions[name])}" for name in ("sessionbridge", "rustc", "wrk", "kernel", "CPU"))
    if "valkey" in {name for of in outcome.figures.values() for name in of}:
        said += "; " + machine.first_line(keeping.server_binary(), "--version").partition(" sha=")[0]
    lines = [f"{datetime.date.today()}; {said}; stores on {keeping.disk()}.", "",
             f"{outcome.rounds} rounds, {outcome.seconds} s each; of {len(loads)} loads {stolen} had more than 1 % of their CPU stolen from the",
             f"machine, {shared} shared it with other processes. A goal is met where the upper end of the interval is within it; \"too noisy\":",
             f"\"memory\" differed from its twin by more than {stats.NOISE:.0%}, or by more than a quarter of what may be added.", "",
             *_goals(outcome), "", LEGEND.format(SESSIONS=peers.SESSIONS)]
    for shape in outcome.shapes:
        if outcome.figures[shape.key]:
            lines += ["", *_details(outcome, shape)]
    for title, what in (("Not timed:", sorted(outcome.left_out)), ("Discarded:", outcome.discarded)):
        if what:
            lines += ["", title, "", *(f"* {one}" for one in what)]
    return "\n".join(lines)
