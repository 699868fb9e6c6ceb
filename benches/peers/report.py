"""The tables: what was reached of what was wanted, then all figures, and what a reader must know of the run."""
import datetime, os, statistics, tomllib

import machine, shapes, stats

BEGIN, END = "<!-- benches/peers/run: from here on it is written by it -->", "<!-- benches/peers/run: up to here -->"
DOES_NOT = """What they do not do: HAProxy has a static map and cannot learn a token; the Lua vault of nginx (`benches/peers/vault.lua`) learns
and forgets none. None of them writes an access log, keeps a person's clocks or sends a heartbeat. sessionbridge has its access log,
metrics, timeouts and limits on in every figure."""


class Outcome:
    """What a run has found out."""

    def __init__(self, chosen, rounds, seconds):
        self.shapes, self.rounds, self.seconds = chosen, rounds, seconds
        self.figures = {shape.key: {} for shape in chosen}
        self.idle, self.left_out, self.discarded = {}, set(), []

    @property
    def who(self):
        return {key: list(of) for key, of in self.figures.items()}

    def takes_part(self, shape, name):
        self.figures[shape.key][name] = []

    def series(self, shape, name, metric):
        """One figure per round, None where there is none."""
        return [figures and figures.get(metric) for figures in self.figures[shape.key].get(name, [])]

    def ratios(self, shape, ours, peer, metric):
        return stats.ratios(self.series(shape, ours, metric), self.series(shape, peer, metric))

    def differences(self, shape, ours, peer, metric):
        return stats.differences(self.series(shape, ours, metric), self.series(shape, peer, metric))


def ratio(ratios):
    low, high = stats.interval(ratios)
    return f"{statistics.median(ratios):.2f} ({low:.2f}..{high:.2f})"


def judged(outcome):
    """(shape, goal, ratios, verdict) of each goal that something is known about."""
    for shape in outcome.shapes:
        for goal in shape.goals:
            ratios = outcome.ratios(shape, goal.ours or shape.who[0], goal.peer, goal.metric)
            if not ratios:
                continue
            twins = outcome.ratios(shape, *shape.twins, goal.metric)
            noisy = not twins or abs(statistics.median(twins) - 1) > stats.NOISE
            met = stats.interval(ratios)[1] <= goal.limit
            yield shape, goal, ratios, "too noisy" if noisy else "met" if met else "missed"


def _idle(outcome):
    """(title, goal, figures by name, verdict)"""
    for title, _, who, limit in shapes.IDLE:
        figures = outcome.idle.get(title, {})
        if figures.get(who[0]):
            yield title, limit, figures, "met" if max(figures[who[0]]) <= limit else "missed"


def _instructions():
    with open(os.path.join(machine.ROOT, "benches/instructions.toml"), "rb") as file:
        kept = tomllib.load(file)
    plain, added = kept["plain"]["instructions"], kept["bridging"]["instructions"] - kept["plain"]["instructions"]
    for what, figure, limit in (("user instructions per request, plain", plain, 20_000), ("instructions that bridging adds", added, 4_000)):
        yield what, figure, limit, "met" if figure <= limit else "missed"


def goals(outcome):
    lines = ["| shape | figure | beside | ratio (95 %) | goal | |", "|---|---|---|---|---|---|"]
    for shape, goal, ratios, verdict in judged(outcome):
        figure = goal.words or shapes.METRICS[goal.metric]
        lines.append(f"| {shape.title} | {figure} | {goal.peer} | {ratio(ratios)} | <= {goal.limit:.2f} | {verdict} |")
    for title, limit, figures, verdict in _idle(outcome):
        ours, *others = figures.items()
        beside = ", ".join(f"{name} {statistics.median(values):,.0f}" for name, values in others if values)
        range_of = f"{statistics.median(ours[1]):,.0f} (to {max(ours[1]):,.0f})"
        lines.append(f"| {title} | bytes | {beside} | {range_of} | <= {limit:,} | {verdict} |")
    for what, figure, limit, verdict in _instructions():
        lines.append(f"| {what} | `benches/instructions` | | {figure:,} | <= {limit:,} | {verdict} |")
    return lines


def cell(value, form="{:,.0f}"):
    return "" if value is None else form.format(value)


