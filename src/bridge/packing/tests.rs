use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use proptest::prelude::*;

use super::*;
use crate::bridge::app_session::{AppSession, Edit};
use crate::bridge::beat::Verdict;
use crate::bridge::id::Handle;
use crate::bridge::passed::HttpOnlyCookie;
use crate::bridge::rules::{AppIx, SameSite};
use crate::bridge::session::{End, Phase, Session};
use crate::bridge::testing::at;
use crate::bridge::timeline::What;
use crate::bridge::vault::{Carrier, Reach, Role, Vault};

/// Something that happens to a session.
#[derive(Clone, Debug)]
enum Step {
    Bind,
    Learn { app: u16, token: Option<u8>, value: Option<String>, path: usize, post: bool },
    Ask { app: u16, activity: bool },
    Beat { app: u16, verdict: usize, canary: u64, failures: u8 },
    Drop { app: u16 },
    Seen,
    Stream,
    Comes { address: [u8; 5], agent: u8 },
    Passes { app: u16, line: String, waits: String },
    Observe { path: u32 },
    Note { what: bool },
}

fn step() -> impl Strategy<Value = Step> {
    let app = || 0_u16..3;
    prop_oneof![
        Just(Step::Bind),
        (app(), prop::option::of(0_u8..3), prop::option::of("[ -~]{0,40}"), 0..3_usize, any::<bool>())
            .prop_map(|(app, token, value, path, post)| Step::Learn { app, token, value, path, post }),
        (app(), any::<bool>()).prop_map(|(app, activity)| Step::Ask { app, activity }),
        (app(), 0..5_usize, any::<u64>(), any::<u8>())
            .prop_map(|(app, verdict, canary, failures)| Step::Beat { app, verdict, canary, failures }),
        app().prop_map(|app| Step::Drop { app }),
        Just(Step::Seen),
        Just(Step::Stream),
        (any::<[u8; 5]>(), 0..3_u8).prop_map(|(address, agent)| Step::Comes { address, agent }),
        (app(), "[a-z=;]{0,20}", "[a-z=]{1,9}").prop_map(|(app, line, waits)| Step::Passes {
            app,
            line,
            waits
        }),
        any::<u32>().prop_map(|path| Step::Observe { path }),
        any::<bool>().prop_map(|what| Step::Note { what }),
    ]
}

fn learn(
    held: &mut AppSession,
    token: Option<u8>,
    value: Option<&[u8]>,
    path: usize,
    (post, now): (bool, Timestamp),
) {
    let sent = held.sent(now.minus(Duration::from_micros(20_123)), post);
    let edit = Edit {
        name: [&b"CFID"[..], b"JSESSIONID", b"x"][path],
        value,
        path: [&b"/"[..], b"/AppB", b"/AppB/x"][path],
        host: [&b""[..], b"example.org", b""][path],
        subdomains: path == 1,
        expires: path as u64 * 1_900_000_000,
        role: token.map_or(Role::Plain, |token| Role::Token { token, part: 0 }),
        parts: 1,
        rolling: token.is_none_or(|token| token == 2),
        carrier: [Carrier::Cookie, Carrier::Bare, Carrier::Wrapped][path],
        secure: post,
        reach: Reach { http_only: path == 0, same_site: (path == 1).then_some(SameSite::Strict) },
    };
    held.learn(sent, &[edit], now);
}

fn traits(agent: u8) -> Arc<ClientTraits> {
    let user_agent = HeaderValue::from_str(&format!("agent {agent}")).ok();
    Arc::new(ClientTraits { user_agent, ..ClientTraits::default() })
}

