//! The store on a real disk: what was committed is there again, and what is damaged is refused.

use std::collections::BTreeMap;
use std::sync::Mutex as StdMutex;

use smallvec::SmallVec;

use super::disk::Commit;
use super::*;
use crate::time::Timestamp;

/// What is in a store, by name.
type Records = BTreeMap<[u8; 8], Vec<u8>>;

/// A record that says a text, until it is ended.
struct Told {
    name: [u8; 8],
    text: StdMutex<Option<Vec<u8>>>,
}

impl Record for Told {
    fn name(&self) -> [u8; 8] {
        self.name
    }

    fn write(&self, out: &mut Vec<u8>) -> Option<Head> {
        let text = self.text.lock().unwrap();
        out.extend_from_slice(text.as_deref().unwrap_or_default());
        let front = self.name.into();
        text.is_some().then(|| Head { front, ..Head::default() })
    }
}

fn told(number: u64, text: Option<&[u8]>) -> Arc<Told> {
    // Spread over all names, as handles are.
    let name = number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes();
    Arc::new(Told { name, text: StdMutex::new(text.map(<[u8]>::to_vec)) })
}

fn place(folder: &Path) -> Place {
    Place { folder: folder.join("store"), keys: folder.join("store/keys") }
}

fn opened(place: &Place) -> Opened {
    open(place, [5; 64]).unwrap_or_else(|error| panic!("{error}"))
}

fn all(opened: Opened) -> Result<Records, StoreError> {
    Ok(looked_at(opened, |record, _, _| record.to_vec())?.0)
}

/// What `look` sees of all that is in a store, opened in turn and one by one, and the store.
fn looked_at<T: PartialEq + std::fmt::Debug + Send>(
    opened: Opened,
    look: impl Fn(&[u8], Option<&[u8]>, bool) -> T + Sync,
) -> Result<(BTreeMap<[u8; 8], T>, Store), StoreError> {
    let (seen, store, opener) = (StdMutex::new(BTreeMap::new()), opened.store(), opened.opener());
    let read = opened.read(2, || {
        let mut turn = None;
        let (seen, look, opener) = (&seen, &look, &opener);
        move |name, front: &[u8]| {
            assert_eq!(front, name);
            let turn = turn.get_or_insert_with(|| opener.in_turn(name));
            let record =
                turn.open(name, |record: &[u8], clocks: Option<&[u8]>, old| Some(look(record, clocks, old)))?;
            let again = |record: &[u8], clocks: Option<&[u8]>, old| Some(look(record, clocks, old));
            assert_eq!(opener.open(name, again)?, record);
            seen.lock().unwrap().insert(name, record);
            Ok(())
        }
    })?;
    read.start()?;
    Ok((seen.into_inner().unwrap(), store))
}

fn start(opened: Opened) -> Store {
    let store = opened.store();
    opened.read(2, || |_, _: &[u8]| Ok(())).unwrap().start().unwrap();
    store
}