def details(outcome, shape):
    """Everybody's figures in one shape: medians over rounds."""
    first, columns = shape.who[0], []
    for goal in shape.goals:
        if goal.metric == "cpu" and goal.peer not in columns and not goal.ours:
            columns.append(goal.peer)
    lines = [f"| {shape.title} | us CPU | requests/s | p50 us | p99 us | of its CPU |" + "".join(f" CPU x {peer} |" for peer in columns)]
    lines.append("|---" * (6 + len(columns)) + "|")
    for name in outcome.figures[shape.key]:
        one = {metric: stats.median(outcome.series(shape, name, metric)) for metric in ("cpu", "rate", "p50", "p99", "busy")}
        busy = cell(one["busy"], "{:.0%}") + (" (not its limit)" if shape.saturates and (one["busy"] or 1) < 0.95 else "")
        cells = [f"**{name}**" if name == first else name, cell(one["cpu"], "{:.1f}"), cell(one["rate"]),
                 cell(one["p50"]), cell(one["p99"]), busy]
        for peer in columns:
            ratios = outcome.ratios(shape, name, peer, "cpu")
            cells.append(ratio(ratios) if ratios else "")
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def table(outcome):
    loads = [figures for of in outcome.figures.values() for each in of.values() for figures in each if figures]
    stolen, shared = sum(one["stolen"] > 0.01 for one in loads), sum(one["foreign"] > 0.03 for one in loads)
    versions = "; ".join(f"{name} {''.join(value)}" for name, value in machine.versions().items())
    lines = [f"{datetime.date.today()}; {versions}.", "",
             f"{outcome.rounds} rounds, {outcome.seconds} s each; of {len(loads)} loads {stolen} had more than 1 % of their CPU stolen from the",
             f"machine, {shared} shared it with other processes. A goal is met where the upper end of the interval is within it; \"too noisy\": a peer",
             f"differed from its twin by more than {stats.NOISE:.0%}.", "", *goals(outcome), "", DOES_NOT]
    for shape in outcome.shapes:
        if outcome.figures[shape.key]:
            lines += ["", *details(outcome, shape)]
    if outcome.left_out:
        lines += ["", "Not timed:", "", *(f"* {what}" for what in sorted(outcome.left_out))]
    if outcome.discarded:
        lines += ["", "Discarded:", "", *(f"* {what}" for what in outcome.discarded)]
    return "\n".join(lines)


def short(outcome):
    """For the README: one line per shape, CPU per request unless it says otherwise."""
    rows = {}
    for shape, goal, ratios, verdict in judged(outcome):
        what = shape.title if goal.metric == "cpu" and not goal.words else f"{shape.title}: {goal.words or shapes.METRICS[goal.metric]}"
        peer = "nginx" if "nginx" in goal.peer else "HAProxy" if "HAProxy" in goal.peer else "itself"
        mark = {"met": "", "missed": ", missed", "too noisy": ", too noisy"}[verdict]
        rows.setdefault(what, {})[peer] = f"{statistics.median(ratios):.2f} (goal {goal.limit:.2f}{mark})"
    lines = ["| CPU per request, as a ratio to | HAProxy | nginx | itself |", "|---|---|---|---|"]
    lines += [f"| {what} | {of.get('HAProxy', '')} | {of.get('nginx', '')} | {of.get('itself', '')} |" for what, of in rows.items()]
    for title, limit, figures, verdict in _idle(outcome):
        ours, *others = ((name, f"{statistics.median(values):,.0f} B") for name, values in figures.items() if values)
        lines.append(f"| {title}: {ours[1]} (goal {limit:,}{', missed' if verdict == 'missed' else ''}) | "
                     + " | ".join(next((text for name, text in others if peer in name), "") for peer in ("HAProxy", "nginx")) + " | |")
    return "\n".join(lines)


def put(name, text, begin=BEGIN, end=END):
    """Between the marks of a file; what is around them is by hand and stays."""
    path = os.path.join(machine.ROOT, name)
    with open(path) as file:
        whole = file.read()
    before, mark, rest = whole.partition(begin)
    after = rest.partition(end)[2]
    if not mark:
        raise SystemExit(f"{name} has no line {begin!r}")
    with open(path, "w") as file:
        file.write(f"{before}{begin}\n\n{text}\n\n{end}{after}")
