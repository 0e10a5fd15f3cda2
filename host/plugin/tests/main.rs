//! The plugin runtime against real components: one that is compiled from `tests/guest`, and what is made of its bytes.

mod calls;
mod guests;
mod hostile;
mod reload;
