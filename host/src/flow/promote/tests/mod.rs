//! The whole way of an image, over a real store, with real plugins and everything but the scan worker.

mod binding;
mod case;
mod evidence;
mod follow;
mod guests;
mod kill;
mod mass;
mod missing;
mod month;
mod plugin;
mod target;
mod verdict;