fn take(session: &mut Session, step: &Step, now: Timestamp) {
    match step {
        Step::Bind => assert!(session.bind(now) || session.phase() != Phase::Pending),
        Step::Learn { app, token, value, path, post } => {
            let Some(held) = session.app_or_new(AppIx(*app), now) else { return };
            let public = Public { authority: format!("host{path}").into(), https: *post };
            (held.public, held.upstream) = (Some(Arc::new(public)), Some(*app * 30_000));
            held.posted |= *post;
            learn(held, *token, value.as_ref().map(|value| value.as_bytes()), *path, (*post, now));
        }
        Step::Ask { app, activity } => {
            session.touch(AppIx(*app), *activity, now);
            if let Some(held) = session.app_mut(AppIx(*app)) {
                held.request_began(now);
                if *activity {
                    held.request_ended(now);
                }
            }
        }
        Step::Beat { app, verdict, canary, failures } => {
            let Some(held) = session.app_mut(AppIx(*app)) else { return };
            (held.beat.verdict, held.beat.canary) = (Some(Verdict::ALL[*verdict]), *canary);
            (held.beat.failures, held.beat.at, held.beat.armed) = (*failures, now, *verdict > 1);
            (held.beat.stopped, held.beat.in_flight) = (*verdict == 3, *verdict == 2);
            (held.lent, held.adopted) = (*verdict == 1, *verdict == 4);
            held.beat.count += 200;
        }
        Step::Drop { app } => session.app_mut(AppIx(*app)).map(AppSession::drop_token).unwrap_or_default(),
        Step::Seen => session.presence = now,
        Step::Stream => session.stream_opened(),
        Step::Comes { address, agent } => {
            let [first, second, third, fourth, kind] = *address;
            let four = IpAddr::from([first, second, third, fourth]);
            let six = IpAddr::from([u16::from(first), u16::from(second), 0, 0, 0, 0, 0, 1]);
            session.address = Some(if kind % 2 == 0 { four } else { six });
            session.traits = Some(traits(*agent));
            session.watched = now;
        }
        Step::Passes { app, line, waits } => {
            let (app, name) = (AppIx(*app), waits.as_bytes().into());
            session.passed.browser_sent(app, line.as_bytes());
            session
                .passed
                .http_only(HttpOnlyCookie { app, name, path: b"/".as_slice().into() }, line.is_empty());
            session.passed.wait(app, HeaderValue::from_str(waits).unwrap());
        }
        Step::Observe { path } => drop(session.cadence.observe(*path, now)),
        Step::Note { what } => {
            let what = if *what { What::Heartbeat(Verdict::Reborn) } else { What::Ended(End::Released) };
            session.timeline.note(now, Some(AppIx(u16::MAX)), what);
        }
    }
}

fn pack(session: &Session, common: &mut Common) -> Vec<u8> {
    let mut bytes = Vec::new();
    session.pack(&mut Packer::new(&mut bytes, common).dense());
    bytes
}

type All = (String, Vec<Vault>, Vec<(Vec<u8>, usize)>, Vec<HeaderValue>);

/// All that is in a session: what it shows, and what it does not show.
fn all(session: &mut Session) -> All {
    let shown = format!("{session:?}");
    let apps: Vec<AppIx> = (0..3).map(AppIx).collect();
    let vaults = apps.iter().filter_map(|app| session.app(*app)).map(|app| app.vault().clone()).collect();
    let passed = apps
        .iter()
        .map(|app| (session.passed.sent(*app).to_vec(), session.passed.http_only_of(*app).count()));
    let passed = passed.collect();
    let waiting = apps.iter().flat_map(|app| session.passed.clone().take_waiting(*app)).collect();
    (shown, vaults, passed, waiting)
}

