//! The numbers as text, through prometheus-client's encoder.
//!
//! Invariant: labels are names from the config or words of `labels`, so the number of series has a bound.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};

use super::cells::{AppCells, Cell, Cells, DURATION_BOUNDS, LAG_BOUNDS, Timing};
use super::labels::{
    CLASSES, EndReason, METHODS, Reason, SessionEvent, SignOutProof, SignOutResult, StreamKind,
    UrlTokenResult, Verdict,
};
use super::metrics::{Metrics, Reading, SharedNumbers};

/// Stands for "no app"; no app can be called so.
const NO_APP: &str = "-";

/// All numbers of `metrics`.
pub(super) fn encode(metrics: &Metrics) -> String {
    let mut registry = Registry::with_prefix("sessionbridge");
    registry.register_collector(Box::new(Scrape(metrics.reading())));
    let mut out = String::new();
    // A String takes everything; an error would be the encoder's own, and half a page is refused by who reads
    // it.
    let _ = text::encode(&mut out, &registry);
    out
}

#[derive(Debug)]
struct Scrape(Reading);

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let page = &mut Page { encoder: &mut encoder, reading: &self.0 };
        page.requests()?;
        page.sessions()?;
        page.heartbeats()?;
        page.findings()?;
        page.store()?;
        page.connections()?;
        page.process()
    }
}

type Labels<'a> = Vec<(&'static str, &'a str)>;
type Pick = fn(&AppCells) -> &[Cell];

struct Page<'p, 'e> {
    encoder: &'p mut DescriptorEncoder<'e>,
    reading: &'p Reading,
}

