use std::collections::HashSet;

use super::*;

fn names(names: &[&str]) -> AppNames {
    names.iter().map(|name| (*name).into()).enumerate().collect()
}

fn metrics() -> Metrics {
    let build = Build { version: "1.2.3", commit: "abc" };
    Metrics::new(build, names(&["builder", "portal"]), vec!["web".into()])
}

/// The value of one series.
fn value(page: &str, series: &str) -> Option<f64> {
    page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
}

#[test]
fn counters_add_up_over_threads() {
    let metrics = metrics();
    let ms = Duration::from_millis;
    let workers: Vec<_> = (0..3)
        .map(|_| {
            let shard = metrics.shard();
            std::thread::spawn(move || {
                for _ in 0..100 {
                    shard.request(Some(1), &Method::GET, 200, ms(3));
                }
                shard.request(None, &Method::POST, 404, ms(20_000));
                shard.heartbeat(0, Verdict::Reborn, ms(1));
                shard.url_tokens(0, UrlTokenResult::Cut, 2);
                shard.session_end(EndReason::Idle);
                shard.heartbeat_lag(ms(9));
                shard.app_restarted(1, 1, 5);
            })
        })
        .collect();
    workers.into_iter().for_each(|worker| worker.join().unwrap());
    let page = metrics.encode();
    for (series, wanted) in [
        (r#"requests_total{app="portal",code="2xx",method="GET"}"#, 300.0),
        (r#"requests_total{app="-",code="4xx",method="POST"}"#, 3.0),
        (r#"request_duration_seconds_bucket{le="0.0025",app="portal"}"#, 0.0),
        (r#"request_duration_seconds_bucket{le="0.005",app="portal"}"#, 300.0),
        (r#"request_duration_seconds_bucket{le="10.0",app="-"}"#, 0.0),
        (r#"request_duration_seconds_bucket{le="+Inf",app="-"}"#, 3.0),
        (r#"request_duration_seconds_sum{app="portal"}"#, 0.9),
        (r#"heartbeats_total{app="builder",result="reborn"}"#, 3.0),
        (r#"heartbeats_total{app="builder",result="alive"}"#, 0.0),
        (r#"url_tokens_total{app="builder",result="cut"}"#, 6.0),
        (r#"session_ends_total{reason="idle"}"#, 3.0),
        (r#"heartbeat_lag_seconds_bucket{le="0.01"}"#, 3.0),
        (r#"app_restarts_total{app="portal"}"#, 3.0),
        (r#"app_sessions_lost_total{app="portal"}"#, 15.0),
        (r#"app_restarts_total{app="builder"}"#, 0.0),
    ] {
        assert_eq!(value(&page, &format!("sessionbridge_{series}")), Some(wanted), "{series}\n{page}");
    }
}

#[test]
fn an_app_is_counted_by_its_number_and_shown_while_it_is_there() {
    let metrics = Metrics::new(Build { version: "1", commit: "a" }, [(700, "far".into())].into(), Vec::new());
    let shard = metrics.shard();
    shard.request(Some(700), &Method::GET, 200, Duration::ZERO);
    shard.request(Some(3), &Method::GET, 200, Duration::ZERO);
    let far = r#"sessionbridge_requests_total{app="far",code="2xx",method="GET"}"#;
    assert_eq!(value(&metrics.encode(), far), Some(1.0));
    metrics.set_apps([(3, "near".into())].into());
    let page = metrics.encode();
    assert!(page.contains(r#"requests_total{app="near""#) && !page.contains("far"), "{page}");
    metrics.set_apps([(700, "far".into())].into());
    assert_eq!(value(&metrics.encode(), far), Some(1.0), "it is back, and has lost nothing");
}

#[test]
fn what_opens_in_one_thread_may_close_in_another() {
    let metrics = metrics();
    let (one, two) = (metrics.shard(), metrics.shard());
    one.connection_opened(0);
    one.connection_opened(0);
    two.connection_closed(0);
    one.stream_opened(1, StreamKind::WebSocket);
    two.stream_closed(1, StreamKind::WebSocket);
    one.connection_opened(99);
    let page = metrics.encode();
    assert_eq!(value(&page, r#"sessionbridge_connections_open{listener="web"}"#), Some(1.0));
    assert_eq!(value(&page, r#"sessionbridge_streams_open{app="portal",kind="websocket"}"#), Some(0.0));
}

#[test]
fn a_thread_that_ends_leaves_its_numbers_to_the_next_one() {
    let metrics = metrics();
    for _ in 0..5 {
        metrics.shard().framing_refused();
    }
    let (one, two) = (metrics.shard(), metrics.shard());
    assert!(!Arc::ptr_eq(&one.cells, &two.cells));
    assert_eq!(lock(&metrics.0.shards).len(), 2);
    assert_eq!(value(&metrics.encode(), "sessionbridge_framing_refused_total"), Some(5.0));
}

#[test]
fn gauges_are_asked_for_when_read() {
    let metrics = metrics();
    for up in [true, false] {
        metrics.observe(move |gauges| {
            gauges.sessions(5, 1);
            gauges.heartbeats(7, 2);
            gauges.app_sessions(0, AppState::Live, 3);
            gauges.app_sessions(9, AppState::Live, 3);
            gauges.upstream(0, "http://a:1", up);
            gauges.log_lines_dropped(4);
            gauges.finding(1, "restart", "warning");
        });
    }
    metrics.reloaded(false, Timestamp::from_secs(1_800_000_000));
    let page = metrics.encode();
    for (series, wanted) in [
        (r#"bridges{state="bound"}"#, 10.0),
        (r#"bridges{state="pending"}"#, 2.0),
        ("heartbeats_armed", 14.0),
        ("heartbeats_due", 4.0),
        (r#"app_sessions{app="builder",state="live"}"#, 6.0),
        (r#"upstream_up{app="builder",upstream="http://a:1"}"#, 0.0),
        ("log_lines_dropped_total", 8.0),
        (r#"findings{app="portal",kind="restart",level="warning"}"#, 1.0),
        (r#"config_reloads_total{result="failed"}"#, 1.0),
        ("config_last_reload_success", 0.0),
        ("config_last_reload_timestamp_seconds", 1_800_000_000.0),
        (r#"build_info{version="1.2.3",commit="abc"}"#, 1.0),
    ] {
        assert_eq!(value(&page, &format!("sessionbridge_{series}")), Some(wanted), "{series}\n{page}");
    }
}

#[test]
fn every_series_is_described_once_and_has_a_number() {
    let metrics = metrics();
    let shard = metrics.shard();
    shard.request(Some(0), &Method::GET, 200, Duration::ZERO);
    shard.request_end(Some(0), Reason::Ok);
    shard.upstream(0, Duration::ZERO);
    shard.app_restarted(0, 1, 7);
    shard.steady_beat(0);
    let page = metrics.encode();
    assert!(page.ends_with("# EOF\n"));
    let described = |what: &str| -> Vec<&str> {
        page.lines().filter_map(|line| line.strip_prefix(what)?.split(' ').next()).collect()
    };
    let (types, helps) = (described("# TYPE "), described("# HELP "));
    assert_eq!(types, helps);
    assert_eq!(types.iter().collect::<HashSet<_>>().len(), types.len());
    let mut seen = HashSet::new();
    for line in page.lines().filter(|line| !line.starts_with('#')) {
        let (series, number) = line.rsplit_once(' ').unwrap();
        assert!(number.parse::<f64>().is_ok(), "{line}");
        assert!(seen.insert(series), "{line} twice");
        let name = series.split('{').next().unwrap();
        let family =
            ["_total", "_bucket", "_sum", "_count", "_info"].iter().find_map(|end| name.strip_suffix(end));
        assert!(types.contains(&family.unwrap_or(name)), "{line} has no type");
    }
}

#[test]
fn apps_beyond_the_bound_count_as_none() {
    let metrics = metrics();
    metrics.shard().request(Some(100_000), &Method::GET, 200, Duration::ZERO);
    let page = metrics.encode();
    assert_eq!(value(&page, r#"sessionbridge_requests_total{app="-",code="2xx",method="GET"}"#), Some(1.0));
}
