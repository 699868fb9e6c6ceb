//! `benches/sessions.rs` with the other allocator.

#[path = "sessions.rs"]
mod sessions;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    sessions::main();
}