impl<'p> Page<'p, '_> {
    fn requests(&mut self) -> fmt::Result {
        let pairs: Vec<_> =
            CLASSES.iter().flat_map(|class| METHODS.iter().map(move |method| (*class, *method))).collect();
        let mut requests = Vec::new();
        for (app, values) in self.by_app(|cells| cells.requests.cells()) {
            let seen = pairs.iter().zip(values).filter(|(_, value)| *value > 0);
            requests.extend(seen.map(|((code, method), value)| {
                (vec![("app", app), ("code", *code), ("method", *method)], value)
            }));
        }
        self.counter("requests", "Requests answered", &requests)?;
        let reasons = self.words("reason", Reason::WORDS, |cells| cells.reasons.cells(), false);
        self.counter("request_ends", "Requests by how they ended", &reasons)?;
        self.timings("request_duration", "From a request's head to the end of its answer", |cells| {
            &cells.request_time
        })?;
        self.timings("upstream_duration", "From asking an upstream to the head of its answer", |cells| {
            &cells.upstream_time
        })?;
        let gauges = &self.reading.gauges;
        let up = self.by_upstream(&gauges.upstreams);
        self.gauge("upstream_up", "1 where an upstream is up", &up)?;
        let open = self.by_upstream(&gauges.circuits);
        self.gauge(
            "upstream_circuit_open",
            "1 where an upstream is left alone since it did not answer",
            &open,
        )
    }

    /// What is so, or not, of each upstream of each app.
    fn by_upstream(&self, of: &'p BTreeMap<(usize, String), bool>) -> Vec<(Labels<'p>, i64)> {
        let apps = &self.reading.apps;
        let series = of.iter().filter_map(|((app, upstream), is)| {
            Some((vec![("app", apps.get(app)?.as_ref()), ("upstream", upstream.as_str())], i64::from(*is)))
        });
        series.collect()
    }

    fn sessions(&mut self) -> fmt::Result {
        let (reading, gauges) = (self.reading, &self.reading.gauges);
        let bridges = [
            (vec![("state", "bound")], signed(gauges.bound)),
            (vec![("state", "pending")], signed(gauges.pending)),
        ];
        self.gauge("bridges", "Bridge sessions; pending: whose cookie has not come back yet", &bridges)?;
        let states = gauges.app_sessions.iter().filter_map(|((app, state), count)| {
            Some((vec![("app", reading.apps.get(app)?.as_ref()), ("state", state.as_str())], signed(*count)))
        });
        self.gauge("app_sessions", "App sessions by state", &states.collect::<Vec<_>>())?;
        let events = self.words("event", SessionEvent::WORDS, |cells| cells.events.cells(), true);
        self.counter("session_events", "What happened to app sessions", &events)?;
        let ends = self.sums(|cells| cells.ends.cells());
        let ends: Vec<_> =
            EndReason::WORDS.iter().zip(ends).map(|(word, sum)| (vec![("reason", *word)], sum)).collect();
        self.counter("session_ends", "Bridge sessions that ended", &ends)?;
        let tokens = self.words("result", UrlTokenResult::WORDS, |cells| cells.url_tokens.cells(), true);
        self.counter("url_tokens", "Session tokens found in URLs", &tokens)?;
        let outs = self.words("result", SignOutResult::WORDS, |cells| cells.sign_outs.cells(), true);
        self.counter("logout_propagations", "Sign-out requests sent to apps", &outs)?;
        let proofs = self.words("result", SignOutProof::WORDS, |cells| cells.sign_out_proofs.cells(), true);
        self.counter("sign_out_proofs", "What was left of app sessions after their sign-outs", &proofs)?;
        let janitored = self.total(|cells| &cells.cookies_janitored);
        self.counter("cookies_janitored", "Meaningless cookies deleted in browsers", &janitored)
    }

    fn heartbeats(&mut self) -> fmt::Result {
        let verdicts = self.words("result", Verdict::WORDS, |cells| cells.beats.cells(), true);
        self.counter("heartbeats", "Heartbeats by what they proved", &verdicts)?;
        self.timings("heartbeat_duration", "How long heartbeats took", |cells| &cells.beat_time)?;
        let lag: Vec<_> = self.reading.shards.iter().map(|cells| &cells.lag).collect();
        let lag = [(Vec::new(), Merged::of(&lag, &LAG_BOUNDS))];
        self.histogram("heartbeat_lag", "How much later than due heartbeats were sent", &lag)?;
        let gauges = &self.reading.gauges;
        self.gauge(
            "heartbeats_armed",
            "Heartbeats that wait for their time",
            &[(Vec::new(), signed(gauges.armed))],
        )?;
        self.gauge("heartbeats_due", "Heartbeats that wait for room", &[(Vec::new(), signed(gauges.due))])?;
        let steady: Vec<_> = self
            .by_app(|cells| cells.steady_beats.cells())
            .into_iter()
            .filter_map(|(app, values)| Some((vec![("app", app)], *values.first()?)))
            .filter(|(_, value)| *value > 0)
            .collect();
        self.counter(
            "steady_beats",
            "Paths found to be asked at a steady beat that no rule declares",
            &steady,
        )
    }

    fn findings(&mut self) -> fmt::Result {
        let apps = &self.reading.apps;
        let found = self.reading.gauges.findings.iter().filter_map(|(app, kind, level)| {
            Some((vec![("app", apps.get(app)?.as_ref()), ("kind", *kind), ("level", *level)], 1))
        });
        let found: Vec<_> = found.collect();
        self.gauge("findings", "1 for each thing that was found out about an app", &found)?;
        let counted = self.by_app(|cells| cells.restarts.cells());
        let series = |at: usize| -> Vec<_> {
            let named = counted.iter().filter(|(app, _)| *app != NO_APP);
            named.filter_map(|(app, values)| Some((vec![("app", *app)], *values.get(at)?))).collect()
        };
        self.counter("app_restarts", "Restarts of apps that were noticed", &series(0))?;
        self.counter("app_sessions_lost", "App sessions that ended in a restart of their app", &series(1))
    }

    fn connections(&mut self) -> fmt::Result {
        let sums = self.sums(|cells| cells.connections.cells());
        let names = self.reading.listeners.iter().zip(sums);
        let open: Vec<_> =
            names.map(|(name, sum)| (vec![("listener", name.as_ref())], sum.cast_signed())).collect();
        self.gauge("connections_open", "Connections of browsers", &open)?;
        let streams = self.words("kind", StreamKind::WORDS, |cells| cells.streams.cells(), true);
        let streams: Vec<_> = streams.into_iter().map(|(labels, sum)| (labels, sum.cast_signed())).collect();
        self.gauge("streams_open", "WebSockets, event streams and other upgraded connections", &streams)?;
        let framing = self.total(|cells| &cells.framing_refused);
        self.counter("framing_refused", "Requests refused because they could be read in two ways", &framing)
    }

    fn store(&mut self) -> fmt::Result {
        let Some(store) = self.reading.gauges.store else { return Ok(()) };
        let counts = [
            ("store_commits", "Groups of records that were brought to disk", store.commits),
            ("store_records", "Records in them", store.records),
            ("store_clocks", "Sessions of which the clocks alone were written", store.clocks),
            ("store_failures", "Times that the store could not be written", store.failures),
        ];
        for (name, help, count) in counts {
            self.counter(name, help, &[(Vec::new(), count)])?;
        }
        self.took("store_commit", "How long commits took, all together", store.took)?;
        let gauges = [
            ("store_failing", "1 while the store cannot be written", u64::from(store.fails)),
            ("store_waiting", "Records that wait for their commit", store.waiting),
            ("store_bytes", "Bytes of the store on disk", store.bytes),
        ];
        for (name, help, value) in gauges {
            self.gauge(name, help, &[(Vec::new(), signed(value))])?;
        }
        store.shared.map_or(Ok(()), |shared| self.shared(&shared))
    }

    fn took(&mut self, name: &str, help: &str, took: Duration) -> fmt::Result {
        let mut encoder =
            self.encoder.encode_descriptor(name, help, Some(&Unit::Seconds), MetricType::Counter)?;
        encoder.encode_counter::<NoLabelSet, f64, u64>(&took.as_secs_f64(), None)
    }

    fn shared(&mut self, shared: &SharedNumbers) -> fmt::Result {
        let counts = [
            ("store_round_trips", "Round trips to the shared store", shared.trips),
            ("store_conflicts", "Writes that met another proxy's", shared.conflicts),
            ("store_takeovers", "Sessions that were taken over from proxies that are gone", shared.takeovers),
            ("store_deaf", "Times that other proxies' changes could not be heard any more", shared.deaf),
            ("store_fetches", "Sessions that were looked for in the shared store", shared.fetches),
            ("store_reassertions", "Times that the shared store had lost something", shared.reassertions),
            ("store_refused", "Things in the shared store that are nothing of ours", shared.refused),
        ];
        for (name, help, count) in counts {
            self.counter(name, help, &[(Vec::new(), count)])?;
        }
        self.took("store_round_trip", "How long round trips to the shared store took", shared.trips_took)?;
        let gauges = [
            ("store_members", "Proxies whose leases are good", shared.members),
            ("store_hears", "1 while other proxies' changes are heard", u64::from(shared.hears)),
            ("store_leased", "1 while nobody takes this proxy's sessions over", u64::from(shared.leased)),
            (
                "store_evicts",
                "1 where the shared store throws sessions away when its memory is short",
                u64::from(shared.evicts),
            ),
        ];
        for (name, help, value) in gauges {
            self.gauge(name, help, &[(Vec::new(), signed(value))])?;
        }
        Ok(())
    }

    fn process(&mut self) -> fmt::Result {
        let reading = self.reading;
        let dropped = [(Vec::new(), reading.gauges.lines_dropped)];
        self.counter("log_lines_dropped", "Lines of the access log that could not be written", &dropped)?;
        let reloads = reading.reloads;
        let results = [(vec![("result", "ok")], reloads.ok), (vec![("result", "failed")], reloads.failed)];
        self.counter("config_reloads", "Times that the config was read anew", &results)?;
        let (ok, at) = reloads.last.unwrap_or((true, crate::time::Timestamp::ZERO));
        let success = [(Vec::new(), i64::from(ok))];
        self.gauge("config_last_reload_success", "1 where the config in the file is in use", &success)?;
        let help = "When the config was last read anew, 0 for never";
        let mut metric = self.encoder.encode_descriptor(
            "config_last_reload_timestamp",
            help,
            Some(&Unit::Seconds),
            MetricType::Gauge,
        )?;
        metric.encode_gauge(&signed(at.secs()))?;
        let build = vec![("version", reading.build.version), ("commit", reading.build.commit)];
        self.encoder.encode_descriptor("build", "What this is", None, MetricType::Info)?.encode_info(&build)
    }

    fn counter(&mut self, name: &str, help: &str, series: &[(Labels<'_>, u64)]) -> fmt::Result {
        let mut metric = self.encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, value) in series {
            labelled(&mut metric, labels, |it| it.encode_counter::<NoLabelSet, u64, u64>(value, None))?;
        }
        Ok(())
    }

    fn gauge(&mut self, name: &str, help: &str, series: &[(Labels<'_>, i64)]) -> fmt::Result {
        let mut metric = self.encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (labels, value) in series {
            labelled(&mut metric, labels, |it| it.encode_gauge(value))?;
        }
        Ok(())
    }

    fn histogram(&mut self, name: &str, help: &str, series: &[(Labels<'_>, Merged)]) -> fmt::Result {
        let mut metric =
            self.encoder.encode_descriptor(name, help, Some(&Unit::Seconds), MetricType::Histogram)?;
        for (labels, Merged { seconds, count, buckets }) in series {
            labelled(&mut metric, labels, |it| {
                it.encode_histogram::<NoLabelSet>(*seconds, *count, buckets, None)
            })?;
        }
        Ok(())
    }

    /// A histogram per app that has anything in it.
    fn timings(&mut self, name: &str, help: &str, pick: fn(&AppCells) -> &Timing) -> fmt::Result {
        let series = self.apps().map(|(app, cells)| {
            let timings: Vec<_> = cells.into_iter().map(pick).collect();
            (vec![("app", app)], Merged::of(&timings, &DURATION_BOUNDS))
        });
        let series: Vec<_> = series.filter(|(_, merged)| merged.count > 0).collect();
        self.histogram(name, help, &series)
    }
}

impl<'p> Page<'p, '_> {
    /// Every app and last "no app", with what each shard counted for it.
    fn apps(&self) -> impl Iterator<Item = (&'p str, Vec<&'p AppCells>)> + use<'p> {
        let reading = self.reading;
        let of = move |app| reading.shards.iter().filter_map(|shard| shard.counted(app)).collect();
        let named = reading.apps.iter().map(move |(at, app)| (app.as_ref(), of(*at)));
        named.chain(std::iter::once((NO_APP, reading.shards.iter().map(|shard| &shard.nowhere).collect())))
    }

    fn by_app(&self, pick: Pick) -> Vec<(&'p str, Vec<u64>)> {
        let width = pick(&AppCells::default()).len();
        self.apps().map(|(app, cells)| (app, column_sums(width, cells.into_iter().map(pick)))).collect()
    }

    /// A series per app and word; `zeros`: also those that are 0 (for real apps), so that rates begin at the
    /// beginning.
    fn words(
        &self,
        label: &'static str,
        words: &[&'static str],
        pick: Pick,
        zeros: bool,
    ) -> Vec<(Labels<'p>, u64)> {
        let mut series = Vec::new();
        for (app, values) in self.by_app(pick) {
            let kept = words.iter().zip(values).filter(|(_, value)| *value != 0 || (zeros && app != NO_APP));
            series.extend(kept.map(|(word, value)| (vec![("app", app), (label, *word)], value)));
        }
        series
    }

    fn sums(&self, pick: fn(&Cells) -> &[Cell]) -> Vec<u64> {
        let width = pick(&Cells::default()).len();
        column_sums(width, self.reading.shards.iter().map(Arc::as_ref).map(pick))
    }

    fn total(&self, pick: fn(&Cells) -> &Cell) -> [(Labels<'p>, u64); 1] {
        [(Vec::new(), self.reading.shards.iter().fold(0, |sum, cells| pick(cells).value().wrapping_add(sum)))]
    }
}

/// Adds up rows, column by column.
fn column_sums<'a>(width: usize, rows: impl Iterator<Item = &'a [Cell]>) -> Vec<u64> {
    let mut sums = vec![0_u64; width];
    for row in rows {
        for (sum, cell) in sums.iter_mut().zip(row) {
            *sum = sum.wrapping_add(cell.value());
        }
    }
    sums
}

/// A histogram added up over shards.
struct Merged {
    seconds: f64,
    count: u64,
    /// Upper bound in seconds and how many lie between it and the one before.
    buckets: Vec<(f64, u64)>,
}

impl Merged {
    fn of(timings: &[&Timing], bounds: &[u64]) -> Self {
        let sums = column_sums(bounds.len() + 1, timings.iter().map(|timing| timing.buckets.cells()));
        let bounds = bounds.iter().map(|bound| seconds(*bound)).chain([f64::INFINITY]);
        let micros = timings.iter().fold(0_u64, |sum, timing| sum.wrapping_add(timing.micros.value()));
        Self { seconds: seconds(micros), count: sums.iter().sum(), buckets: bounds.zip(sums).collect() }
    }
}

#[expect(clippy::cast_precision_loss, reason = "what is lost is less than a microsecond in two centuries")]
fn seconds(micros: u64) -> f64 {
    micros as f64 / 1e6
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn labelled(
    metric: &mut MetricEncoder<'_>,
    labels: &Labels<'_>,
    encode: impl FnOnce(&mut MetricEncoder<'_>) -> fmt::Result,
) -> fmt::Result {
    if labels.is_empty() { encode(metric) } else { encode(&mut metric.encode_family(labels)?) }
}
