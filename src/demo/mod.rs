//! Small applications to stand behind a bridge: for the `demo` command and for tests.
//!
//! Invariant: a leaf. Nothing of the product imports it, and it imports nothing of the product.

pub mod sim;

/// What the demo is told.
#[derive(Clone, Debug, clap::Args)]
pub struct DemoArgs {
    /// Where the demo is served
    #[arg(long, default_value = "127.0.0.1:8080")]
    pub listen: String,
}

/// Runs the demo until Ctrl-C.
///
/// # Errors
/// Where it cannot start.
pub fn run(args: &DemoArgs) -> Result<(), Box<dyn std::error::Error>> {
    let _ = args;
    Err("not yet".into())
}