/// Puts `records` in and waits until they are on disk.
fn commit(store: &Store, records: &[Arc<Told>]) {
    for record in records {
        let record = Arc::clone(record);
        store.put(Mark::default(), || record);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(store.settled()).unwrap();
}

#[test]
fn clocks_are_kept_apart_as_long_as_there_is_a_record_and_the_last_ones_count() {
    let folder = tempfile::tempdir().unwrap();
    let place = place(folder.path());
    let put = |store: &Store, clocks: &[(u64, u8)]| {
        let of = |(number, byte): &(u64, u8)| Clocks {
            name: told(*number, None).name,
            bytes: SmallVec::from_slice(&[*byte]),
            expires: Timestamp::FAR,
        };
        store.put_clocks(clocks.iter().map(of));
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(store.settled()).unwrap();
    };
    let stand = |place: &Place| {
        let look = |record: &[u8], clocks: Option<&[u8]>, _| (record.to_vec(), clocks.map(<[u8]>::to_vec));
        let (seen, store) = looked_at(opened(place), look).unwrap();
        let seen: BTreeMap<_, _> = seen.into_values().collect();
        (store, seen.into_values().collect::<Vec<_>>())
    };
    let store = start(opened(&place));
    commit(&store, &[told(1, Some(b"a")), told(2, Some(b"b")), told(3, Some(b"c"))]);
    put(&store, &[(1, 10), (2, 20), (1, 11), (4, 40)]);
    put(&store, &[(2, 21)]);
    assert_eq!(store.facts().clocks, 3, "one of a session a commit, and none of one that is not there");
    store.close().unwrap();
    let (store, seen) = stand(&place);
    assert_eq!(seen, [Some(vec![11]), Some(vec![21]), None]);
    put(&store, &[(3, 30)]);
    // In one commit with its end, and after it.
    store.put_clocks([Clocks { name: told(1, None).name, bytes: SmallVec::new(), expires: Timestamp::FAR }]);
    commit(&store, &[told(1, None)]);
    put(&store, &[(1, 12)]);
    store.close().unwrap();
    let (store, seen) = stand(&place);
    assert_eq!(seen, [Some(vec![21]), Some(vec![30])]);
    store.close().unwrap();
    // Whoever has not the key file writes no clocks.
    let disk = Disk::open(&place.folder).unwrap();
    let forged = ([told(2, None).name, told(3, None).name], SmallVec::from_slice(b"12345678\x63"));
    let clocks = forged.0.map(|name| (name, forged.1.clone())).to_vec();
    let sum = disk.get(b"sum").unwrap().unwrap().try_into().unwrap();
    disk.commit(&Commit { changes: Vec::new(), clocks, notes: Vec::new(), sum, syncs: true }).unwrap();
    drop(disk);
    assert_eq!(stand(&place).1, [None, None]);
}

#[test]
fn clocks_of_many_sessions_follow_in_portions_and_are_all_there_after_a_stop() {
    let folder = tempfile::tempdir().unwrap();
    let place = place(folder.path());
    let store = start(opened(&place));
    let many: Vec<_> = (0..1000).map(|number| told(number, Some(b"a"))).collect();
    commit(&store, &many);
    let clocks = |turn: u16| {
        let bytes = SmallVec::from_slice(&turn.to_be_bytes());
        many.iter().map(move |one| Clocks { name: one.name, bytes: bytes.clone(), expires: Timestamp::FAR })
    };
    for turn in 1..=20 {
        store.put_clocks(clocks(turn));
        // Whoever waits for a record waits for no clocks; what is no more gets none from before.
        commit(&store, &[told(2000 + u64::from(turn), Some(b"b"))]);
    }
    commit(&store, &[told(7, None)]);
    store.close().unwrap();
    let look = |_: &[u8], clocks: Option<&[u8]>, _| clocks.map(<[u8]>::to_vec);
    let (seen, _store) = looked_at(opened(&place), look).unwrap();
    let last = Some(20_u16.to_be_bytes().to_vec());
    assert_eq!((seen.len(), seen.values().filter(|clocks| **clocks == last).count()), (1019, 999));
    assert_eq!(seen.values().filter(|clocks| clocks.is_none()).count(), 20);
}

#[test]
fn what_was_committed_is_there_again_and_what_was_taken_out_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let place = place(folder.path());
    let first = opened(&place);
    let secret = *first.secret();
    first.note("names", b"appA").unwrap();
    let store = start(first);
    let (kept, gone) = (told(1, Some(b"kept")), told(2, Some(b"gone")));
    commit(&store, &[Arc::clone(&kept), Arc::clone(&gone)]);
    *gone.text.lock().unwrap() = None;
    *kept.text.lock().unwrap() = Some(b"changed".to_vec());
    commit(&store, &[Arc::clone(&kept), gone]);
    let facts = store.facts();
    assert!(facts.commits >= 2 && facts.records >= 4 && !facts.fails, "{facts:?}");
    store.close().unwrap();

    let second = opened(&place);
    assert_eq!(second.secret(), &secret, "names of sessions stay the same");
    assert_eq!(second.noted("names").unwrap().as_deref(), Some(&b"appA"[..]));
    assert_eq!(all(second).unwrap(), BTreeMap::from([(kept.name, b"changed".to_vec())]));
}

#[test]
fn one_process_at_a_time_and_the_next_in_turn() {
    let folder = tempfile::tempdir().unwrap();
    let place = place(folder.path());
    let first = opened(&place);
    assert!(matches!(open(&place, [5; 64]), Err(StoreError::Disk(DiskError::Locked(_)))));
    let store = start(first);
    let patience = Duration::from_secs(30);
    let next = std::thread::spawn({
        let place = place.clone();
        move || open_in_turn(&place, [5; 64], patience)
    });
    commit(&store, &[told(1, Some(b"a"))]);
    store.close().unwrap();
    assert_eq!(all(next.join().unwrap().unwrap()).unwrap().len(), 1);
}

#[test]
fn a_store_that_was_let_go_of_is_taken_again_unless_somebody_else_wrote_to_it() {
    let folder = tempfile::tempdir().unwrap();
    let place = place(folder.path());
    let store = start(opened(&place));
    commit(&store, &[told(1, Some(b"a"))]);
    store.close().unwrap();
    assert!(store.fails(), "nobody waits for it");
    let late = told(2, Some(b"b"));
    store.put(Mark::default(), || late);
    store.retake().unwrap();
    commit(&store, &[told(3, Some(b"c"))]);
    store.close().unwrap();
    let other = start(opened(&place));
    commit(&other, &[told(4, Some(b"d"))]);
    other.close().unwrap();
    assert!(matches!(store.retake(), Err(StoreError::Disk(DiskError::Damaged { .. }))));
    assert_eq!(all(opened(&place)).unwrap().len(), 4);
}