proptest! {
    #[test]
    fn a_session_wakes_as_it_fell_asleep(
        steps in prop::collection::vec((step(), 0_u64..1 << 36), 0..40),
        ends in any::<bool>(),
    ) {
        let mut now = at(0);
        let mut session = Session::new(Handle(0x0123_4567_89ab_cdef), now);
        for (step, micros) in &steps {
            now = now.plus(Duration::from_micros(*micros));
            take(&mut session, step, now);
        }
        // Since when an app session is busy is not kept where it is not.
        for app in 0..3 {
            if let Some(app) = session.app_mut(AppIx(app)).filter(|app| app.in_flight == 0) {
                app.busy_since = Timestamp::ZERO;
            }
        }
        if ends {
            let _ = session.end(End::Joined, now);
        }
        let mut common = Common::default();
        let (bytes, again) = (pack(&session, &mut common), pack(&session, &mut common));
        prop_assert_eq!(&bytes, &again);
        let (phase, handle) = Session::glance(&mut Unpacker::look(&bytes, &mut common));
        prop_assert_eq!((phase, handle), (session.phase(), session.handle));
        let mut looked = Session::unpack(&mut Unpacker::look(&bytes, &mut common).dense());
        prop_assert_eq!(all(&mut looked), all(&mut session));
        for bytes in [&bytes, &again] {
            let mut woken = Session::unpack(&mut Unpacker::last(bytes, &mut common).dense());
            prop_assert_eq!(all(&mut woken), all(&mut session));
        }
        prop_assert_eq!((common.traits.len(), common.publics.len(), common.forms.len()), (0, 0, 0));
    }

    #[test]
    fn one_reader_of_many_reads_each_as_if_it_were_alone(
        sessions in prop::collection::vec(prop::collection::vec((step(), 0_u64..1 << 36), 0..12), 1..5),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut reader = alone::Reader::default();
        let mut records: Vec<Vec<u8>> = sessions.iter().zip(1..).map(|(steps, handle)| {
            let mut now = at(0);
            let mut session = Session::new(Handle(handle), now);
            for (step, micros) in steps {
                now = now.plus(Duration::from_micros(*micros));
                take(&mut session, step, now);
            }
            let mut record = Vec::new();
            alone::write(&mut record, |out| session.pack(out));
            record
        }).collect();
        // One that ends too early is read in the same way, whatever that is.
        let mut short = records[0].clone();
        short.truncate(1 + cut.index(short.len()));
        records.push(short);
        // The second time all beginnings are known.
        for record in records.iter().chain(&records) {
            let mut read = reader.read(record, Session::unpack).unwrap();
            let mut wanted = alone::read(record, Session::unpack).unwrap();
            prop_assert_eq!(all(&mut read), all(&mut wanted));
        }
        prop_assert_eq!(reader.read(&[alone::VERSION + 1], Session::unpack).err(), Some(alone::Unknown));
    }

    #[test]
    fn numbers_and_times_are_read_as_they_were_written(
        numbers in prop::collection::vec(any::<u64>(), 0..20),
        shifts in prop::collection::vec(0_u32..64, 20),
    ) {
        let numbers: Vec<u64> = numbers.iter().zip(&shifts).map(|(number, shift)| number >> shift).collect();
        let times: Vec<Timestamp> = numbers.iter().map(|number| Timestamp::from_micros(number >> 2)).collect();
        let (mut bytes, mut common) = (Vec::new(), Common::default());
        let mut out = Packer::new(&mut bytes, &mut common);
        for (number, time) in numbers.iter().zip(&times) {
            out.number(*number);
            out.time(*time);
            out.time(Timestamp::FAR);
        }
        let mut from = Unpacker::look(&bytes, &mut common);
        for (number, time) in numbers.iter().zip(&times) {
            prop_assert_eq!((from.number(), from.time(), from.time()), (*number, *time, Timestamp::FAR));
        }
    }

    #[test]
    fn nonsense_is_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut common = Common::default();
        let session = Session::unpack(&mut Unpacker::look(&bytes, &mut common));
        prop_assert!(session.apps().count() <= 200);
        let session = Session::unpack(&mut Unpacker::look(&bytes, &mut common).dense());
        prop_assert!(session.apps().count() <= 200);
    }
}

#[test]
fn what_sleeps_beside_others_takes_few_bytes() {
    let mut common = Common::default();
    let mut sizes = Vec::new();
    for _ in 0..2 {
        let mut session = Session::new(Handle(u64::MAX), at(0));
        session.bind(at(1));
        (session.traits, session.address) = (Some(traits(1)), Some([192, 0, 2, 1].into()));
        for app in [AppIx(0), AppIx(1)] {
            let held = session.app_or_new(app, at(2)).unwrap();
            learn(held, Some(0), Some(&[b'x'; 32]), 1, (false, at(2)));
            session.touch(app, true, at(2));
        }
        sizes.push(pack(&session, &mut common).len());
    }
    assert!(sizes[1] < 170, "{sizes:?} bytes");
}
