//! Writes the pictures of `docs/factorizations.md`: `cargo run --release --example network_pictures`, in the root.

use anyhow::{Context, Result};
use tt_core::network::format::Train;
use tt_core::network::{FORMATS, Format, draw};

fn main() -> Result<()> {
    for format in FORMATS.into_iter().chain([&Train as &dyn Format]) {
        let path = format!("docs/pictures/{}.svg", format.name());
        std::fs::write(&path, draw::svg(draw::example(format)?.network())).context(path)?;
    }
    Ok(())
}