#[test]
fn nothing_is_on_disk_in_clear() {
    let folder = tempfile::tempdir().unwrap();
    let place = place(folder.path());
    let first = opened(&place);
    let store = start(first);
    let secret = b"CFTOKEN=48151623".as_slice();
    commit(&store, &[told(1, Some(secret))]);
    store.close().unwrap();
    for file in files(&place.folder) {
        let bytes = std::fs::read(&file).unwrap();
        assert!(!bytes.windows(secret.len()).any(|part| part == secret), "{}", file.display());
    }
}

#[test]
fn another_key_opens_nothing_and_a_new_line_above_seals_anew() {
    use base64::Engine as _;
    let folder = tempfile::tempdir().unwrap();
    let place = place(folder.path());
    let first = opened(&place);
    let store = start(first);
    commit(&store, &[told(1, Some(b"a"))]);
    store.close().unwrap();

    let line = |name: &str, byte: u8| {
        format!("{name} {}\n", base64::engine::general_purpose::STANDARD.encode([byte; 32]))
    };
    let old = std::fs::read_to_string(&place.keys).unwrap();
    std::fs::write(&place.keys, line("k2", 9)).unwrap();
    let refused = open(&place, [5; 64]).unwrap_err().to_string();
    assert!(refused.contains("the key k1, which is not in"), "{refused}");
    std::fs::write(&place.keys, line("k2", 9) + &old).unwrap();
    let second = opened(&place);
    let (olds, store) = looked_at(second, |_, _, old| old).unwrap();
    assert_eq!(olds.into_values().collect::<Vec<_>>(), [true], "it wants to be sealed anew");
    commit(&store, &[told(1, Some(b"a"))]);
    store.close().unwrap();
    std::fs::write(&place.keys, line("k2", 9)).unwrap();
    assert_eq!(all(opened(&place)).unwrap().len(), 1, "the old line is needed no more");

    std::fs::remove_file(&place.keys).unwrap();
    let missing = open(&place, [5; 64]).unwrap_err();
    assert!(matches!(missing, StoreError::Keys(KeysError::Missing(_))), "{missing}");
    assert!(!place.keys.exists(), "none is made over sessions that wait for another");
}

#[test]
fn a_record_that_is_older_than_what_leads_to_it_or_is_gone_is_damage() {
    let folder = tempfile::tempdir().unwrap();
    let place = place(folder.path());
    let (store, record) = (start(opened(&place)), told(1, Some(b"first")));
    commit(&store, &[Arc::clone(&record)]);
    store.close().unwrap();
    let disk = Disk::open(&place.folder).unwrap();
    let sum = |disk: &Disk| -> sum::Sum { disk.get(b"sum").unwrap().unwrap().try_into().unwrap() };
    let before = disk.find(record.name, |_, record, _| Ok(record.to_vec())).unwrap();
    let lead = disk.find(record.name, |lead, _, _| Ok(lead.print)).unwrap();
    let first = sum(&disk);
    drop(disk);
    *record.text.lock().unwrap() = Some(b"second".to_vec());
    let store = start(opened(&place));
    commit(&store, &[Arc::clone(&record)]);
    store.close().unwrap();
    let disk = Disk::open(&place.folder).unwrap();
    let part = disk.find(record.name, |lead, _, _| Ok(lead.part)).unwrap();
    let mut forged = disk::Lead::write(lead, &record.name, &before);
    forged[4..12].copy_from_slice(&part.to_le_bytes());
    assert_ne!(sum(&disk), first);
    let kept = Some(disk::Kept { record: before, lead: forged });
    let changes = vec![disk::Change { name: record.name, kept }];
    disk.commit(&Commit { changes, clocks: Vec::new(), notes: Vec::new(), sum: sum(&disk), syncs: true })
        .unwrap();
    drop(disk);
    let refused = all(opened(&place)).unwrap_err().to_string();
    assert!(refused.contains("a record is older than it should be"), "{refused}");
}

#[test]
fn what_a_newer_version_wrote_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let place = place(folder.path());
    drop(opened(&place));
    std::fs::write(place.folder.join("sessionbridge-store"), "3\n").unwrap();
    let refused = open(&place, [5; 64]).unwrap_err().to_string();
    assert!(refused.contains("written by a newer version of sessionbridge (format 3"), "{refused}");
    std::fs::write(place.folder.join("sessionbridge-store"), "1\n").unwrap();
    let refused = open(&place, [5; 64]).unwrap_err().to_string();
    assert!(refused.contains("that is too old (format 1"), "{refused}");
}

