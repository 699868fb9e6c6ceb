//! The engines, one file a family.
//!
//! Invariant: what a file does is a fact of a real engine, and its tests say which.

mod aspnet;
mod coldfusion;
mod django;
mod express;
mod j2ee;
mod lucee;
mod php;
mod rails;
mod servlet;

use super::{Profile, SimOptions, visit::Engine};

/// The engine of a profile.
pub(super) fn engine(options: &SimOptions) -> Box<dyn Engine> {
    match options.profile {
        Profile::AcfLegacy | Profile::AcfStrict | Profile::OpenBd => {
            Box::new(coldfusion::ColdFusion::new(options))
        }
        Profile::AcfJ2ee | Profile::LuceeJ2ee => Box::new(j2ee::J2ee::new(options)),
        Profile::Lucee => Box::new(lucee::Lucee),
        Profile::Servlet | Profile::InvalidSession => Box::new(servlet::Servlet::new(options)),
        Profile::PhpLock => Box::new(php::Php),
        Profile::AspNet | Profile::AspNetCookieless | Profile::AspNetMono => {
            Box::new(aspnet::AspNet::new(options))
        }
        Profile::Express => Box::new(express::Express::new(options)),
        Profile::Rails => Box::new(rails::Rails::new(options)),
        Profile::Django => Box::new(django::Django),
    }
}
