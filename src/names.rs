//! Numbers for names: each app and each origin has one of its own, for as long as sessions may remember it.
//!
//! Invariant: a number is given once. It stays with its name when the name leaves the config, so that what comes back finds
//! its sessions, and it is never another's but by [`Names::rename`].

use std::collections::BTreeMap;

/// Numbers that are given: one less than fit, so that lists by number have a word for "none".
pub const MOST: usize = u16::MAX as usize;

/// The numbers of all apps and origins that were ever named. Cheap to copy and to compare; a copy is what a new config is read
/// with, and stands only when that config does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    apps: Numbers,
    origins: Numbers,
}

/// Texts, each at its number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Numbers {
    texts: Vec<Box<str>>,
    /// The numbers of `texts`; of an app only its name.
    by_key: BTreeMap<Box<str>, u16>,
}

/// An app, as its number is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct App<'a> {
    /// Its name: a word, without space.
    pub name: &'a str,
    /// What makes it the same app under another name: its hosts, path and engine, in any form that is always the same.
    pub place: &'a str,
}

impl Names {
    /// From what [`Names::apps`] and [`Names::origins`] gave, each in its order. Where a name stands twice the first counts;
    /// what is beyond [`MOST`] is left.
    #[must_use]
    pub fn of(apps: impl IntoIterator<Item = Box<str>>, origins: impl IntoIterator<Item = Box<str>>) -> Self {
        Self { apps: Numbers::of(apps, word), origins: Numbers::of(origins, |text| text) }
    }

    /// To be kept: for each app, at its number, its name and, behind a space, where it stands; the name alone for one that is not
    /// in the config now. The list grows at its end, and an entry may change its text.
    #[must_use]
    pub fn apps(&self) -> &[Box<str>] {
        &self.apps.texts
    }

    /// To be kept: the text of each origin, at its number. The list only ever grows at its end.
    #[must_use]
    pub fn origins(&self) -> &[Box<str>] {
        &self.origins.texts
    }

    /// The number of the app called `name`.
    #[must_use]
    pub fn app(&self, name: &str) -> Option<u16> {
        self.apps.find(name)
    }

    /// The number of the origin `text`, which is given one if it has none. `None`: there are no more.
    pub fn origin(&mut self, text: &str) -> Option<u16> {
        self.origins.give(text)
    }