#[test]
fn a_store_that_has_lost_its_database_is_no_new_store() {
    let folder = tempfile::tempdir().unwrap();
    let place = place(folder.path());
    drop(opened(&place));
    std::fs::remove_dir_all(place.folder.join("db")).unwrap();
    let refused = open(&place, [5; 64]).unwrap_err().to_string();
    assert!(refused.contains("is damaged: its head is missing"), "{refused}");
}

/// All files below `folder`.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() {
            found.extend(files(&entry));
        } else {
            found.push(entry);
        }
    }
    found.sort();
    found
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for file in files(from) {
        let there = to.join(file.strip_prefix(from).unwrap());
        std::fs::create_dir_all(there.parent().unwrap()).unwrap();
        std::fs::copy(&file, there).unwrap();
    }
}

/// A store with one record a commit, ended as a crash would end it, and what was in it after each commit.
fn crashed(folder: &Path) -> (Place, Vec<Records>) {
    let live = place(&folder.join("live"));
    let first = opened(&live);
    let store = start(first);
    let mut states = vec![BTreeMap::new()];
    for number in 0..40_u64 {
        // Every fifth takes out the second before it.
        let record =
            if number % 5 == 4 { told(number - 2, None) } else { told(number, Some(&[number as u8; 60])) };
        commit(&store, &[Arc::clone(&record)]);
        let mut state = states.last().unwrap().clone();
        match record.text.lock().unwrap().clone() {
            Some(text) => state.insert(record.name, text),
            None => state.remove(&record.name),
        };
        states.push(state);
    }
    let crashed = place(&folder.join("crashed"));
    copy(&live.folder, &crashed.folder);
    store.close().unwrap();
    (crashed, states)
}

/// Opens a copy of the store with `damage` done to it: a state that it was in, or a refusal.
fn survives(crashed: &Place, states: &[Records], damage: impl Fn(&Path)) -> Option<usize> {
    let folder = tempfile::tempdir().unwrap();
    let hurt = place(folder.path());
    copy(&crashed.folder, &hurt.folder);
    damage(&hurt.folder);
    let read = open(&hurt, [5; 64]).and_then(all);
    match read {
        Ok(read) => {
            let at = states.iter().rposition(|state| *state == read);
            Some(at.unwrap_or_else(|| panic!("{} records that never were together", read.len())))
        }
        Err(error) => {
            assert!(!error.to_string().is_empty());
            None
        }
    }
}

fn journal(folder: &Path) -> PathBuf {
    files(folder).into_iter().find(|file| file.extension().is_some_and(|end| end == "jnl")).unwrap()
}

/// R2 of the fault list: a torn tail.
#[test]
fn a_torn_tail_leaves_what_was_committed_before_it() {
    let folder = tempfile::tempdir().unwrap();
    let (crashed, states) = crashed(folder.path());
    assert_eq!(survives(&crashed, &states, |_| {}), Some(states.len() - 1));
    let written = written(&std::fs::read(journal(&crashed.folder)).unwrap());
    let mut last = states.len() - 1;
    let mut seen = Vec::new();
    for length in (written.saturating_sub(4096)..written).rev().step_by(97) {
        let state = survives(&crashed, &states, |folder| {
            let file = std::fs::OpenOptions::new().write(true).open(journal(folder)).unwrap();
            file.set_len(length as u64).unwrap();
        });
        let state = state.unwrap_or_else(|| panic!("refused at {length} of {written}"));
        assert!(state <= last, "less of the file, and more of the sessions");
        last = state;
        seen.push(state);
    }
    seen.dedup();
    assert!(seen.len() > 5, "the tail holds more than one commit: {seen:?}");
}

/// Where the journal's own bytes end: the file is made larger in advance.
fn written(bytes: &[u8]) -> usize {
    bytes.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1)
}

/// R2 of the fault list: flipped bits.
#[test]
fn a_flipped_bit_leaves_a_state_that_was_or_a_refusal() {
    let folder = tempfile::tempdir().unwrap();
    let (crashed, states) = crashed(folder.path());
    let (mut refused, mut served) = (0, 0);
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    for _ in 0..40 {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let at = random;
        let state = survives(&crashed, &states, |folder| {
            let files: Vec<_> = files(folder).into_iter().filter(|file| !file.ends_with("keys")).collect();
            let file = &files[(at >> 32) as usize % files.len()];
            let mut bytes = std::fs::read(file).unwrap();
            let within = written(&bytes);
            if within > 0 {
                bytes[(at as u32 as usize) % within] ^= 1 << (at % 8);
                std::fs::write(file, bytes).unwrap();
            }
        });
        match state {
            None => refused += 1,
            Some(_) => served += 1,
        }
    }
    assert!(refused > 0 && served > 0, "{refused} refused, {served} served");
}
