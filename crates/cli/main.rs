//! alluvium.
fn main() {}