    /// Takes `all` apps of a config, and gives each its number, in their order. A new name whose place is that of exactly one app
    /// that was in the config before and is not any more takes over its number. `None`: there are no more.
    pub fn take_apps(&mut self, all: &[App<'_>]) -> Vec<Option<u16>> {
        for app in all {
            let known = self.app(app.name).is_some();
            if let Some(old) = self.vanished(app.place, all).filter(|_| !known) {
                self.rename(&old, app.name);
            }
        }
        for text in &mut self.apps.texts {
            if let Some((name, _)) = text.split_once(' ') {
                *text = name.into();
            }
        }
        all.iter().map(|app| self.take(app)).collect()
    }

    /// The app called `old` is called `new` from now on, unless somebody is called so already. True where it is.
    pub fn rename(&mut self, old: &str, new: &str) -> bool {
        if self.apps.by_key.contains_key(new) {
            return false;
        }
        let Some(number) = self.apps.by_key.remove(old) else { return false };
        self.apps.by_key.insert(new.into(), number);
        if let Some(text) = self.apps.texts.get_mut(usize::from(number)) {
            *text =
                text.split_once(' ').map_or_else(|| new.into(), |(_, place)| format!("{new} {place}").into());
        }
        true
    }

    /// The name of the one app that stood at `place` and is not among `all`.
    fn vanished(&self, place: &str, all: &[App<'_>]) -> Option<String> {
        let texts = self.apps.texts.iter().filter_map(|text| text.split_once(' '));
        let mut there = texts.filter(|(name, own)| *own == place && all.iter().all(|app| app.name != *name));
        let (name, _) = there.next()?;
        there.next().is_none().then(|| name.to_owned())
    }

    fn take(&mut self, app: &App<'_>) -> Option<u16> {
        let number = self.apps.give(app.name)?;
        let text = self.apps.texts.get_mut(usize::from(number))?;
        *text = format!("{} {}", app.name, app.place).into();
        Some(number)
    }
}

impl Numbers {
    fn of(texts: impl IntoIterator<Item = Box<str>>, key: fn(&str) -> &str) -> Self {
        let mut numbers = Self::default();
        for text in texts.into_iter().take(MOST) {
            let number = u16::try_from(numbers.texts.len()).unwrap_or(u16::MAX);
            numbers.by_key.entry(key(&text).into()).or_insert(number);
            numbers.texts.push(text);
        }
        numbers
    }

    fn find(&self, key: &str) -> Option<u16> {
        self.by_key.get(key).copied()
    }

    fn give(&mut self, key: &str) -> Option<u16> {
        if let Some(number) = self.find(key) {
            return Some(number);
        }
        let number = u16::try_from(self.texts.len()).ok().filter(|number| usize::from(*number) < MOST)?;
        self.texts.push(key.into());
        self.by_key.insert(key.into(), number);
        Some(number)
    }
}

/// The name of an app whose entry is `text`.
fn word(text: &str) -> &str {
    text.split(' ').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn app<'a>(name: &'a str, place: &'a str) -> App<'a> {
        App { name, place }
    }

    fn kept(names: &Names) -> Names {
        Names::of(names.apps().to_vec(), names.origins().to_vec())
    }

    #[test]
    fn a_number_stays_with_its_name() {
        let mut names = Names::default();
        assert_eq!(names.take_apps(&[app("a", "/a"), app("b", "/b")]), [Some(0), Some(1)]);
        assert_eq!(names.take_apps(&[app("c", "/c"), app("b", "/b")]), [Some(2), Some(1)]);
        assert_eq!(names.take_apps(&[app("b", "/b"), app("a", "/else")]), [Some(1), Some(0)], "it is back");
        assert_eq!((names.origin("http://x"), names.origin("http://y")), (Some(0), Some(1)));
        assert_eq!(names.origin("http://x"), Some(0));
        assert_eq!(kept(&names), names);
        let spaced = names.origin("unix:/a b");
        assert_eq!(kept(&names).origin("unix:/a b"), spaced);
    }

    #[test]
    fn a_new_name_at_the_place_of_one_that_has_gone_is_a_rename() {
        let mut names = Names::default();
        names.take_apps(&[app("old", "/app lucee"), app("other", "/other")]);
        let mut names = kept(&names);
        assert_eq!(names.take_apps(&[app("new", "/app lucee"), app("other", "/other")]), [Some(0), Some(1)]);
        assert_eq!((names.app("new"), names.app("old")), (Some(0), None));
        assert_eq!(&*names.apps()[0], "new /app lucee");
        // One that is there still is not renamed, nor one whose place is another.
        assert_eq!(names.take_apps(&[app("new", "/app lucee"), app("twin", "/app lucee")])[1], Some(2));
        assert_eq!(names.take_apps(&[app("new", "/app lucee"), app("more", "/app php")])[1], Some(3));
    }

    #[test]
    fn what_left_the_config_long_ago_is_nobodys() {
        let mut names = Names::default();
        names.take_apps(&[app("old", "/app")]);
        names.take_apps(&[]);
        assert_eq!(names.take_apps(&[app("new", "/app")]), [Some(1)], "it may well be another app");
        assert_eq!(names.take_apps(&[app("old", "/app")]), [Some(0)]);
    }

    #[test]
    fn of_two_that_have_gone_none_is_guessed() {
        let mut names = Names::default();
        names.take_apps(&[app("one", "/app"), app("two", "/app")]);
        assert_eq!(names.take_apps(&[app("new", "/app")]), [Some(2)]);
    }

    #[test]
    fn numbers_end() {
        let mut names = Names::of((0..MOST - 1).map(|n| format!("a{n}").into()), []);
        assert_eq!(names.take_apps(&[app("last", "/")]), [Some(u16::MAX - 1)]);
        assert_eq!(
            names.take_apps(&[app("more", "/"), app("a0", "/")]),
            [Some(u16::MAX - 1), Some(0)],
            "renamed"
        );
        assert_eq!(names.take_apps(&[app("one-more", "/else")]), [None]);
    }

    proptest! {
        #[test]
        fn nobody_ever_has_the_number_of_another(configs in proptest::collection::vec(
            proptest::collection::btree_map("[a-e]", "[x-z]", 0..5), 1..8)) {
            let mut names = Names::default();
            for config in configs {
                let apps: Vec<App<'_>> = config.iter().map(|(name, place)| App { name, place }).collect();
                let before = names.clone();
                let numbers = names.take_apps(&apps);
                let mut once: Vec<_> = numbers.iter().flatten().collect();
                once.sort();
                once.dedup();
                prop_assert_eq!(once.len(), apps.len());
                for (app, number) in apps.iter().zip(&numbers) {
                    // By name, or else by rename, or else new.
                    match before.app(app.name) {
                        Some(known) => prop_assert_eq!(Some(known), *number),
                        None => {
                            let there = before.apps().get(usize::from(number.unwrap()));
                            let place = format!(" {}", app.place);
                            prop_assert!(there.is_none_or(|text| text.ends_with(&place)));
                        }
                    }
                }
                prop_assert_eq!(&kept(&names), &names);
            }
        }
    }
}
