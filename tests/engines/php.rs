//! PHP's file sessions: php-fpm behind nginx, `use_strict_mode` off (the default) and on.

use std::sync::LazyLock;

use crate::support::Engine;
use crate::walks::{self, Site};

static SITE: Site = Site { name: "PHP", folder: "php", engine: "php", extension: ".php", ..Site::DEFAULT };

static PHP: LazyLock<Engine> = LazyLock::new(|| Engine::start(&SITE));
static STRICT: LazyLock<Engine> = LazyLock::new(|| Engine::start_as(&SITE, "strict"));

#[test]
#[ignore = "needs PHP: tests/run"]
fn s3_1() {
    walks::s3_1(&SITE, &PHP);
}

#[test]
#[ignore = "needs PHP: tests/run"]
fn colliding_names() {
    walks::collide(&SITE, &PHP);
    // Each app adopts the other's id, with content of its own: it works, by accident.
    assert_eq!(walks::collide_plain(&SITE, &PHP), (true, true));
}

#[test]
#[ignore = "needs PHP: tests/run"]
fn colliding_names_in_strict_mode() {
    walks::collide(&SITE, &STRICT);
    // Each app refuses the other's id and overwrites it: every change of app is a new session.
    assert_eq!(walks::collide_plain(&SITE, &STRICT), (false, false));
}
